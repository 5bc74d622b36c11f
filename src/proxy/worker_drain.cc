// How a worker's connections come to their end: because their listener or filter chain went, or
// because the process drains.
#include "proxy/listener_state.h"
#include "proxy/worker.h"

#include <algorithm>

namespace postern::proxy {

namespace {

/// Between two looks at which connections are due: a spread of this size is not seen by anybody.
constexpr std::chrono::milliseconds kDrainStep{20};

}  // namespace

bool Worker::ProcessDrain::concerns(const Known& known) const {
  return only == TrafficDirection::kUnspecified ||
         (known.listener != nullptr && known.listener->config()->direction == only);
}

bool Worker::current(const Known& known) const {
  const auto it = listeners_.find(known.listener->config()->name);
  if (it == listeners_.end() || it->second.get() != known.listener) return false;
  const Listener& now = *known.listener->config();
  return now.fallback == known.chain ||
         std::find(now.chains.begin(), now.chains.end(), known.chain) != now.chains.end();
}

void Worker::end(Known& known) {
  const base::MonotonicTime until = loop_.now() + options_.drain_time;
  begin(known, {loop_.now(), until, options_.drain_at_once});
  known.close_at = until;
}

/// Connections whose filter chain is no longer there end; an equal chain in a new version of the
/// listener goes on.
void Worker::drainChanged() {
  bool any = false;
  for (auto& [connection, known] : connections_) {
    if (known.close_at != base::MonotonicTime::max() || known.listener == nullptr) continue;
    if (current(known)) continue;
    end(known);
    any = true;
  }
  if (any) onDrainTimer();
}

void Worker::begin(Known& known, DrainWindow window) {
  drains_ = true;
  known.window = window;
  known.ask_at = window.from;
  if (window.at_once) return;
  const auto length =
      std::chrono::duration_cast<std::chrono::milliseconds>(window.until - window.from);
  known.ask_at += std::chrono::milliseconds(
      random_.below(static_cast<std::uint64_t>(std::max<std::int64_t>(length.count(), 1))));
}

bool Worker::drawsEnd(DownstreamConnection& connection) {
  const auto it = connections_.find(&connection);
  if (it == connections_.end()) return false;
  const Known& known = it->second;
  if (health_failed_ && known.listener != nullptr) return true;
  if (!known.window) return false;
  if (known.window->at_once || loop_.now() >= known.window->until) return true;
  const auto passed = static_cast<std::uint64_t>((loop_.now() - known.window->from).count());
  const auto length =
      static_cast<std::uint64_t>((known.window->until - known.window->from).count());
  return random_.below(std::max<std::uint64_t>(length, 1)) < passed;
}

void Worker::onDrainTimer() {
  std::vector<DownstreamConnection*> over;
  std::vector<DownstreamConnection*> due;
  for (auto& [connection, known] : connections_) {
    if (known.close_at <= loop_.now()) {
      over.push_back(connection);
    } else if (!known.asked && known.ask_at <= loop_.now()) {
      known.asked = true;
      due.push_back(connection);
    }
  }
  for (DownstreamConnection* connection : over) {
    if (connections_.contains(connection)) connection->close();
  }
  for (DownstreamConnection* connection : due) {
    if (connections_.contains(connection)) connection->drain();
  }
  forgetRemoved();
  armDrainTimer();
}

void Worker::armDrainTimer() {
  base::MonotonicTime next = base::MonotonicTime::max();
  for (const auto& [connection, known] : connections_) {
    next = std::min(next, known.close_at);
    if (!known.asked) next = std::min(next, known.ask_at);
  }
  for (const Removed& removed : removed_) {
    if (removed.state->pending() != 0) next = std::min(next, removed.until);
  }
  if (next == base::MonotonicTime::max()) return drain_.cancel();
  drain_.arm(std::max<base::Duration>(next - loop_.now(), kDrainStep));
}

void Worker::stopListening(Queued queued, TrafficDirection only) {
  for (const auto& [name, state] : listeners_) {
    if (only != TrafficDirection::kUnspecified && state->config()->direction != only) continue;
    if (queued == Queued::kTake) state->acceptQueued();
    state->stopAccepting();
  }
  if (only == TrafficDirection::kUnspecified) listening_ = false;
}

std::size_t Worker::pending() const {
  std::size_t out = 0;
  for (const auto& [name, state] : listeners_) out += state->pending();
  for (const Removed& removed : removed_) out += removed.state->pending();
  return out;
}

void Worker::drainConnections(DrainWindow window, TrafficDirection only) {
  const ProcessDrain drain{only, window};
  process_drains_.push_back(drain);
  drains_ = true;
  for (auto& [connection, known] : connections_) {
    if (!known.asked && drain.concerns(known)) begin(known, window);
  }
  onDrainTimer();
}

}  // namespace postern::proxy
