// What a worker does against overload with the connections and streams it has.
#include "proxy/listener_state.h"
#include "proxy/worker.h"

#include <algorithm>

namespace postern::proxy {

namespace {

// As in Envoy: streams are sorted into classes by the power of two of what they hold; the stronger
// the pressure, the more classes, from the largest down, are reset, a bounded number at a time.
constexpr std::uint32_t kClasses = 8;
constexpr std::size_t kResetsMax = 50;

}  // namespace

std::vector<DownstreamConnection*> Worker::allConnections() const {
  std::vector<DownstreamConnection*> out;
  out.reserve(connections_.size());
  for (const auto& [connection, known] : connections_) {
    if (known.listener == nullptr || !known.listener->config()->bypass_overload)
      out.push_back(connection);
  }
  return out;
}

std::size_t Worker::resetLargest(std::size_t bytes_min, std::size_t most) {
  std::size_t count = 0;
  for (DownstreamConnection* connection : allConnections()) {
    if (count == most) break;
    if (connections_.contains(connection))
      count += connection->resetStreams(bytes_min, most - count);
  }
  return count;
}

void Worker::relieve(const OverloadConfig& config) {
  const OverloadState& state = *options_.overload;
  const bool pause = state.saturated(OverloadAction::kStopAcceptingConnections);
  if (pause != accepting_paused_) {
    accepting_paused_ = pause;
    for (const auto& [name, listener] : listeners_) listener->pauseAccepting(pause);
  }
  if (state.active(OverloadAction::kReduceTimeouts)) {
    const double strength = state.value(OverloadAction::kReduceTimeouts);
    for (DownstreamConnection* connection : allConnections()) {
      if (connections_.contains(connection)) connection->reduceTimeouts(config.timers, strength);
    }
  }
  if (!state.active(OverloadAction::kResetHighMemoryStream)) return;
  const double strength = state.value(OverloadAction::kResetHighMemoryStream);
  const auto classes = std::min(static_cast<std::uint32_t>(strength * kClasses) + 1, kClasses);
  std::size_t reset = 0;
  for (std::uint32_t i = 1; i <= classes && reset < kResetsMax; ++i) {
    const std::size_t bytes = std::size_t{1} << (config.account_power + kClasses - i);
    reset += resetLargest(bytes, kResetsMax - reset);
  }
  if (reset == 0) return;
  stats_.scope(std::string(toString(OverloadAction::kResetHighMemoryStream)) + ".")
      .counter("count")
      .add(reset);
}

}  // namespace postern::proxy
