// Pods: places them on a node that is ready, and removes those no node will ever finish.
#include "controllers/context.h"

#include <algorithm>

namespace postern::controllers {
namespace {

using kube::Outcome;
using kube::types::kEvent;
using kube::types::kNode;
using kube::types::kPod;

bool nodeFits(const Json& node, const Json& pod) {
  if (deleting(node) || json::boolAt(node, "spec.unschedulable")) return false;
  const Json* ready = findCondition(arrayAt(node, "status.conditions"), "Ready");
  if (ready == nullptr || json::stringAt(*ready, "status") != "True") return false;
  const Json& wanted = objectAt(pod, "spec.nodeSelector");
  return wanted.empty() || mapMatches(wanted, objectAt(node, "metadata.labels"));
}

kube::ApiResult<void> setScheduled(Context& context, const Json& pod, bool placed,
                                   const std::string& message) {
  Json status = objectAt(pod, "status");
  if (!setCondition(status["conditions"], "PodScheduled", placed, placed ? "" : "Unschedulable",
                    message)) {
    return {};
  }
  for (Json& condition : status["conditions"]) {
    if (!placed || json::stringAt(condition, "type") != "PodScheduled") continue;
    condition.erase("reason");
    condition.erase("message");
  }
  Json patch{{"status", {{"conditions", status["conditions"]}}}};
  kube::WriteOptions options;
  options.subresource = "status";
  auto written = context.client.patch(kPod, json::stringAt(pod, "metadata.namespace"),
                                      json::stringAt(pod, "metadata.name"),
                                      kube::PatchType::kStrategic, patch, options);
  if (!written) return std::unexpected(written.error());
  return {};
}

kube::ApiResult<void> placeOn(Context& context, const Json& pod, const std::string& node) {
  std::string ns = json::stringAt(pod, "metadata.namespace");
  std::string name = json::stringAt(pod, "metadata.name");
  // The local API serves no pods/binding; a pod made anew under this name has another uid.
  Json patch{{"metadata", {{"uid", json::stringAt(pod, "metadata.uid")}}},
             {"spec", {{"nodeName", node}}}};
  auto now = context.client.patch(kPod, ns, name, kube::PatchType::kMerge, patch);
  if (!now) return std::unexpected(now.error());
  POSTERN_TRY_VOID(setScheduled(context, *now, true, ""));
  Json subject = std::move(*now);
  subject["apiVersion"] = "v1";
  subject["kind"] = "Pod";
  context.record(subject, "default-scheduler", "Normal", "Scheduled",
                 fmt::format("Successfully assigned {}/{} to {}", ns, name, node));
  return {};
}

Outcome schedule(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto pod = context.informer(kPod).get(ns, name);
  if (!pod || deleting(*pod) || podFinished(*pod) ||
      !json::stringAt(*pod, "spec.nodeName").empty() ||
      !arrayAt(*pod, "spec.schedulingGates").empty() ||
      json::stringAt(*pod, "spec.schedulerName", "default-scheduler") != "default-scheduler") {
    return Outcome::done();
  }
  auto nodes = context.informer(kNode).list();
  auto node = std::find_if(nodes.begin(), nodes.end(),
                           [&](const kube::ObjectPtr& n) { return nodeFits(*n, *pod); });
  auto done = node != nodes.end()
                  ? placeOn(context, *pod, json::stringAt(**node, "metadata.name"))
                  : setScheduled(context, *pod, false,
                                 fmt::format("0/{} nodes are available: none is ready and matches "
                                             "the pod's node selector.",
                                             nodes.size()));
  if (!done && done.error().notFound()) return Outcome::done();
  return done ? Outcome::done() : retryAfter("schedule", key, done.error());
}

/// A pod being deleted that no node runs, or whose node is gone, is removed at once.
Outcome reap(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto pod = context.informer(kPod).get(ns, name);
  if (!pod || !context.informer(kNode).synced()) return Outcome::done();
  std::string node = json::stringAt(*pod, "spec.nodeName");
  bool unplaced = node.empty() && deleting(*pod);
  bool orphaned = !node.empty() && !context.informer(kNode).get("", node);
  if (!unplaced && !orphaned) return Outcome::done();
  if (orphaned) {  // the informer may be behind: ask
    auto live = context.client.get(kNode, "", node);
    if (live || !live.error().notFound()) return Outcome::done();
  }
  kube::DeleteOptions options;
  options.grace_seconds = 0;
  options.uid = json::stringAt(*pod, "metadata.uid");
  auto gone = context.client.remove(kPod, ns, name, options);
  if (gone || gone.error().notFound() || gone.error().conflict()) return Outcome::done();
  return retryAfter("reap pod", key, gone.error());
}

/// Removes Events past their time to live, then sleeps.
Outcome expireEvents(Context& context) {
  constexpr auto kPeriod = std::chrono::minutes(5);
  auto listed = context.client.list(kEvent, "");
  if (!listed) return Outcome::later(kPeriod);
  std::time_t oldest = std::time(nullptr) - context.options.event_ttl.count();
  for (const Json& event : arrayAt(*listed, "items")) {
    std::string made = json::stringAt(event, "metadata.creationTimestamp");
    std::time_t seen = parseTime(json::stringAt(event, "lastTimestamp", made));
    if (std::max(seen, parseTime(made)) > oldest) continue;
    (void)context.client.remove(kEvent, json::stringAt(event, "metadata.namespace"),
                                json::stringAt(event, "metadata.name"));
  }
  return Outcome::later(kPeriod);
}

}  // namespace

void startPods(Context& context, std::vector<ControllerPtr>& out) {
  auto scheduler = kube::Controller::start(
      "scheduler", [&](const std::string& key) { return schedule(context, key); }, 2);
  auto reaper = kube::Controller::start("pod-reaper",
                                        [&](const std::string& key) { return reap(context, key); });
  auto all_pods = [&](const Json&) {
    std::vector<std::string> keys;
    for (const auto& pod : context.informer(kPod).list()) keys.push_back(kube::keyOf(*pod));
    return keys;
  };
  scheduler->watch(context.informer(kPod));
  scheduler->watchMapped(context.informer(kNode), all_pods);
  reaper->watch(context.informer(kPod));
  reaper->watchMapped(context.informer(kNode), all_pods);
  auto events = kube::Controller::start("event-ttl",
                                        [&](const std::string&) { return expireEvents(context); });
  events->enqueue("all");
  out.push_back(std::move(scheduler));
  out.push_back(std::move(reaper));
  out.push_back(std::move(events));
}

}  // namespace postern::controllers
