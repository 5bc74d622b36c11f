// Errors as values. `Error` is for the data path: 16 bytes, trivially copyable, no allocation.
// `ConfigError` is for what a person wrote: a field path and a message. They never mix in one
// signature (docs/decisions/errors.md).
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace postern::base {

enum class Errc : std::uint8_t {
  kOk = 0,
  kInvalidArgument,
  kNotFound,
  kAlreadyExists,
  kConflict,
  kPermissionDenied,
  kUnauthenticated,
  kLimitExceeded,
  kProtocol,  // the peer broke the protocol
  kClosed,    // end of stream, or the object is shut down
  kReset,     // connection reset by the peer
  kRefused,   // connection refused
  kTimeout,
  kCancelled,
  kUnavailable,
  kUnsupported,
  kParse,
  kSystem,  // `sys` holds errno
  kInternal,
};

/// The constant name of a code, for example "timeout".
std::string_view toString(Errc code);

/// What went wrong, without allocation. `text` points to static storage.
struct Error {
  const char* text = "";
  std::int32_t sys = 0;  // errno, or 0
  Errc code = Errc::kInternal;

  constexpr Error() = default;
  constexpr Error(Errc c, const char* t, int e = 0) : text(t), sys(e), code(c) {}

  /// "text: strerror" when `sys` is set, else "text".
  std::string message() const;
};
static_assert(sizeof(Error) == 16 && std::is_trivially_copyable_v<Error>);

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Errc code, const char* text, int sys = 0) {
  return std::unexpected(Error{code, text, sys});
}

/// An Error from errno with the code that fits it (ECONNREFUSED → kRefused, …).
Error errnoError(const char* text, int sys);
std::unexpected<Error> failErrno(const char* text);

/// An error in something a person wrote: where (a path such as "spec.servers[0].port.number") and
/// what.
struct ConfigError {
  std::string path;
  std::string text;

  /// "path: text", or only the text without a path.
  std::string message() const;
};

template <class T>
using ConfigResult = std::expected<T, ConfigError>;

inline std::unexpected<ConfigError> failConfig(std::string path, std::string text) {
  return std::unexpected(ConfigError{std::move(path), std::move(text)});
}

}  // namespace postern::base

#define POSTERN_CONCAT_INNER(a, b) a##b
#define POSTERN_CONCAT(a, b) POSTERN_CONCAT_INNER(a, b)

/// POSTERN_TRY(auto v, parse(b)); declares v, or returns the error. The expression must be an
/// expected.
#define POSTERN_TRY(declaration, ...) \
  POSTERN_TRY_INNER(POSTERN_CONCAT(postern_try_, __LINE__), declaration, __VA_ARGS__)
#define POSTERN_TRY_INNER(temporary, declaration, ...)                  \
  auto temporary = (__VA_ARGS__);                                       \
  if (!temporary) return std::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)

/// The same for an expected<void, E>.
#define POSTERN_TRY_VOID(...)                                                           \
  do {                                                                                  \
    auto postern_try_void = (__VA_ARGS__);                                              \
    if (!postern_try_void) return std::unexpected(std::move(postern_try_void).error()); \
  } while (false)
