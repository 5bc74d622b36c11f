#include "proxy/overload.h"

#include "base/strings.h"
#include "proxy/memory_use.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <malloc.h>

namespace postern::proxy {

namespace {

constexpr auto kActionNames = std::to_array<std::string_view>(
    {"envoy.overload_actions.stop_accepting_requests",
     "envoy.overload_actions.stop_accepting_connections",
     "envoy.overload_actions.reject_incoming_connections",
     "envoy.overload_actions.disable_http_keepalive", "envoy.overload_actions.shrink_heap",
     "envoy.overload_actions.reduce_timeouts", "envoy.overload_actions.reset_high_memory_stream"});
static_assert(kActionNames.size() == static_cast<std::size_t>(OverloadAction::kCount));

std::optional<double> injectedPressure(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  const std::string_view text = base::trim(line);
  double value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || !(value >= 0) || value > 1)
    return std::nullopt;
  return value;
}

std::optional<double> pressureOf(const OverloadConfig::Monitor& monitor) {
  switch (monitor.resource) {
    case OverloadConfig::Resource::kFixedHeap:
      return static_cast<double>(memoryUse().allocated) / static_cast<double>(monitor.bytes_max);
    case OverloadConfig::Resource::kCgroupMemory: {
      const CgroupMemory memory = cgroupMemory("/");
      std::uint64_t most = memory.limit;
      if (monitor.bytes_max != 0)
        most = most == 0 ? monitor.bytes_max : std::min(most, monitor.bytes_max);
      if (!memory.known || most == 0) return std::nullopt;
      return static_cast<double>(memory.used) / static_cast<double>(most);
    }
    case OverloadConfig::Resource::kInjected:
      return injectedPressure(monitor.file);
  }
  return std::nullopt;
}

double strength(const OverloadConfig::Trigger& trigger, double pressure) {
  if (pressure >= trigger.to) return 1;
  if (trigger.from >= trigger.to || pressure <= trigger.from) return 0;
  return (pressure - trigger.from) / (trigger.to - trigger.from);
}

std::string resourceScope(std::string_view name) { return "overload." + std::string(name) + "."; }

}  // namespace

std::string_view toString(OverloadAction action) {
  return kActionNames[static_cast<std::size_t>(action)];
}

std::chrono::milliseconds TimerScale::apply(std::chrono::milliseconds timeout, double value) const {
  using Milliseconds = std::chrono::milliseconds;
  if (timeout.count() == 0) return timeout;
  const auto whole = static_cast<double>(timeout.count());
  const double bottom =
      std::min(whole, least ? static_cast<double>(least->count()) : whole * least_percent / 100);
  return Milliseconds(static_cast<Milliseconds::rep>(bottom + (whole - bottom) * (1 - value)));
}

OverloadManager::OverloadManager(event::Loop& loop, stats::Store& stats, OverloadConfig config,
                                 std::shared_ptr<OverloadState> state,
                                 std::shared_ptr<ConnectionLimit> limit, base::Function<void()> act)
    : loop_(loop),
      stats_(stats),
      config_(std::move(config)),
      state_(std::move(state)),
      limit_(std::move(limit)),
      act_(std::move(act)),
      pressures_(config_.monitors.size()),
      timer_(loop, [this] { refresh(); }) {
  for (const auto& action : config_.actions) {
    stats::Scope& scope = stats_.scope(resourceScope(toString(action.action)));
    scope.gauge("active").set(0);
    scope.gauge("scale_percent").set(0);
  }
}

void OverloadManager::refresh() {
  stats::Scope& scope = stats_.scope("overload.");
  if (due_ != base::MonotonicTime{}) {
    scope.histogram("refresh_interval_delay")
        .record(std::chrono::duration<double, std::milli>(loop_.now() - due_).count());
  }
  due_ = loop_.now() + config_.refresh_interval;
  timer_.arm(config_.refresh_interval);
  measure();
  decide();
}

void OverloadManager::measure() {
  for (std::size_t i = 0; i < config_.monitors.size(); ++i) {
    stats::Scope& scope = stats_.scope(resourceScope(config_.monitors[i].name));
    if (const auto pressure = pressureOf(config_.monitors[i])) {
      pressures_[i] = *pressure;
      scope.gauge("pressure").set(std::lround(*pressure * 100));
    } else {
      scope.counter("failed_updates").add();  // the last pressure stays
    }
  }
  if (config_.connections_max == 0) return;
  const auto open = static_cast<double>(limit_->open.load(std::memory_order_relaxed));
  stats_.scope(resourceScope("envoy.resource_monitors.global_downstream_max_connections"))
      .gauge("pressure")
      .set(std::lround(open * 100 / static_cast<double>(config_.connections_max)));
}

void OverloadManager::decide() {
  bool any = false;
  for (const auto& action : config_.actions) {
    double value = 0;
    for (const auto& trigger : action.triggers) {
      for (std::size_t i = 0; i < config_.monitors.size(); ++i) {
        if (config_.monitors[i].name == trigger.monitor)
          value = std::max(value, strength(trigger, pressures_[i]));
      }
    }
    state_->set(action.action, value);
    stats::Scope& scope = stats_.scope(resourceScope(toString(action.action)));
    scope.gauge("active").set(value == 1 ? 1 : 0);
    scope.gauge("scale_percent").set(std::lround(value * 100));
    any = any || value > 0;
  }
  if (state_->active(OverloadAction::kShrinkHeap)) shrinkHeap();
  if (any || acted_) act_();
  acted_ = any;
}

void OverloadManager::shrinkHeap() {
  if (shrunk_at_ && loop_.now() < *shrunk_at_ + config_.shrink_interval) return;
  shrunk_at_ = loop_.now();
  (void)::malloc_trim(0);
  stats_.scope(resourceScope(toString(OverloadAction::kShrinkHeap))).counter("shrink_count").add();
}

}  // namespace postern::proxy
