#include "proxy/worker.h"

#include "proxy/listener_state.h"

#include <algorithm>

namespace postern::proxy {

Worker::Worker(event::Loop& loop, stats::Store& stats, WorkerOptions options)
    : loop_(loop),
      stats_(stats),
      options_(options),
      snapshot_(std::make_shared<const Snapshot>()),
      clusters_(loop, stats, options.index == 0),
      pool_(loop),
      http2_(stats_.scope("http2."), ""),
      log_writer_(loop, options.logs),
      drain_(loop, [this] { onDrainTimer(); }) {
  clusters_.onHostRemoved([this](const HostPtr& host) { pool_.hostRemoved(host); });
}

stats::HttpStats& Worker::httpStats(const std::string& prefix) {
  const auto it = http_stats_.find(prefix);
  if (it != http_stats_.end()) return it->second;
  stats::Scope& scope = stats_.scope("http." + stats::statName(prefix) + ".");
  return http_stats_.try_emplace(prefix, scope).first->second;
}

stats::TlsStats& Worker::tlsStats(const std::string& prefix) {
  const auto it = tls_stats_.find(prefix);
  if (it != tls_stats_.end()) return it->second;
  stats::TlsStats& out = tls_stats_.try_emplace(prefix, stats_, prefix).first->second;
  out.countTimeouts(stats_.scope(prefix).counter("downstream_cx_transport_socket_connect_timeout"));
  return out;
}

Worker::~Worker() {
  stopListening(Queued::kLeave);
  while (!connections_.empty()) connections_.begin()->first->close();
  listeners_.clear();
  removed_.clear();
}

void Worker::update(std::shared_ptr<const Snapshot> snapshot) {
  snapshot_ = std::move(snapshot);
  clusters_.update(*snapshot_);
  for (auto it = listeners_.begin(); it != listeners_.end();) {
    const auto now = snapshot_->listeners.find(it->first);
    // Under another name of its statistics it is another listener.
    if (now != snapshot_->listeners.end() &&
        now->second.config->stat_name == it->second->config()->stat_name) {
      ++it;
      continue;
    }
    it->second->acceptQueued();
    it->second->stopAccepting();
    removed_.push_back({std::move(it->second), loop_.now() + options_.drain_time});
    it = listeners_.erase(it);
  }
  for (const auto& [name, entry] : snapshot_->listeners) {
    std::unique_ptr<ListenerState>& state = listeners_[name];
    if (state == nullptr) {
      state = std::make_unique<ListenerState>(*this, entry);
      if (!listening_) state->stopAccepting();
    } else if (state->entry().config != entry.config || state->entry().sockets != entry.sockets) {
      state->update(entry);
      if (!listening_) state->stopAccepting();
    }
  }
  drainChanged();
  forgetRemoved();
  armDrainTimer();
}

/// Removed listeners stay as long as a connection counts in their statistics, or may come to do so.
void Worker::forgetRemoved() {
  std::erase_if(removed_, [&](const Removed& removed) {
    const ListenerState* gone = removed.state.get();
    if (gone->pending() != 0 && loop_.now() < removed.until) return false;
    for (const auto& [connection, known] : connections_) {
      if (known.listener == gone) return false;
    }
    const std::string& name = gone->config()->stat_name;
    bool shared = false;
    for (const auto& [other, state] : listeners_) {
      shared = shared || state->config()->stat_name == name;
    }
    if (!shared) {
      stats_.hide("listener." + name + ".");
      stats_.hide("listener." + name + ".ssl.");
    }
    return true;
  });
}

std::vector<net::Address> Worker::addresses() const {
  std::vector<net::Address> out;
  for (const auto& [name, state] : listeners_) {
    if (const net::Address* address = state->address()) out.push_back(*address);
  }
  return out;
}

std::shared_ptr<const RouteTable> Worker::routes(std::string_view name) const {
  const auto it = snapshot_->routes.find(name);
  return it == snapshot_->routes.end() ? nullptr : it->second;
}

void Worker::countOpen(const std::shared_ptr<ConnectionLimit>& listener) {
  if (listener != nullptr) listener->open.fetch_add(1, std::memory_order_relaxed);
  if (options_.limit != nullptr) options_.limit->open.fetch_add(1, std::memory_order_relaxed);
}

void Worker::uncountOpen(const std::shared_ptr<ConnectionLimit>& listener) {
  if (listener != nullptr) listener->open.fetch_sub(1, std::memory_order_relaxed);
  if (options_.limit != nullptr) options_.limit->open.fetch_sub(1, std::memory_order_relaxed);
}

void Worker::remember(DownstreamConnection& connection, const ConnectionFacts& facts) {
  Known known;
  known.chain = facts.chain;
  known.since = loop_.now();
  known.listener = facts.state;
  if (known.listener != nullptr) {
    known.listener->stats().downstream_cx_total.add();
    known.listener->stats().downstream_cx_active.add();
    known.limit = known.listener->entry().limit;
  }
  countOpen(known.limit);
  for (const ProcessDrain& drain : process_drains_) {
    if (drain.concerns(known)) known.window = drain.window;
  }
  // They may have gone while it was in the listener filters.
  const bool ends = known.listener != nullptr && !current(known);
  if (ends) end(known);
  connections_.emplace(&connection, std::move(known));
  if (ends) armDrainTimer();
}

void Worker::forget(DownstreamConnection& connection) {
  const auto it = connections_.find(&connection);
  if (it == connections_.end()) return;
  ListenerState* listener = it->second.listener;
  const base::Duration length = loop_.now() - it->second.since;
  uncountOpen(it->second.limit);
  connections_.erase(it);
  if (listener == nullptr) return;
  listener->stats().downstream_cx_active.sub();
  listener->stats().downstream_cx_destroy.add();
  listener->stats().downstream_cx_length_ms.record(
      std::chrono::duration<double, std::milli>(length).count());
}

ListenerState* Worker::listenerFor(const net::Address& destination) {
  ListenerState* wildcard = nullptr;
  for (const auto& [name, state] : listeners_) {
    const net::Address& address = state->config()->address;
    if (!address.isIp() || address.port() != destination.port()) continue;
    if (address == destination) return state.get();
    const std::string ip = address.ip();
    if (ip == (destination.family() == AF_INET ? "0.0.0.0" : "::")) wildcard = state.get();
  }
  return wildcard;
}

}  // namespace postern::proxy
