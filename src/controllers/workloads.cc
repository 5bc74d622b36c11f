// ReplicaSets and Jobs: keep the number of pods they ask for. Pods are listed from the API, not
// from the informer, so a late watch never makes a pod too many.
#include "controllers/context.h"

#include <algorithm>

namespace postern::controllers {
namespace {

using kube::Outcome;
using kube::types::kJob;
using kube::types::kPod;
using kube::types::kReplicaSet;

constexpr long long kPodsPerSyncMax = 500;

std::string labelSelector(const Json& owner) {
  std::string text;
  for (const auto& [key, value] : objectAt(owner, "spec.selector.matchLabels").items()) {
    if (!value.is_string()) continue;
    text += (text.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  }
  return text;
}

kube::ApiResult<std::vector<Json>> ownedPods(Context& context, const Json& owner) {
  auto listed = context.client.list(kPod, json::stringAt(owner, "metadata.namespace"),
                                    {.label_selector = labelSelector(owner), .field_selector = {}});
  if (!listed) return std::unexpected(listed.error());
  std::vector<Json> out;
  std::string uid = json::stringAt(owner, "metadata.uid");
  for (const Json& pod : arrayAt(*listed, "items")) {
    if (controllerUid(pod) == uid) out.push_back(pod);
  }
  return out;
}

kube::ApiResult<Json> createPod(Context& context, const Json& owner,
                                const kube::ResourceType& type) {
  std::string ns = json::stringAt(owner, "metadata.namespace");
  const Json& source = objectAt(owner, "spec.template");
  Json meta = objectAt(source, "metadata");
  meta.erase("creationTimestamp");
  meta.erase("name");
  meta["generateName"] = json::stringAt(owner, "metadata.name") + "-";
  meta["namespace"] = ns;
  meta["ownerReferences"] = Json::array({ownerReference(owner, type)});
  Json pod{{"apiVersion", "v1"},
           {"kind", "Pod"},
           {"metadata", std::move(meta)},
           {"spec", objectAt(source, "spec")}};
  std::string component = type.kind == "Job" ? "job-controller" : "replicaset-controller";
  auto made = context.client.create(kPod, ns, pod);
  Json subject = owner;
  subject["apiVersion"] = type.apiVersion();
  subject["kind"] = type.kind;
  if (made) {
    context.record(subject, component, "Normal", "SuccessfulCreate",
                   "Created pod: " + json::stringAt(*made, "metadata.name"));
  } else if (made.error().code != 0) {
    context.record(subject, component, "Warning", "FailedCreate",
                   "Error creating: " + made.error().message);
  }
  return made;
}

/// Who goes first: not assigned, then not ready, then the newest.
bool goesBefore(const Json& a, const Json& b) {
  bool assigned_a = !json::stringAt(a, "spec.nodeName").empty();
  bool assigned_b = !json::stringAt(b, "spec.nodeName").empty();
  if (assigned_a != assigned_b) return !assigned_a;
  if (podReady(a) != podReady(b)) return !podReady(a);
  std::string made_a = json::stringAt(a, "metadata.creationTimestamp");
  std::string made_b = json::stringAt(b, "metadata.creationTimestamp");
  if (made_a != made_b) return made_a > made_b;
  return json::stringAt(a, "metadata.name") < json::stringAt(b, "metadata.name");
}

kube::ApiResult<void> scalePods(Context& context, const Json& set, std::vector<Json>& active,
                                long long wanted) {
  auto have = static_cast<long long>(active.size());
  for (long long i = 0; i < std::min(wanted - have, kPodsPerSyncMax); ++i) {
    auto made = createPod(context, set, kReplicaSet);
    if (!made) return std::unexpected(made.error());
    active.push_back(std::move(*made));
  }
  if (have <= wanted) return {};
  std::sort(active.begin(), active.end(), goesBefore);
  auto surplus = static_cast<std::size_t>(have - std::max(wanted, 0LL));
  Json subject = set;
  subject["apiVersion"] = kReplicaSet.apiVersion();
  subject["kind"] = kReplicaSet.kind;
  for (std::size_t i = 0; i < surplus; ++i) {
    std::string name = json::stringAt(active[i], "metadata.name");
    kube::DeleteOptions options;
    options.uid = json::stringAt(active[i], "metadata.uid");
    auto gone =
        context.client.remove(kPod, json::stringAt(set, "metadata.namespace"), name, options);
    if (!gone && !gone.error().notFound()) return std::unexpected(gone.error());
    context.record(subject, "replicaset-controller", "Normal", "SuccessfulDelete",
                   "Deleted pod: " + name);
  }
  active.erase(active.begin(), active.begin() + static_cast<std::ptrdiff_t>(surplus));
  return {};
}

Json replicaSetStatus(const Json& set, const std::vector<Json>& active) {
  long long min_ready = json::integerAt(set, "spec.minReadySeconds");
  long long ready = 0;
  long long available = 0;
  long long labeled = 0;
  std::time_t now = std::time(nullptr);
  const Json& wanted = objectAt(set, "spec.template.metadata.labels");
  for (const Json& pod : active) {
    ready += podReady(pod) ? 1 : 0;
    available += podAvailable(pod, min_ready, now) ? 1 : 0;
    labeled += mapMatches(wanted, objectAt(pod, "metadata.labels")) ? 1 : 0;
  }
  Json status{{"replicas", active.size()},
              {"observedGeneration", json::integerAt(set, "metadata.generation")}};
  if (labeled > 0) status["fullyLabeledReplicas"] = labeled;
  if (ready > 0) status["readyReplicas"] = ready;
  if (available > 0) status["availableReplicas"] = available;
  return status;
}

Outcome reconcileReplicaSet(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto set = context.client.get(kReplicaSet, ns, name);
  if (!set)
    return set.error().notFound() ? Outcome::done() : retryAfter("replicaset", key, set.error());
  if (deleting(*set)) return Outcome::done();
  auto pods = ownedPods(context, *set);
  if (!pods) return retryAfter("replicaset", key, pods.error());
  std::vector<Json> active;
  for (Json& pod : *pods) {
    if (!deleting(pod) && !podFinished(pod)) active.push_back(std::move(pod));
  }
  auto scaled = scalePods(context, *set, active, json::integerAt(*set, "spec.replicas", 1));
  Json status = replicaSetStatus(*set, active);
  bool waits = status.value("readyReplicas", 0LL) > status.value("availableReplicas", 0LL);
  if (auto written = writeStatus(context, kReplicaSet, *set, std::move(status)); !written) {
    return retryAfter("replicaset status", key, written.error());
  }
  if (!scaled) return retryAfter("replicaset", key, scaled.error());
  return waits ? Outcome::later(std::chrono::seconds(1)) : Outcome::done();
}

struct JobCounts {
  long long active = 0;
  long long succeeded = 0;
  long long failed = 0;
  long long ready = 0;
};

Json jobStatus(const Json& job, const JobCounts& counts) {
  Json status = objectAt(job, "status");
  if (!status.contains("startTime")) status["startTime"] = nowText();
  auto put = [&](const char* field, long long value) {
    if (value > 0) {
      status[field] = value;
    } else {
      status.erase(field);
    }
  };
  put("active", counts.active);
  put("succeeded", counts.succeeded);
  put("failed", counts.failed);
  status["ready"] = counts.ready;
  return status;
}

Outcome reconcileJob(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto job = context.client.get(kJob, ns, name);
  if (!job) return job.error().notFound() ? Outcome::done() : retryAfter("job", key, job.error());
  const Json& conditions = arrayAt(*job, "status.conditions");
  if (deleting(*job) || findCondition(conditions, "Complete") != nullptr ||
      findCondition(conditions, "Failed") != nullptr) {
    return Outcome::done();
  }
  auto pods = ownedPods(context, *job);
  if (!pods) return retryAfter("job", key, pods.error());
  JobCounts counts;
  for (const Json& pod : *pods) {
    std::string phase = json::stringAt(pod, "status.phase");
    if (phase == "Succeeded") {
      ++counts.succeeded;
    } else if (phase == "Failed") {
      ++counts.failed;
    } else if (!deleting(pod)) {
      ++counts.active;
      counts.ready += podReady(pod) ? 1 : 0;
    }
  }
  long long wanted = json::integerAt(*job, "spec.completions", 1);
  long long parallel = json::integerAt(*job, "spec.parallelism", 1);
  bool complete = counts.succeeded >= wanted;
  bool failed = counts.failed > json::integerAt(*job, "spec.backoffLimit", 6);
  if (!complete && !failed && !json::boolAt(*job, "spec.suspend")) {
    long long target = std::min(parallel, wanted - counts.succeeded);
    while (counts.active < std::min(target, kPodsPerSyncMax)) {
      if (auto made = createPod(context, *job, kJob); !made) {
        return retryAfter("job", key, made.error());
      }
      ++counts.active;
    }
  }
  Json status = jobStatus(*job, counts);
  if (complete) {
    setCondition(status["conditions"], "Complete", true, "CompletionsReached",
                 "Reached expected number of succeeded pods");
    status["completionTime"] = nowText();
  } else if (failed) {
    setCondition(status["conditions"], "Failed", true, "BackoffLimitExceeded",
                 "Job has reached the specified backoff limit");
  }
  auto written = writeStatus(context, kJob, *job, std::move(status));
  return written ? Outcome::done() : retryAfter("job status", key, written.error());
}

}  // namespace

void startWorkloads(Context& context, std::vector<ControllerPtr>& out) {
  auto sets = kube::Controller::start(
      "replicaset", [&](const std::string& key) { return reconcileReplicaSet(context, key); }, 2);
  sets->watch(context.informer(kReplicaSet));
  sets->watchOwned(context.informer(kPod), kReplicaSet);
  out.push_back(std::move(sets));
  auto jobs = kube::Controller::start(
      "job", [&](const std::string& key) { return reconcileJob(context, key); });
  jobs->watch(context.informer(kJob));
  jobs->watchOwned(context.informer(kPod), kJob);
  out.push_back(std::move(jobs));
}

}  // namespace postern::controllers
