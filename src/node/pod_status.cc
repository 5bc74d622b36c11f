#include "node/pod_status.h"

#include "base/strings.h"
#include "node/pod_fields.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace postern::node {
namespace {

using json::Json;
using State = ContainerView::State;

Json terminated(const Termination& ended) {
  Json out{{"exitCode", ended.exit_code},
           {"reason", ended.reason},
           {"startedAt", timeText(ended.started_ms)},
           {"finishedAt", timeText(ended.finished_ms)}};
  if (ended.signal != 0) out["signal"] = ended.signal;
  if (!ended.message.empty()) out["message"] = ended.message;
  if (!ended.container_id.empty()) out["containerID"] = ended.container_id;
  return {{"terminated", std::move(out)}};
}

Json stateOf(const ContainerView& container) {
  if (container.state == State::kRunning) {
    return {{"running", {{"startedAt", timeText(container.started_ms)}}}};
  }
  if (container.state == State::kTerminated && container.ended) return terminated(*container.ended);
  Json waiting{{"reason", container.waiting_reason}};
  if (!container.waiting_message.empty()) waiting["message"] = container.waiting_message;
  return {{"waiting", std::move(waiting)}};
}

Json containerStatus(const ContainerView& container) {
  Json out{{"name", container.name},
           {"image", container.image},
           {"imageID", container.image_id},
           {"ready", container.ready},
           {"started", container.started},
           {"restartCount", container.restart_count},
           {"state", stateOf(container)},
           {"lastState", container.last ? terminated(*container.last) : Json::object()}};
  if (!container.container_id.empty()) out["containerID"] = container.container_id;
  return out;
}

class Conditions {
 public:
  Conditions(const Json& before, std::int64_t now_ms) : before_(before), now_(timeText(now_ms)) {}

  void add(const char* type, bool status, const std::string& reason = "",
           const std::string& message = "") {
    Json out{{"type", type},
             {"status", status ? "True" : "False"},
             {"lastProbeTime", nullptr},
             {"lastTransitionTime", now_}};
    if (!reason.empty()) out["reason"] = reason;
    if (!message.empty()) out["message"] = message;
    for (const Json& old : listAt(before_, "conditions")) {
      if (json::stringAt(old, "type") == type && out["status"] == old.value("status", "")) {
        out["lastTransitionTime"] = json::stringAt(old, "lastTransitionTime", now_);
      }
    }
    list_.push_back(std::move(out));
  }
  Json take() { return std::move(list_); }

 private:
  const Json& before_;
  std::string now_;
  Json list_ = Json::array();
};

std::string unready(const PodView& view, bool init, const char* what) {
  std::vector<std::string> names;
  for (const ContainerView& container : view.containers) {
    const bool good = init ? container.ready || (container.ended && container.ended->exit_code == 0)
                           : container.ready;
    if (container.init == init && !good) names.push_back(container.name);
  }
  return fmt::format("containers with {} status: [{}]", what, base::join(names, " "));
}

Json conditions(const Json& pod, const PodView& view, const std::string& phase, const Json& before,
                std::int64_t now_ms) {
  Conditions out(before, now_ms);
  const bool done = phase == "Succeeded" || phase == "Failed";
  out.add("PodReadyToStartContainers", view.sandbox_ready);
  const bool init_done = initialized(view);
  if (init_done) {
    out.add("Initialized", true, phase == "Succeeded" ? "PodCompleted" : "");
  } else {
    out.add("Initialized", false, "ContainersNotInitialized", unready(view, true, "incomplete"));
  }
  const bool ready =
      std::all_of(view.containers.begin(), view.containers.end(),
                  [](const ContainerView& c) { return c.ready || (c.init && !c.sidecar); });
  const bool all = init_done && ready && !done && phase == "Running";
  std::string reason;
  std::string message;
  if (phase == "Succeeded") {
    reason = "PodCompleted";
  } else if (phase == "Failed") {
    reason = "PodFailed";
  } else if (!all) {
    reason = "ContainersNotReady";
    message = unready(view, false, "unready");
  }
  // Readiness gates are set by others, on the pod.
  bool gates = true;
  for (const Json& gate : listAt(pod, "spec.readinessGates")) {
    bool open = false;
    for (const Json& condition : listAt(pod, "status.conditions")) {
      open = open || (condition.value("type", "") == gate.value("conditionType", "") &&
                      condition.value("status", "") == "True");
    }
    gates = gates && open;
  }
  if (all && !gates) {
    out.add("Ready", false, "ReadinessGatesNotReady", "a readiness gate is not True");
  } else {
    out.add("Ready", all, reason, message);
  }
  out.add("ContainersReady", all, reason, message);
  out.add("PodScheduled", true);
  return out.take();
}

}  // namespace

bool initialized(const PodView& view) {
  return std::all_of(view.containers.begin(), view.containers.end(), [](const ContainerView& c) {
    if (!c.init) return true;
    return c.sidecar ? c.started : c.state == State::kTerminated && c.ended->exit_code == 0;
  });
}

std::string podPhase(const Json& pod, const PodView& view) {
  if (!view.phase_override.empty()) return view.phase_override;
  const std::string policy = json::stringAt(pod, "spec.restartPolicy", "Always");
  bool any_failed = false;
  bool all_ended = true;
  bool any_started = false;
  for (const ContainerView& container : view.containers) {
    const bool ended = container.state == State::kTerminated;
    const bool failed = ended && container.ended->exit_code != 0;
    if (container.init) {
      if (!container.sidecar && failed && policy == "Never") return "Failed";
      continue;
    }
    any_failed = any_failed || failed;
    all_ended = all_ended && ended;
    any_started = any_started || container.state != State::kWaiting || container.last.has_value();
  }
  if (!initialized(view)) return "Pending";
  if (all_ended && policy != "Always" && !(any_failed && policy == "OnFailure")) {
    return any_failed ? "Failed" : "Succeeded";
  }
  return any_started ? "Running" : "Pending";
}

Json podStatus(const Json& pod, const PodView& view, const Json& before, std::int64_t now_ms) {
  const std::string phase = podPhase(pod, view);
  Json init = Json::array();
  Json normal = Json::array();
  for (const ContainerView& container : view.containers) {
    (container.init ? init : normal).push_back(containerStatus(container));
  }
  Json out{{"phase", phase},
           {"conditions", conditions(pod, view, phase, before, now_ms)},
           {"containerStatuses", std::move(normal)},
           {"startTime", timeText(view.start_ms)},
           {"qosClass", qosClass(pod)}};
  if (!init.empty()) out["initContainerStatuses"] = std::move(init);
  if (!view.host_ip.empty()) {
    out["hostIP"] = view.host_ip;
    out["hostIPs"] = Json::array({{{"ip", view.host_ip}}});
  }
  if (!view.pod_ip.empty()) {
    out["podIP"] = view.pod_ip;
    out["podIPs"] = Json::array({{{"ip", view.pod_ip}}});
  }
  if (!view.reason.empty()) out["reason"] = view.reason;
  if (!view.message.empty()) out["message"] = view.message;
  return out;
}

}  // namespace postern::node
