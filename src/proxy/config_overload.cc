// From envoy.config.overload.v3.OverloadManager to OverloadConfig.
#include "envoy/config/overload/v3/overload.pb.h"
#include "envoy/extensions/resource_monitors/cgroup_memory/v3/cgroup_memory.pb.h"
#include "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.pb.h"
#include "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.pb.h"
#include "envoy/extensions/resource_monitors/injected_resource/v3/injected_resource.pb.h"
#include "proxy/config_build.h"
#include "proxy/overload.h"
#include "proxy/proto_fields.h"

#include <google/protobuf/any.pb.h>

#include <algorithm>
#include <set>

namespace postern::proxy {

namespace {

namespace pb = envoy::config::overload::v3;
namespace monitors = envoy::extensions::resource_monitors;

constexpr std::string_view kConnections =
    "envoy.resource_monitors.global_downstream_max_connections";
constexpr std::uint32_t kAccountPowerMin = 10;  // 1 KiB
constexpr std::uint32_t kAccountPowerMax = 56;

void readMonitor(const pb::ResourceMonitor& message, const Place& place, OverloadConfig& out) {
  if (message.name().empty()) return place.fail("name", "must not be empty");
  const Place typed = place.field("typed_config");
  const std::string_view type = typeName(message.typed_config());
  OverloadConfig::Monitor monitor;
  monitor.name = message.name();
  if (type == monitors::fixed_heap::v3::FixedHeapConfig::descriptor()->full_name()) {
    monitors::fixed_heap::v3::FixedHeapConfig config;
    if (!typed.unpack(message.typed_config(), config)) return;
    monitor.resource = OverloadConfig::Resource::kFixedHeap;
    monitor.bytes_max = config.max_heap_size_bytes();
    if (monitor.bytes_max == 0) typed.fail("max_heap_size_bytes", "must be greater than 0");
  } else if (type == monitors::cgroup_memory::v3::CgroupMemoryConfig::descriptor()->full_name()) {
    monitors::cgroup_memory::v3::CgroupMemoryConfig config;
    if (!typed.unpack(message.typed_config(), config)) return;
    monitor.resource = OverloadConfig::Resource::kCgroupMemory;
    monitor.bytes_max = config.max_memory_bytes();
  } else if (type ==
             monitors::injected_resource::v3::InjectedResourceConfig::descriptor()->full_name()) {
    monitors::injected_resource::v3::InjectedResourceConfig config;
    if (!typed.unpack(message.typed_config(), config)) return;
    monitor.resource = OverloadConfig::Resource::kInjected;
    monitor.file = config.filename();
    if (monitor.file.empty()) typed.fail("filename", "must not be empty");
  } else if (type == monitors::downstream_connections::v3::DownstreamConnectionsConfig::descriptor()
                         ->full_name()) {
    monitors::downstream_connections::v3::DownstreamConnectionsConfig config;
    if (!typed.unpack(message.typed_config(), config)) return;
    if (message.name() != kConnections)
      return place.fail("name", "must be " + std::string(kConnections));
    if (config.max_active_downstream_connections() <= 0)
      return typed.fail("max_active_downstream_connections", "must be greater than 0");
    out.connections_max = static_cast<std::uint64_t>(config.max_active_downstream_connections());
    return;
  } else {
    return typed.fail("@type", "\"" + message.typed_config().type_url() + "\" is not supported");
  }
  for (const auto& other : out.monitors) {
    if (other.name == monitor.name)
      return place.fail("name", "Duplicate resource monitor " + monitor.name);
  }
  out.monitors.push_back(std::move(monitor));
}

OverloadConfig::Trigger readTrigger(const pb::Trigger& message, const Place& place,
                                    const OverloadConfig& config) {
  OverloadConfig::Trigger out;
  out.monitor = message.name();
  if (std::none_of(config.monitors.begin(), config.monitors.end(),
                   [&](const auto& each) { return each.name == out.monitor; })) {
    place.fail("name", "Unknown trigger resource " + out.monitor);
  }
  const auto part = [&](const char* name, double value) {
    if (!(value >= 0) || value > 1) place.fail(name, "must be between 0 and 1");
    return value;
  };
  switch (message.trigger_oneof_case()) {
    case pb::Trigger::kThreshold:
      out.from = out.to = part("threshold.value", message.threshold().value());
      break;
    case pb::Trigger::kScaled:
      out.from = part("scaled.scaling_threshold", message.scaled().scaling_threshold());
      out.to = part("scaled.saturation_threshold", message.scaled().saturation_threshold());
      if (out.from >= out.to)
        place.fail("scaled.scaling_threshold", "must be less than saturation_threshold");
      break;
    default:
      place.fail("must have a threshold or be scaled");
  }
  return out;
}

void readTimers(const pb::ScaleTimersOverloadActionConfig& message, const Place& place,
                TimerScales& out) {
  using Timers = pb::ScaleTimersOverloadActionConfig;
  if (message.timer_scale_factors().empty())
    place.fail("timer_scale_factors", "must have at least one member");
  for (int i = 0; i < message.timer_scale_factors_size(); ++i) {
    const auto& each = message.timer_scale_factors(i);
    const Place at = place.item("timer_scale_factors", i);
    TimerScale scale;
    if (each.has_min_timeout()) {
      scale.least = at.duration("min_timeout", each.min_timeout());
    } else if (each.has_min_scale()) {
      scale.least_percent = each.min_scale().value();
      if (!(scale.least_percent >= 0) || scale.least_percent > 100)
        at.fail("min_scale.value", "must be between 0 and 100");
    } else {
      at.fail("must have min_timeout or min_scale");
    }
    std::optional<TimerScale>* to = nullptr;
    if (each.timer() == Timers::HTTP_DOWNSTREAM_CONNECTION_IDLE) to = &out.connection_idle;
    if (each.timer() == Timers::HTTP_DOWNSTREAM_STREAM_IDLE) to = &out.stream_idle;
    if (each.timer() == Timers::HTTP_DOWNSTREAM_CONNECTION_MAX) to = &out.connection_max;
    if (to == nullptr) {
      at.fail("timer", Timers::TimerType_Name(each.timer()) + " is not supported");
    } else if (to->has_value()) {
      at.fail("timer", "is there twice");
    } else {
      *to = scale;
    }
  }
}

void readOverloadAction(const pb::OverloadAction& message, const Place& place,
                        OverloadConfig& out) {
  OverloadConfig::Action action;
  bool known = false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(OverloadAction::kCount); ++i) {
    if (toString(static_cast<OverloadAction>(i)) != message.name()) continue;
    action.action = static_cast<OverloadAction>(i);
    known = true;
  }
  if (!known) return place.fail("name", "\"" + message.name() + "\" is not supported");
  for (const auto& other : out.actions) {
    if (other.action == action.action)
      return place.fail("name", "Duplicate overload action " + message.name());
  }
  if (message.triggers().empty()) place.fail("triggers", "must have at least one member");
  std::set<std::string> seen;
  for (int i = 0; i < message.triggers_size(); ++i) {
    action.triggers.push_back(readTrigger(message.triggers(i), place.item("triggers", i), out));
    if (!seen.insert(message.triggers(i).name()).second)
      place.item("triggers", i).fail("Duplicate trigger resource");
  }
  const Place typed = place.field("typed_config");
  const bool configured = message.has_typed_config();
  if (action.action == OverloadAction::kReduceTimeouts) {
    pb::ScaleTimersOverloadActionConfig timers;
    if (!configured) return place.fail("typed_config", "is required");
    if (!typed.unpack(message.typed_config(), timers)) return;
    readTimers(timers, typed, out.timers);
  } else if (action.action == OverloadAction::kShrinkHeap && configured) {
    pb::ShrinkHeapConfig shrink;
    if (!typed.unpack(message.typed_config(), shrink)) return;
    if (shrink.has_timer_interval())
      out.shrink_interval = typed.duration("timer_interval", shrink.timer_interval());
  } else if (configured) {
    place.fail("typed_config", "is not supported");
  }
  if (action.action == OverloadAction::kResetHighMemoryStream && out.account_power == 0) {
    place.fail("name", "needs buffer_factory_config.minimum_account_to_track_power_of_two");
  }
  out.actions.push_back(std::move(action));
}

}  // namespace

