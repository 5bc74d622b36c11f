// A load generator: GETs one URL at a steady rate (or as fast as the connections allow) for a time
// and counts the answers by status. Loop thread.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "event/loop.h"
#include "http/headers.h"
#include "net/address.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postern::demo {

inline constexpr unsigned kLoadConnectionsMax = 1000;
inline constexpr unsigned kLoadRateMax = 100000;

struct LoadOptions {
  net::Address address;
  std::string host;  // Host header
  std::string path = "/";
  http::HeaderMap headers;
  unsigned requests_per_second = 0;  // 0: each connection asks again at once
  unsigned connections = 5;
  std::chrono::milliseconds duration{std::chrono::seconds(10)};
};

struct LoadReport {
  std::map<int, std::uint64_t> by_status;
  std::map<std::string, std::uint64_t> errors;
  std::uint64_t answers = 0;
  std::uint64_t skipped = 0;  // not sent: all connections were busy when it was due
  std::chrono::milliseconds took{0};
  std::chrono::microseconds p50{0};
  std::chrono::microseconds p99{0};
  std::chrono::microseconds max{0};

  std::string toString() const;
};

class Load {
 public:
  virtual ~Load() = default;
  static std::unique_ptr<Load> start(event::Loop& loop, LoadOptions options,
                                     base::Function<void(LoadReport)> done);
};

}  // namespace postern::demo
