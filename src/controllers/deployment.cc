// Deployments: a ReplicaSet per pod template, moved towards the newest step by step.
#include "base/strings.h"
#include "controllers/context.h"
#include "controllers/rollout.h"

#include <algorithm>

namespace postern::controllers {
namespace {

using kube::Outcome;
using kube::types::kDeployment;
using kube::types::kReplicaSet;

constexpr const char* kHashLabel = "pod-template-hash";
constexpr const char* kRevision = "deployment.kubernetes.io/revision";

long long revisionOf(const Json& object) {
  return base::parseInteger<long long>(entryAt(object, "metadata.annotations", kRevision))
      .value_or(0);
}

Json plainTemplate(const Json& owner) {
  Json out = objectAt(owner, "spec.template");
  if (out.contains("metadata") && out["metadata"].is_object()) {
    out["metadata"].erase("creationTimestamp");
    if (out["metadata"].contains("labels")) out["metadata"]["labels"].erase(kHashLabel);
  }
  return out;
}

/// One reconcile of one Deployment.
class Rollout {
 public:
  Rollout(Context& context, Json deployment)
      : context_(context), deployment_(std::move(deployment)) {
    deployment_["apiVersion"] = kDeployment.apiVersion();
    deployment_["kind"] = kDeployment.kind;
    ns_ = json::stringAt(deployment_, "metadata.namespace");
    desired_ = json::integerAt(deployment_, "spec.replicas", 1);
    recreate_ = json::stringAt(deployment_, "spec.strategy.type") == "Recreate";
    const Json* surge = json::find(deployment_, "spec.strategy.rollingUpdate.maxSurge");
    const Json* loss = json::find(deployment_, "spec.strategy.rollingUpdate.maxUnavailable");
    surge_ = recreate_ ? 0 : resolvePercent(surge, desired_, true, (desired_ + 3) / 4);
    loss_ = recreate_ ? 0 : resolvePercent(loss, desired_, false, desired_ / 4);
  }

  kube::ApiResult<void> run() {
    POSTERN_TRY_VOID(findSets());
    if (!json::boolAt(deployment_, "spec.paused") || fresh_.is_object()) {
      if (!fresh_.is_object()) POSTERN_TRY_VOID(createSet());
      POSTERN_TRY_VOID(writeRevision());
      POSTERN_TRY_VOID(step());
      POSTERN_TRY_VOID(dropHistory());
    }
    return writeStatus(context_, kDeployment, deployment_, status());
  }

 private:
  kube::ApiResult<void> findSets() {
    auto listed = context_.client.list(kReplicaSet, ns_);
    if (!listed) return std::unexpected(listed.error());
    std::string uid = json::stringAt(deployment_, "metadata.uid");
    Json wanted = plainTemplate(deployment_);
    for (const Json& set : arrayAt(*listed, "items")) {
      if (controllerUid(set) != uid || deleting(set)) continue;
      if (!fresh_.is_object() && plainTemplate(set) == wanted) {
        fresh_ = set;
      } else {
        old_.push_back(set);
      }
    }
    std::sort(old_.begin(), old_.end(),
              [](const Json& a, const Json& b) { return revisionOf(a) < revisionOf(b); });
    return {};
  }

  long long nextRevision() const { return old_.empty() ? 1 : revisionOf(old_.back()) + 1; }

  Json setAnnotations() const {
    return {{kRevision, std::to_string(nextRevision())},
            {"deployment.kubernetes.io/desired-replicas", std::to_string(desired_)},
            {"deployment.kubernetes.io/max-replicas", std::to_string(desired_ + surge_)}};
  }

  kube::ApiResult<void> createSet() {
    long long collisions = json::integerAt(deployment_, "status.collisionCount");
    std::string text = json::dump(plainTemplate(deployment_));
    if (collisions > 0) text += std::to_string(collisions);
    std::string hash = templateHash(text);
    Json pods = plainTemplate(deployment_);
    pods["metadata"]["labels"][kHashLabel] = hash;
    Json selector = objectAt(deployment_, "spec.selector");
    selector["matchLabels"][kHashLabel] = hash;
    std::string name = json::stringAt(deployment_, "metadata.name") + "-" + hash;
    Json set{{"apiVersion", kReplicaSet.apiVersion()},
             {"kind", kReplicaSet.kind},
             {"metadata",
              {{"name", name},
               {"namespace", ns_},
               {"labels", pods["metadata"]["labels"]},
               {"annotations", setAnnotations()},
               {"ownerReferences", Json::array({ownerReference(deployment_, kDeployment)})}}},
             {"spec",
              {{"replicas", firstSize()},
               {"minReadySeconds", json::integerAt(deployment_, "spec.minReadySeconds")},
               {"selector", selector},
               {"template", pods}}}};
    auto made = context_.client.create(kReplicaSet, ns_, set);
    if (!made) return std::unexpected(made.error());
    fresh_ = std::move(*made);
    created_ = true;
    long long size = json::integerAt(fresh_, "spec.replicas");
    if (size > 0) recordScale(name, "up", 0, size);
    return {};
  }