base::ConfigResult<OverloadConfig> readOverload(const pb::OverloadManager& message,
                                                const std::string& path) {
  OverloadConfig out;
  BuildErrors errors;
  const Place place(path, errors);
  if (message.has_refresh_interval()) {
    out.refresh_interval = place.duration("refresh_interval", message.refresh_interval());
    if (out.refresh_interval.count() == 0) place.fail("refresh_interval", "must be greater than 0");
  }
  if (message.has_buffer_factory_config()) {
    out.account_power = message.buffer_factory_config().minimum_account_to_track_power_of_two();
    if (out.account_power < kAccountPowerMin || out.account_power > kAccountPowerMax) {
      place.fail("buffer_factory_config.minimum_account_to_track_power_of_two",
                 "must be between 10 and 56");
    }
  }
  if (message.resource_monitors().empty())
    place.fail("resource_monitors", "must have at least one member");
  for (int i = 0; i < message.resource_monitors_size(); ++i)
    readMonitor(message.resource_monitors(i), place.item("resource_monitors", i), out);
  for (int i = 0; i < message.actions_size(); ++i)
    readOverloadAction(message.actions(i), place.item("actions", i), out);
  if (errors.failed()) return std::unexpected(errors.error());
  return out;
}

}  // namespace postern::proxy
