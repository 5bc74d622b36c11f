// Counters below "http2.", of the downstream connections of a worker or of a cluster: what happened
// on HTTP/2 connections. Each is found at its first use. One thread's.
#pragma once

#include "http/h2_limits.h"
#include "stats/stats.h"

#include <array>

namespace postern::stats {

class H2Counters {
 public:
  /// `prefix` goes before the names in the scope: "" or "http2.".
  H2Counters(Scope& scope, std::string_view prefix) : scope_(scope), prefix_(prefix) {}
  void add(http::H2Event event);

 private:
  Scope& scope_;
  const std::string_view prefix_;
  std::array<Counter*, http::kH2EventCount> counters_{};
};

}  // namespace postern::stats
