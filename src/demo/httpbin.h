// A stand-in for httpbin.org inside closed networks: /, /get and its siblings, /anything, /headers,
// /ip, /user-agent, /status/N, /delay/N, /bytes/N, answering with the same JSON fields. The handler
// owns the answers it delays; loop thread.
#pragma once

#include "event/loop.h"
#include "http/server.h"

namespace postern::demo {

inline constexpr unsigned kHttpbinDelaySecondsMax = 10;
inline constexpr std::size_t kHttpbinBytesMax = 100 * 1024;

http::Handler makeHttpbin(event::Loop& loop);

}  // namespace postern::demo
