#include "stats/h2_counters.h"

#include <string>

namespace postern::stats {

namespace {

/// In the order of http::H2Event.
constexpr std::array<std::string_view, http::kH2EventCount> kCounterNames = {
    "goaway_sent",
    "header_overflow",
    "inbound_empty_frames_flood",
    "inbound_priority_frames_flood",
    "inbound_window_update_frames_flood",
    "keepalive_timeout",
    "outbound_control_flood",
    "outbound_flood",
    "rx_messaging_error",
    "rx_reset",
    "trailers",
    "tx_flush_timeout",
    "tx_reset",
};

}  // namespace

void H2Counters::add(http::H2Event event) {
  const auto at = static_cast<std::size_t>(event);
  if (counters_[at] == nullptr) {
    std::string name(prefix_);
    name += kCounterNames[at];
    counters_[at] = &scope_.counter(name);
  }
  counters_[at]->add();
}

}  // namespace postern::stats