  long long firstSize() const {
    long long running = 0;
    for (const Json& set : old_) {
      running +=
          std::max(json::integerAt(set, "spec.replicas"), json::integerAt(set, "status.replicas"));
    }
    if (recreate_) return running > 0 ? 0 : desired_;
    return std::clamp(desired_ + surge_ - running, 0LL, desired_);
  }

  kube::ApiResult<void> writeRevision() {
    std::string revision = std::to_string(std::max(nextRevision(), revisionOf(fresh_)));
    if (entryAt(deployment_, "metadata.annotations", kRevision) != revision) {
      Json patch{{"metadata", {{"annotations", {{kRevision, revision}}}}}};
      auto done =
          context_.client.patch(kDeployment, ns_, json::stringAt(deployment_, "metadata.name"),
                                kube::PatchType::kMerge, patch);
      if (!done) return std::unexpected(done.error());
      deployment_ = std::move(*done);
    }
    Json annotations = setAnnotations();
    annotations[kRevision] = revision;
    if (mapMatches(annotations, objectAt(fresh_, "metadata.annotations"))) return {};
    auto done = context_.client.patch(
        kReplicaSet, ns_, json::stringAt(fresh_, "metadata.name"), kube::PatchType::kMerge,
        Json{{"metadata", {{"annotations", std::move(annotations)}}}});
    if (!done) return std::unexpected(done.error());
    fresh_ = std::move(*done);
    return {};
  }

  void recordScale(const std::string& set, const char* way, long long from, long long to) {
    std::string text = fmt::format("Scaled {} replica set {} to {}", way, set, to);
    if (from > 0) text += fmt::format(" from {}", from);
    context_.record(deployment_, "deployment-controller", "Normal", "ScalingReplicaSet", text);
  }

  kube::ApiResult<void> resize(Json& set, long long size) {
    long long now = json::integerAt(set, "spec.replicas");
    if (now == size) return {};
    std::string name = json::stringAt(set, "metadata.name");
    auto done = context_.client.patch(kReplicaSet, ns_, name, kube::PatchType::kMerge,
                                      Json{{"spec", {{"replicas", size}}}});
    if (!done) return std::unexpected(done.error());
    set = std::move(*done);
    recordScale(name, size > now ? "up" : "down", now, size);
    return {};
  }

  kube::ApiResult<void> step() {
    if (json::boolAt(deployment_, "spec.paused")) return {};
    if (recreate_) {
      long long running = 0;
      for (Json& set : old_) {
        POSTERN_TRY_VOID(resize(set, 0));
        running += json::integerAt(set, "status.replicas");
      }
      return running > 0 ? kube::ApiResult<void>{} : resize(fresh_, desired_);
    }
    auto sizes = [](const Json& set) {
      return RolloutSet{json::integerAt(set, "spec.replicas"),
                        json::integerAt(set, "status.availableReplicas")};
    };
    std::vector<RolloutSet> old;
    for (const Json& set : old_) old.push_back(sizes(set));
    RolloutPlan plan = planRollout(desired_, surge_, loss_, sizes(fresh_), old);
    POSTERN_TRY_VOID(resize(fresh_, plan.fresh));
    for (std::size_t i = 0; i < old_.size(); ++i) POSTERN_TRY_VOID(resize(old_[i], plan.old[i]));
    return {};
  }

  kube::ApiResult<void> dropHistory() {
    long long limit = json::integerAt(deployment_, "spec.revisionHistoryLimit", 10);
    auto surplus = static_cast<long long>(old_.size()) - limit;
    for (const Json& set : old_) {
      if (surplus-- <= 0) break;
      if (json::integerAt(set, "spec.replicas") != 0 ||
          json::integerAt(set, "status.replicas") != 0) {
        continue;
      }
      auto gone = context_.client.remove(kReplicaSet, ns_, json::stringAt(set, "metadata.name"));
      if (!gone && !gone.error().notFound()) return std::unexpected(gone.error());
    }
    return {};
  }

