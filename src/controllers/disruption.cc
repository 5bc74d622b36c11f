// PodDisruptionBudgets: how many of the selected pods may go now. The eviction subresource reads
// the status.
#include "controllers/context.h"

#include <algorithm>
#include <set>

namespace postern::controllers {
namespace {

using kube::Outcome;
using kube::types::kPdb;
using kube::types::kPod;
using kube::types::kReplicaSet;

struct Count {
  long long expected = 0;
  long long healthy = 0;
};

/// Expected: the sizes of the sets the pods belong to, and one for each pod of its own. A pod in
/// `disrupted` was evicted and counts no more, although its deletion may not be seen here yet.
Count countPods(Context& context, const std::string& ns, const Json* selector,
                const Json& disrupted) {
  Count out;
  std::set<std::string> sets;
  for (const auto& pod : context.informer(kPod).list(ns)) {
    if (!selectorMatches(selector, objectAt(*pod, "metadata.labels")) || podFinished(*pod))
      continue;
    const std::string name = json::stringAt(*pod, "metadata.name");
    if (podReady(*pod) && !deleting(*pod) && !disrupted.contains(name)) ++out.healthy;
    const std::string uid = controllerUid(*pod);
    if (uid.empty()) {
      ++out.expected;
    } else {
      sets.insert(uid);
    }
  }
  for (const auto& set : context.informer(kReplicaSet).list(ns)) {
    if (sets.erase(json::stringAt(*set, "metadata.uid")) > 0)
      out.expected += json::integerAt(*set, "spec.replicas", 1);
  }
  out.expected += static_cast<long long>(sets.size());  // owners of other kinds
  return out;
}

/// Evictions whose deletion is still to be seen. Kubernetes forgets one after two minutes; here the
/// deletion is stored with the eviction, so an entry goes as soon as its pod is seen to go.
Json disruptedPods(Context& context, const std::string& ns, const Json& pdb) {
  Json out = Json::object();
  const Json* all = json::find(pdb, "status.disruptedPods");
  if (all == nullptr || !all->is_object()) return out;
  for (const auto& [name, since] : all->items()) {
    auto pod = context.informer(kPod).get(ns, name);
    if (pod && !deleting(*pod)) out[name] = since;
  }
  return out;
}

Outcome reconcileBudget(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto pdb = context.informer(kPdb).get(ns, name);
  if (!pdb || deleting(*pdb)) return Outcome::done();
  Json disrupted = disruptedPods(context, ns, *pdb);
  const Count count = countPods(context, ns, json::find(*pdb, "spec.selector"), disrupted);
  const Json* most_missing = json::find(*pdb, "spec.maxUnavailable");
  const long long desired =
      most_missing != nullptr
          ? std::max(0LL, count.expected - resolvePercent(most_missing, count.expected, true, 0))
          : resolvePercent(json::find(*pdb, "spec.minAvailable"), count.expected, true, 1);
  const long long allowed = count.expected > 0 ? std::max(0LL, count.healthy - desired) : 0;
  Json status = objectAt(*pdb, "status");
  if (!status.is_object()) status = Json::object();
  if (!status.contains("conditions")) status["conditions"] = Json::array();
  status["observedGeneration"] = json::integerAt(*pdb, "metadata.generation");
  status["expectedPods"] = count.expected;
  status["currentHealthy"] = count.healthy;
  status["desiredHealthy"] = desired;
  status["disruptionsAllowed"] = allowed;
  status.erase("disruptedPods");
  if (!disrupted.empty()) status["disruptedPods"] = std::move(disrupted);
  setCondition(status["conditions"], "DisruptionAllowed", allowed > 0,
               allowed > 0 ? "SufficientPods" : "InsufficientPods", "");
  auto written = writeStatus(context, kPdb, *pdb, std::move(status));
  if (!written && !written.error().notFound())
    return retryAfter("disruption budget", key, written.error());
  return Outcome::done();
}

}  // namespace

void startDisruptionBudgets(Context& context, std::vector<ControllerPtr>& out) {
  auto controller = kube::Controller::start(
      "disruption", [&](const std::string& key) { return reconcileBudget(context, key); });
  kube::Informer& all = context.informer(kPdb);
  controller->watch(all);
  auto of_pod = [&all](const Json& object) {
    std::vector<std::string> keys;
    for (const auto& pdb : all.list(json::stringAt(object, "metadata.namespace"))) {
      if (selectorMatches(json::find(*pdb, "spec.selector"), objectAt(object, "metadata.labels")))
        keys.push_back(kube::keyOf(*pdb));
    }
    return keys;
  };
  controller->watchMapped(context.informer(kPod), of_pod);
  controller->watchMapped(context.informer(kReplicaSet), of_pod);
  out.push_back(std::move(controller));
}

}  // namespace postern::controllers
