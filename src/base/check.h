// POSTERN_CHECK ends the process on a broken invariant of ours; POSTERN_ASSERT does so in debug
// builds only. Neither is for bytes from outside: those are handled as values (base/error.h).
#pragma once

namespace postern::base {

/// Logs file, line and the failed expression, then aborts.
[[noreturn]] void checkFailed(const char* file, int line, const char* expression);

}  // namespace postern::base

#define POSTERN_CHECK(condition)                                    \
  do {                                                              \
    if (!(condition)) [[unlikely]]                                  \
      ::postern::base::checkFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#ifdef NDEBUG
#define POSTERN_ASSERT(condition) \
  do {                            \
  } while (false)
#else
#define POSTERN_ASSERT(condition) POSTERN_CHECK(condition)
#endif
