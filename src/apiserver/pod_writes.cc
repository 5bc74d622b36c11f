// The pod subresources that change a pod by an object of another kind: binding and eviction.
#include "apiserver/rest.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

constexpr std::size_t kDisruptedPodsMax = 2000;  // as Kubernetes: evictions nobody confirmed

Json success() {
  return {{"kind", "Status"},
          {"apiVersion", "v1"},
          {"metadata", Json::object()},
          {"status", "Success"}};
}

/// The body as an object of `kind` whose name is the URL's.
ApiResult<Json> bodyOf(const Call& call, const std::string& kind,
                       std::initializer_list<const char*> versions) {
  auto body = decodeBody(call);
  if (!body) return body;
  if (!body->is_object()) return failed(badRequest("the object is not a JSON object"));
  const std::string version = json::stringAt(*body, "apiVersion", *versions.begin());
  if (json::stringAt(*body, "kind", kind) != kind ||
      std::find(versions.begin(), versions.end(), version) == versions.end()) {
    return failed(
        badRequest("not a " + kind + " object: " + version + ", " + json::stringAt(*body, "kind")));
  }
  const std::string name = json::stringAt(*body, "metadata.name");
  if (name != call.name && !(name.empty() && kind == "Eviction")) {
    return failed(badRequest("name in URL does not match name in " + kind + " object"));
  }
  const std::string ns = json::stringAt(*body, "metadata.namespace", call.ns);
  if (ns != call.ns) {
    return failed(
        badRequest("the namespace of the provided object does not match the namespace sent on "
                   "the request"));
  }
  return body;
}

void setTrue(Json& pod, const char* type, const char* reason, const char* message,
             const std::string& now) {
  Json& conditions = pod["status"]["conditions"];
  if (!conditions.is_array()) conditions = Json::array();
  Json condition = {{"type", type}, {"status", "True"}, {"lastTransitionTime", now}};
  if (*reason != '\0') condition["reason"] = reason;
  if (*message != '\0') condition["message"] = message;
  for (Json& each : conditions) {
    if (json::stringAt(each, "type") != type) continue;
    if (json::stringAt(each, "status") != "True") each = std::move(condition);
    return;
  }
  conditions.push_back(std::move(condition));
}

bool isReady(const Json& pod) {
  const Json* conditions = json::find(pod, "status.conditions");
  if (conditions == nullptr || !conditions->is_array()) return false;
  return std::any_of(conditions->begin(), conditions->end(), [](const Json& c) {
    return json::stringAt(c, "type") == "Ready" && json::stringAt(c, "status") == "True";
  });
}

/// A pod that does not run yet or no more: no budget is about it.
bool withoutBudget(const Json& pod) {
  const std::string phase = json::stringAt(pod, "status.phase", "Pending");
  return phase != "Running" || !json::stringAt(pod, "metadata.deletionTimestamp").empty();
}

Failure tooManyRequests(const std::string& why, int retry_after_s) {
  Json details = {{"causes", Json::array({{{"reason", "DisruptionBudget"}, {"message", why}}})}};
  if (retry_after_s > 0) details["retryAfterSeconds"] = retry_after_s;
  return {429, "TooManyRequests",
          "Cannot evict pod as it would violate the pod's disruption budget.", std::move(details)};
}

