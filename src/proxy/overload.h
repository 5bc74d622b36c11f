// Protection against overload: resources are measured at an interval (main thread), their pressures
// set how strongly each action is taken, and workers act (docs/reference/postern-proxy.md).
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "base/random.h"
#include "event/loop.h"
#include "proxy/config.h"
#include "stats/stats.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace envoy::config::overload::v3 {
class OverloadManager;
}

namespace postern::proxy {

enum class OverloadAction : unsigned char {
  kStopAcceptingRequests,
  kStopAcceptingConnections,
  kRejectIncomingConnections,
  kDisableHttpKeepalive,
  kShrinkHeap,
  kReduceTimeouts,
  kResetHighMemoryStream,
  kCount
};
std::string_view toString(OverloadAction action);

/// How strongly each action is taken, 0 to 1. Written by the main thread, read by workers.
class OverloadState {
 public:
  double value(OverloadAction action) const {
    return static_cast<double>(at(action).load(std::memory_order_relaxed)) / kOne;
  }
  bool saturated(OverloadAction action) const {
    return at(action).load(std::memory_order_relaxed) == kOne;
  }
  bool active(OverloadAction action) const {
    return at(action).load(std::memory_order_relaxed) != 0;
  }
  /// True with the probability of the action's value.
  bool draws(OverloadAction action, base::Random& random) const {
    const std::uint32_t now = at(action).load(std::memory_order_relaxed);
    return now != 0 && (now == kOne || random.below(kOne) < now);
  }
  void set(OverloadAction action, double value) {
    values_[static_cast<std::size_t>(action)].store(static_cast<std::uint32_t>(value * kOne),
                                                    std::memory_order_relaxed);
  }

 private:
  static constexpr std::uint32_t kOne = 10000;
  const std::atomic<std::uint32_t>& at(OverloadAction action) const {
    return values_[static_cast<std::size_t>(action)];
  }
  std::array<std::atomic<std::uint32_t>, static_cast<std::size_t>(OverloadAction::kCount)>
      values_{};
};

/// Of kReduceTimeouts: the least a timeout becomes.
struct TimerScale {
  std::optional<std::chrono::milliseconds> least;  // else `least_percent`
  double least_percent = 0;
  /// What `timeout` is at this strength of the action; 0 (none) stays 0.
  std::chrono::milliseconds apply(std::chrono::milliseconds timeout, double value) const;
};
struct TimerScales {
  std::optional<TimerScale> connection_idle;
  std::optional<TimerScale> stream_idle;
  std::optional<TimerScale> connection_max;
};

struct OverloadConfig {
  enum class Resource : unsigned char { kFixedHeap, kCgroupMemory, kInjected };
  struct Monitor {
    std::string name;
    Resource resource{};
    std::uint64_t bytes_max = 0;  // kCgroupMemory: 0: the group's own limit
    std::string file;             // kInjected: holds a number from 0 to 1
  };
  struct Trigger {
    std::string monitor;
    double from = 0;  // scaled: 0 here, 1 at `to`
    double to = 0;    // equal to `from`: a threshold
  };
  struct Action {
    OverloadAction action{};
    std::vector<Trigger> triggers;
  };
  std::chrono::milliseconds refresh_interval{1000};
  std::vector<Monitor> monitors;
  std::vector<Action> actions;
  std::uint64_t connections_max = 0;  // global_downstream_max_connections; 0: not given
  TimerScales timers;
  std::chrono::milliseconds shrink_interval{10000};
  std::uint32_t account_power = 0;  // streams of 2^n bytes and more are accounted; 0: none
  bool empty() const { return monitors.empty() && connections_max == 0; }
};

/// Refuses by its path whatever is not honoured.
base::ConfigResult<OverloadConfig> readOverload(
    const envoy::config::overload::v3::OverloadManager& message, const std::string& path);

/// Measures and decides. Main thread.
class OverloadManager {
 public:
  /// `act` is called after a refresh in which any action is taken, or one ended.
  OverloadManager(event::Loop& loop, stats::Store& stats, OverloadConfig config,
                  std::shared_ptr<OverloadState> state, std::shared_ptr<ConnectionLimit> limit,
                  base::Function<void()> act);
  OverloadManager(const OverloadManager&) = delete;
  OverloadManager& operator=(const OverloadManager&) = delete;
  const OverloadConfig& config() const { return config_; }
  /// Now, and again after the interval.
  void refresh();

 private:
  void measure();
  void decide();
  void shrinkHeap();

  event::Loop& loop_;
  stats::Store& stats_;
  const OverloadConfig config_;
  std::shared_ptr<OverloadState> state_;
  std::shared_ptr<ConnectionLimit> limit_;
  base::Function<void()> act_;
  std::vector<double> pressures_;  // by monitor
  bool acted_ = false;
  std::optional<base::MonotonicTime> shrunk_at_;
  base::MonotonicTime due_{};
  event::Timer timer_;
};

}  // namespace postern::proxy