  Json status() const {
    long long total = json::integerAt(fresh_, "status.replicas");
    long long ready = json::integerAt(fresh_, "status.readyReplicas");
    long long available = json::integerAt(fresh_, "status.availableReplicas");
    long long updated = total;
    long long old_total = 0;
    for (const Json& set : old_) {
      old_total += json::integerAt(set, "status.replicas");
      ready += json::integerAt(set, "status.readyReplicas");
      available += json::integerAt(set, "status.availableReplicas");
    }
    total += old_total;
    Json out{{"observedGeneration", json::integerAt(deployment_, "metadata.generation")}};
    auto put = [&](const char* field, long long value) {
      if (value > 0) out[field] = value;
    };
    put("replicas", total);
    put("updatedReplicas", updated);
    put("readyReplicas", ready);
    put("availableReplicas", available);
    put("unavailableReplicas", std::max(total, desired_) - available);
    put("collisionCount", json::integerAt(deployment_, "status.collisionCount"));
    out["conditions"] =
        conditions(available, updated >= desired_ && old_total == 0 && available >= desired_);
    return out;
  }

  Json conditions(long long available, bool complete) const {
    Json out = arrayAt(deployment_, "status.conditions");
    for (const char* type : {"Available", "Progressing"}) {
      if (findCondition(out, type) == nullptr) {
        out.push_back({{"type", type},
                       {"status", "Unknown"},
                       {"lastUpdateTime", nowText()},
                       {"lastTransitionTime", nowText()}});
      }
    }
    bool enough = available >= desired_ - loss_;
    setCondition(out, "Available", enough,
                 enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
                 enough ? "Deployment has minimum availability."
                        : "Deployment does not have minimum availability.");
    std::string set = json::stringAt(fresh_, "metadata.name");
    if (complete) {
      setCondition(out, "Progressing", true, "NewReplicaSetAvailable",
                   fmt::format("ReplicaSet \"{}\" has successfully progressed.", set));
    } else if (created_) {
      setCondition(out, "Progressing", true, "NewReplicaSetCreated",
                   fmt::format("Created new replica set \"{}\"", set));
    } else {
      setProgress(out, set);
    }
    return out;
  }

  void setProgress(Json& conditions, const std::string& set) const {
    const Json* progress = findCondition(conditions, "Progressing");
    long long deadline = json::integerAt(deployment_, "spec.progressDeadlineSeconds", 600);
    std::time_t since = parseTime(json::stringAt(*progress, "lastUpdateTime"));
    std::string reason = json::stringAt(*progress, "reason");
    bool was_moving = reason == "ReplicaSetUpdated" || reason == "NewReplicaSetCreated";
    if ((was_moving && since + deadline < std::time(nullptr)) ||
        reason == "ProgressDeadlineExceeded") {
      setCondition(conditions, "Progressing", false, "ProgressDeadlineExceeded",
                   fmt::format("ReplicaSet \"{}\" has timed out progressing.", set));
    } else {
      setCondition(conditions, "Progressing", true, "ReplicaSetUpdated",
                   fmt::format("ReplicaSet \"{}\" is progressing.", set));
    }
  }

  Context& context_;
  Json deployment_;
  Json fresh_;  // null: none yet
  std::vector<Json> old_;
  std::string ns_;
  long long desired_ = 1;
  long long surge_ = 0;
  long long loss_ = 0;
  bool recreate_ = false;
  bool created_ = false;
};

Outcome reconcileDeployment(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto deployment = context.client.get(kDeployment, ns, name);
  if (!deployment) {
    return deployment.error().notFound() ? Outcome::done()
                                         : retryAfter("deployment", key, deployment.error());
  }
  if (deleting(*deployment)) return Outcome::done();
  bool moving = json::integerAt(*deployment, "status.unavailableReplicas") > 0;
  auto done = Rollout(context, std::move(*deployment)).run();
  if (!done) return retryAfter("deployment", key, done.error());
  // An unfinished rollout is looked at again for its deadline.
  return moving ? Outcome::later(std::chrono::seconds(30)) : Outcome::done();
}

}  // namespace

void startDeployments(Context& context, std::vector<ControllerPtr>& out) {
  auto controller = kube::Controller::start(
      "deployment", [&](const std::string& key) { return reconcileDeployment(context, key); }, 2);
  controller->watch(context.informer(kDeployment));
  controller->watchOwned(context.informer(kReplicaSet), kDeployment);
  out.push_back(std::move(controller));
}

}  // namespace postern::controllers