/// An unready pod may go when that makes nothing worse.
bool unreadyMayGo(const Json& pdb) {
  if (json::stringAt(pdb, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow") return true;
  const long long desired = json::integerAt(pdb, "status.desiredHealthy");
  return desired > 0 && json::integerAt(pdb, "status.currentHealthy") >= desired;
}

/// Takes one disruption from the budget, or says why there is none.
ApiResult<bool> takeDisruption(Json& pdb, const std::string& pod, const std::string& now) {
  const std::string name = json::stringAt(pdb, "metadata.name");
  if (json::integerAt(pdb, "status.observedGeneration") <
      json::integerAt(pdb, "metadata.generation")) {
    return failed(tooManyRequests(
        "The disruption budget " + name + " is still being processed by the server.", 10));
  }
  const long long allowed = json::integerAt(pdb, "status.disruptionsAllowed");
  if (allowed <= 0) {
    const long long desired = json::integerAt(pdb, "status.desiredHealthy");
    const long long healthy = json::integerAt(pdb, "status.currentHealthy");
    std::string why = "The disruption budget " + name + " does not allow evicting pods currently";
    if (healthy <= desired) {
      why = "The disruption budget " + name + " needs " + std::to_string(desired) +
            " healthy pods and has " + std::to_string(healthy) + " currently";
    }
    return failed(tooManyRequests(why, 0));
  }
  Json& disrupted = pdb["status"]["disruptedPods"];
  if (!disrupted.is_object()) disrupted = Json::object();
  if (disrupted.size() > kDisruptedPodsMax) {
    return failed(forbidden("poddisruptionbudgets.policy \"" + name +
                            "\" is forbidden: DisruptedPods map too big - too many evictions not "
                            "confirmed by PDB controller"));
  }
  disrupted[pod] = now;
  pdb["status"]["disruptionsAllowed"] = allowed - 1;
  return true;
}

}  // namespace

void Rest::bind(const Call& call, ResponderPtr responder) {
  const schema::Kind& kind = call.served->kind;
  auto body = bodyOf(call, "Binding", {"v1"});
  if (!body) return respondFailure(*responder, body.error());
  const std::string target = json::stringAt(*body, "target.name");
  const std::string target_kind = json::stringAt(*body, "target.kind", "Node");
  if (target.empty() || (target_kind != "Node" && !target_kind.empty())) {
    schema::Kind binding;
    binding.kind = "Binding";
    std::vector<schema::Cause> causes;
    if (target.empty()) causes.push_back({"FieldValueRequired", "target.name", "Required value"});
    if (target_kind != "Node") {
      causes.push_back({"FieldValueNotSupported", "target.kind",
                        "Unsupported value: \"" + target_kind + "\": supported values: \"Node\""});
    }
    return respondFailure(*responder, invalid(binding, call.name, causes));
  }
  auto old = store_.get(kind.storage, call.ns, call.name);
  if (!old) return respondFailure(*responder, notFound(kind, call.name));
  auto refuse = [&](const std::string& why) {
    Failure failure = conflict(kind, call.name, why);
    failure.message = "Operation cannot be fulfilled on pods/binding \"" + call.name + "\": " + why;
    respondFailure(*responder, failure);
  };
  const std::string uid = json::stringAt(*body, "metadata.uid");
  if (!uid.empty() && uid != json::stringAt(*old, "metadata.uid")) {
    return refuse("Precondition failed: UID in precondition: " + uid +
                  ", UID in object meta: " + json::stringAt(*old, "metadata.uid"));
  }
  if (!json::stringAt(*old, "metadata.deletionTimestamp").empty()) {
    return refuse("pod " + call.name + " is being deleted, cannot be assigned to a host");
  }
  if (std::string node = json::stringAt(*old, "spec.nodeName"); !node.empty()) {
    return refuse("pod " + call.name + " is already assigned to node \"" + node + "\"");
  }
  Json pod = *old;
  pod["spec"]["nodeName"] = target;
  if (const Json* annotations = json::find(*body, "metadata.annotations");
      annotations != nullptr && annotations->is_object()) {
    pod["metadata"]["annotations"].update(*annotations);
  }
  setTrue(pod, "PodScheduled", "", "", formatTime(now()));
  if (call.parameter("dryRun") != "All") {
    auto stored = store_.put(kind.storage, call.ns, call.name, std::move(pod));
    if (!stored) return respondFailure(*responder, internal(stored.error().message()));
  }
  respondJson(*responder, 201, success());
}

void Rest::evict(const Call& call, ResponderPtr responder) {
  const schema::Kind& kind = call.served->kind;
  auto body = bodyOf(call, "Eviction", {"policy/v1", "policy/v1beta1"});
  if (!body) return respondFailure(*responder, body.error());
  Json options = body->value("deleteOptions", Json::object());
  if (!options.is_object()) options = Json::object();
  const bool dry_run = call.parameter("dryRun") == "All" || options.contains("dryRun");
  auto old = store_.get(kind.storage, call.ns, call.name);
  if (!old) return respondFailure(*responder, notFound(kind, call.name));
  // Preconditions first: a refused eviction takes nothing from the budget.
  if (auto possible = removeOne(call, call.ns, call.name, options, /*dry_run=*/true); !possible) {
    return respondFailure(*responder, possible.error());
  }

  std::vector<store::ObjectPtr> budgets;
  if (!withoutBudget(*old)) {
    const Json labels = old->at("metadata").value("labels", Json::object());
    for (const auto& pdb : store_.list("policy/poddisruptionbudgets", call.ns)) {
      const Json* selector = json::find(*pdb, "spec.selector");
      if (selector == nullptr || !LabelSelector::fromJson(*selector).matchesLabels(labels))
        continue;
      budgets.push_back(pdb);
    }
  }
  if (budgets.size() > 1) {
    return respondFailure(*responder,
                          {500, "",
                           "This pod has more than one PodDisruptionBudget, which the eviction "
                           "subresource does not support.",
                           nullptr});
  }
  if (!budgets.empty() && (isReady(*old) || !unreadyMayGo(*budgets.front()))) {
    Json pdb = *budgets.front();
    auto taken = takeDisruption(pdb, call.name, formatTime(now()));
    if (!taken) return respondFailure(*responder, taken.error());
    if (!dry_run) {
      const std::string name = json::stringAt(pdb, "metadata.name");
      auto stored = store_.put("policy/poddisruptionbudgets", call.ns, name, std::move(pdb));
      if (!stored) return respondFailure(*responder, internal(stored.error().message()));
    }
  }
  // With a precondition the pod must stay as the client saw it until it is removed.
  if (!options.contains("preconditions") && !dry_run) {
    Json pod = *old;
    setTrue(pod, "DisruptionTarget", "EvictionByEvictionAPI", "Eviction API: evicting",
            formatTime(now()));
    auto stored = store_.put(kind.storage, call.ns, call.name, std::move(pod));
    if (!stored) return respondFailure(*responder, internal(stored.error().message()));
  }
  auto removed = removeOne(call, call.ns, call.name, options, dry_run);
  if (!removed) return respondFailure(*responder, removed.error());
  respondJson(*responder, 201, success());
}

}  // namespace postern::apiserver
