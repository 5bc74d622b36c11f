// How the proxy drains, ends, and is replaced by the next process: the second half of Server.
#include "proxy/admin.h"
#include "proxy/listener_state.h"
#include "proxy/logs.h"
#include "proxy/server.h"
#include "stats/carry.h"

#include <algorithm>
#include <fstream>
#include <numeric>

namespace postern::proxy {

namespace {

constexpr auto kDrainedPoll = std::chrono::milliseconds(20);

}  // namespace

void Server::resetCounters() {
  for (const auto& worker : workers_) {
    worker->post([](Worker& on) { on.stats().resetCounters(); });
  }
  main_stats_.resetCounters();
  stats_->resetInheritedCounters();
}

// ---- draining ----

void Server::failHealth(bool failed) {
  health_failed_ = failed;
  for (const auto& worker : workers_) {
    worker->post([failed](Worker& on) { on.failHealth(failed); });
  }
}

/// Only when every worker has accepted what waited, the sockets are closed.
void Server::stopListeners(TrafficDirection only) {
  std::vector<std::shared_ptr<const BoundSockets>> stopped;
  for (const auto& [name, entry] : store_->snapshot().listeners) {
    const bool meant = only == TrafficDirection::kUnspecified || entry.config->direction == only;
    if (meant && entry.sockets != nullptr) stopped.push_back(entry.sockets);
  }
  ask<bool>(
      [only](Worker& on) {
        on.stopListening(Worker::Queued::kTake, only);
        return true;
      },
      [stopped = std::move(stopped)](const std::vector<bool>&) {
        for (const auto& sockets : stopped) sockets->release();
      });
}

DrainWindow Server::drainWindow() const {
  return {loop_.now(), loop_.now() + options_.drain_time, options_.drain_immediately};
}

void Server::drainAll(DrainWindow window, TrafficDirection only) {
  for (const auto& worker : workers_) {
    worker->post([window, only](Worker& on) { on.drainConnections(window, only); });
  }
}

void Server::drainConnections(TrafficDirection only, bool keep_listening) {
  if (!stop_listening_.armed()) drainAll(drainWindow(), only);
  if (keep_listening) return;
  stop_only_ = only;
  stop_listening_.arm(options_.drain_time);
}

void Server::shutDown() {
  if (shutting_down_) return stop();
  shutting_down_ = true;
  kMainLog.info("shutting down");
  if (!replaced_) stopListeners(TrafficDirection::kUnspecified);
  // The strategy is for a proxy that goes on serving: one that is told to end asks all at once.
  const base::MonotonicTime until = loop_.now() + options_.drain_time;
  drainAll({loop_.now(), until, true}, TrafficDirection::kUnspecified);
  endWhenDrained(until);
}

void Server::endWhenDrained(base::MonotonicTime at_latest) {
  drain_until_ = at_latest;
  drained_.arm(kDrainedPoll);
}

void Server::checkDrained() {
  if (loop_.now() >= drain_until_) return end();
  ask<std::size_t>([](Worker& worker) { return worker.connections() + worker.pending(); },
                   [this](const std::vector<std::size_t>& all) {
                     if (std::accumulate(all.begin(), all.end(), std::size_t{0}) == 0) return end();
                     drained_.arm(kDrainedPoll);
                   });
}

void Server::end() {
  if (successor_ != nullptr && replaced_) successor_->farewell();
  stop();
}

// ---- hot restart ----

base::ConfigResult<void> Server::joinHotRestart() {
  POSTERN_TRY(successor_, Successor::listen(loop_, options_, *this));
  if (!options_.base_id_path.empty()) {
    std::ofstream out(options_.base_id_path);
    out << baseId();
    if (!out.flush()) return base::failConfig("--base-id-path", "cannot be written");
  }
  if (options_.restart_epoch == 0 || successor_ == nullptr) return {};
  POSTERN_TRY(predecessor_, Predecessor::take(options_));
  if (predecessor_ == nullptr) return {};
  predecessor_->follow(loop_, [this](const std::string* text) {
    if (options_.skip_hot_restart_parent_stats) return;
    if (text == nullptr) {
      parent_connections_ = 0;
      return stats_->endInheritedGauges();
    }
    auto values = stats::decodeStats(*text);
    parent_connections_ = values["server.total_connections"].number;
    stats_->setInherited(std::move(values));
  });
  return {};
}

/// The workers have taken over all listeners once they have answered.
void Server::onInitialized() {
  if (saved_ != nullptr) saved_->changed(*store_);
  if (predecessor_ == nullptr) return;
  ask<bool>([](Worker&) { return true; },
            [this](const std::vector<bool>&) {
              predecessor_->sockets().clear();
              predecessor_->serving(loop_, options_.parent_shutdown_time);
            });
}

base::WallTime Server::firstStart() const {
  return base::WallTime(
      std::chrono::duration_cast<base::WallTime::duration>(std::chrono::seconds(firstStarted())));
}

std::int64_t Server::firstStarted() const {
  if (predecessor_ != nullptr && predecessor_->firstStarted() != 0)
    return predecessor_->firstStarted();
  return std::chrono::duration_cast<std::chrono::seconds>(started_.time_since_epoch()).count();
}

base::Result<std::vector<Replaceable::Socket>> Server::socketsToShare() {
  std::vector<Socket> out;
  for (const auto& [name, entry] : store_->snapshot().listeners) {
    if (entry.sockets == nullptr) continue;
    POSTERN_TRY(std::vector<base::Fd> sockets, entry.sockets->takeAll());
    const std::string key =
        BoundSockets::keyOf(entry.sockets->requested(), name, entry.config->udp.has_value());
    for (base::Fd& each : sockets) out.push_back({key, std::move(each)});
  }
  return out;
}

std::optional<Replaceable::Socket> Server::adminToShare() {
  if (admin_ == nullptr) return std::nullopt;
  return Socket{values_.admin->toString(), admin_->share()};
}

std::string Server::statsToShare() {
  refreshGauges();
  return stats::encodeStats(stats_->read());
}

void Server::adminTaken(bool taken) {
  if (admin_ != nullptr) taken ? admin_->pause() : admin_->resume();
}

void Server::replaced() {
  replaced_ = true;
  store_->stopBinding();
  std::vector<std::shared_ptr<const BoundSockets>> handed;
  for (const auto& [name, entry] : store_->snapshot().listeners) {
    if (entry.sockets != nullptr) handed.push_back(entry.sockets);
  }
  ask<bool>(
      [](Worker& on) {
        on.stopListening(Worker::Queued::kLeave);
        return true;
      },
      [handed = std::move(handed)](const std::vector<bool>&) {
        for (const auto& sockets : handed) sockets->release();
      });
  drainAll(drainWindow(), TrafficDirection::kUnspecified);
  if (!shutting_down_) endWhenDrained(base::MonotonicTime::max());
}

void Server::successorLost() {
  if (!shutting_down_) drain_until_ = loop_.now() + options_.parent_shutdown_time;
}

}  // namespace postern::proxy
