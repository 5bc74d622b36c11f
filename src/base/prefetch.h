// Fetching memory into the processor's cache before it is needed. With many connections each one's
// objects have left the cache when it is its turn: asked for before a system call, they come while
// the kernel works. Any address may be asked for, nothing is read.
#pragma once

#include <cstddef>

namespace postern::base {

inline constexpr std::size_t kCacheLineBytes = 64;

/// The lines of `bytes` from `at` on, to be written to. More than about 1 KiB at once waits for
/// itself.
[[gnu::always_inline]] inline void prefetch(const void* at, std::size_t bytes) {
  const char* from = static_cast<const char*>(at);
  for (std::size_t done = 0; done < bytes; done += kCacheLineBytes) {
    __builtin_prefetch(from + done, 1, 3);
  }
}

}  // namespace postern::base
