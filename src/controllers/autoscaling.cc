// HorizontalPodAutoscalers: keeps a target's replicas between minimum and maximum. The cluster
// measures no load, and the conditions say so; a target at 0 is left alone, as in Kubernetes.
#include "controllers/context.h"

#include <algorithm>

namespace postern::controllers {
namespace {

using kube::Outcome;
using kube::types::kDeployment;
using kube::types::kHpa;
using kube::types::kReplicaSet;

const kube::ResourceType* targetType(const Json& hpa) {
  const std::string kind = json::stringAt(hpa, "spec.scaleTargetRef.kind");
  if (kind == kDeployment.kind) return &kDeployment;
  if (kind == kReplicaSet.kind) return &kReplicaSet;
  return nullptr;
}

Json statusOf(const Json& hpa) {
  Json status = objectAt(hpa, "status");
  if (!status.is_object()) status = Json::object();
  if (!status.contains("conditions")) status["conditions"] = Json::array();
  status["observedGeneration"] = json::integerAt(hpa, "metadata.generation");
  return status;
}

Outcome unable(Context& context, const Json& hpa, const std::string& reason,
               const std::string& message) {
  Json status = statusOf(hpa);
  setCondition(status["conditions"], "AbleToScale", false, reason, message);
  status["currentReplicas"] = 0;
  status["desiredReplicas"] = 0;
  auto written = writeStatus(context, kHpa, hpa, std::move(status));
  if (!written && !written.error().notFound())
    return retryAfter("autoscaler", kube::keyOf(hpa), written.error());
  return Outcome::done();
}

/// The size the target should have, and what to say about it.
long long clampReplicas(const Json& hpa, long long current, Json& conditions) {
  const long long least = json::integerAt(hpa, "spec.minReplicas", 1);
  const long long most = json::integerAt(hpa, "spec.maxReplicas", least);
  setCondition(conditions, "AbleToScale", true, "SucceededGetScale",
               "the HPA controller was able to get the target's current scale");
  if (current == 0) {
    setCondition(conditions, "ScalingActive", false, "ScalingDisabled",
                 "scaling is disabled since the replica count of the target is zero");
    return 0;
  }
  setCondition(conditions, "ScalingActive", false, "FailedGetResourceMetric",
               "the HPA was unable to compute the replica count: this cluster measures no load");
  const long long wanted = std::clamp(current, least, std::max(least, most));
  if (wanted > current) {
    setCondition(conditions, "ScalingLimited", true, "TooFewReplicas",
                 "the desired replica count is less than the minimum replica count");
  } else if (wanted < current) {
    setCondition(conditions, "ScalingLimited", true, "TooManyReplicas",
                 "the desired replica count is more than the maximum replica count");
  } else {
    setCondition(conditions, "ScalingLimited", false, "DesiredWithinRange",
                 "the desired count is within the acceptable range");
  }
  return wanted;
}

Outcome reconcileAutoscaler(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto hpa = context.informer(kHpa).get(ns, name);
  if (!hpa || deleting(*hpa)) return Outcome::done();
  const kube::ResourceType* type = targetType(*hpa);
  const std::string target = json::stringAt(*hpa, "spec.scaleTargetRef.name");
  const std::string kind = json::stringAt(*hpa, "spec.scaleTargetRef.kind");
  if (type == nullptr) {
    return unable(context, *hpa, "FailedGetScale",
                  "the HPA controller was unable to get the target's current scale: no matches for "
                  "kind \"" +
                      kind + "\"");
  }
  auto object = context.informer(*type).get(ns, target);
  if (!object) {
    return unable(context, *hpa, "FailedGetScale",
                  "the HPA controller was unable to get the target's current scale: " +
                      type->plural + " \"" + target + "\" not found");
  }
  const long long current = json::integerAt(*object, "spec.replicas", 1);
  Json status = statusOf(*hpa);
  const long long wanted = clampReplicas(*hpa, current, status["conditions"]);
  if (wanted != current) {
    auto scaled = context.client.patch(
        *type, ns, target, kube::PatchType::kMerge, Json{{"spec", {{"replicas", wanted}}}},
        {.field_manager = "horizontal-pod-autoscaler", .subresource = "scale", .force = false});
    if (!scaled) return retryAfter("autoscaler", key, scaled.error());
    status["lastScaleTime"] = nowText();
    context.record(*hpa, "horizontal-pod-autoscaler", "Normal", "SuccessfulRescale",
                   "New size: " + std::to_string(wanted) + "; reason: limits of the autoscaler");
  }
  status["currentReplicas"] = json::integerAt(*object, "status.replicas");
  status["desiredReplicas"] = wanted;
  auto written = writeStatus(context, kHpa, *hpa, std::move(status));
  if (!written) return retryAfter("autoscaler", key, written.error());
  return Outcome::done();
}

}  // namespace

void startAutoscalers(Context& context, std::vector<ControllerPtr>& out) {
  auto controller = kube::Controller::start(
      "autoscaler", [&](const std::string& key) { return reconcileAutoscaler(context, key); });
  kube::Informer& all = context.informer(kHpa);
  controller->watch(all);
  for (const kube::ResourceType* type : {&kDeployment, &kReplicaSet}) {
    controller->watchMapped(context.informer(*type), [&all, type](const Json& object) {
      std::vector<std::string> keys;
      const std::string ns = json::stringAt(object, "metadata.namespace");
      for (const auto& hpa : all.list(ns)) {
        if (targetType(*hpa) == type && json::stringAt(*hpa, "spec.scaleTargetRef.name") ==
                                            json::stringAt(object, "metadata.name")) {
          keys.push_back(kube::keyOf(*hpa));
        }
      }
      return keys;
    });
  }
  out.push_back(std::move(controller));
}

}  // namespace postern::controllers
