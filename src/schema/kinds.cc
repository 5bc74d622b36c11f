#include "schema/kinds.h"

#include "base/strings.h"

namespace postern::schema {
namespace {

using Names = std::vector<std::string>;

enum Flag : unsigned { kCluster = 1, kStatus = 2, kScale = 4, kGeneration = 8 };

Kind make(std::string group, Names versions, std::string plural, std::string kind, unsigned flags,
          Names short_names = {}, Names categories = {}) {
  Kind k;
  k.group = std::move(group);
  k.versions = std::move(versions);
  k.plural = std::move(plural);
  k.kind = std::move(kind);
  k.namespaced = (flags & kCluster) == 0;
  k.status = (flags & kStatus) != 0;
  k.scale = (flags & kScale) != 0;
  k.generation = (flags & kGeneration) != 0;
  k.short_names = std::move(short_names);
  k.categories = std::move(categories);
  k.singular = base::toLower(k.kind);
  k.storage = k.group + "/" + k.plural;
  k.list_kind = k.kind + "List";
  k.storage_version = k.apiVersion(k.versions.front());
  return k;
}

/// The same stored objects under another group; without short names, which would be ambiguous.
Kind alias(Kind of, std::string group, Names versions) {
  of.group = std::move(group);
  of.versions = std::move(versions);
  of.short_names.clear();
  of.categories.clear();
  return of;
}

std::vector<Kind> makeKinds() {
  const Names all{"all"};
  const std::string rbac = "rbac.authorization.k8s.io";
  const std::string admission = "admissionregistration.k8s.io";
  std::vector<Kind> kinds;
  auto add = [&](auto&&... args) { kinds.push_back(make(std::forward<decltype(args)>(args)...)); };
  add("", Names{"v1"}, "configmaps", "ConfigMap", 0u, Names{"cm"});
  add("", Names{"v1"}, "endpoints", "Endpoints", 0u, Names{"ep"});
  add("", Names{"v1"}, "events", "Event", 0u, Names{"ev"});
  Kind events = kinds.back();
  add("", Names{"v1"}, "limitranges", "LimitRange", 0u, Names{"limits"});
  add("", Names{"v1"}, "namespaces", "Namespace", kCluster | kStatus, Names{"ns"});
  add("", Names{"v1"}, "nodes", "Node", kCluster | kStatus, Names{"no"});
  add("", Names{"v1"}, "persistentvolumeclaims", "PersistentVolumeClaim", kStatus, Names{"pvc"});
  add("", Names{"v1"}, "persistentvolumes", "PersistentVolume", kCluster | kStatus, Names{"pv"});
  add("", Names{"v1"}, "pods", "Pod", kStatus, Names{"po"}, all);
  add("", Names{"v1"}, "resourcequotas", "ResourceQuota", kStatus, Names{"quota"});
  add("", Names{"v1"}, "secrets", "Secret", 0u);
  add("", Names{"v1"}, "serviceaccounts", "ServiceAccount", 0u, Names{"sa"});
  add("", Names{"v1"}, "services", "Service", kStatus, Names{"svc"}, all);
  add("apps", Names{"v1"}, "daemonsets", "DaemonSet", kStatus | kGeneration, Names{"ds"}, all);
  add("apps", Names{"v1"}, "deployments", "Deployment", kStatus | kScale | kGeneration,
      Names{"deploy"}, all);
  Kind deployments = kinds.back();
  add("apps", Names{"v1"}, "replicasets", "ReplicaSet", kStatus | kScale | kGeneration, Names{"rs"},
      all);
  add("apps", Names{"v1"}, "statefulsets", "StatefulSet", kStatus | kScale | kGeneration,
      Names{"sts"}, all);
  kinds.push_back(alias(events, "events.k8s.io", {"v1"}));
  add("autoscaling", Names{"v2", "v1"}, "horizontalpodautoscalers", "HorizontalPodAutoscaler",
      kStatus, Names{"hpa"}, all);
  add("batch", Names{"v1"}, "cronjobs", "CronJob", kStatus | kGeneration, Names{"cj"}, all);
  add("batch", Names{"v1"}, "jobs", "Job", kStatus | kGeneration, Names{}, all);
  add("coordination.k8s.io", Names{"v1"}, "leases", "Lease", 0u);
  add("discovery.k8s.io", Names{"v1", "v1beta1"}, "endpointslices", "EndpointSlice", kGeneration);
  add("networking.k8s.io", Names{"v1"}, "ingresses", "Ingress", kStatus | kGeneration,
      Names{"ing"});
  add("networking.k8s.io", Names{"v1"}, "networkpolicies", "NetworkPolicy", kGeneration,
      Names{"netpol"});
  add("policy", Names{"v1", "v1beta1"}, "poddisruptionbudgets", "PodDisruptionBudget",
      kStatus | kGeneration, Names{"pdb"});
  add(rbac, Names{"v1"}, "clusterrolebindings", "ClusterRoleBinding", kCluster);
  add(rbac, Names{"v1"}, "clusterroles", "ClusterRole", kCluster);
  add(rbac, Names{"v1"}, "rolebindings", "RoleBinding", 0u);
  add(rbac, Names{"v1"}, "roles", "Role", 0u);
  add("scheduling.k8s.io", Names{"v1"}, "priorityclasses", "PriorityClass", kCluster, Names{"pc"});
  add("storage.k8s.io", Names{"v1"}, "storageclasses", "StorageClass", kCluster, Names{"sc"});
  add(admission, Names{"v1"}, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
      kCluster | kGeneration);
  add(admission, Names{"v1"}, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
      kCluster | kGeneration);
  add("apiextensions.k8s.io", Names{"v1", "v1beta1"}, "customresourcedefinitions",
      "CustomResourceDefinition", kCluster | kStatus | kGeneration, Names{"crd", "crds"},
      Names{"api-extensions"});
  add("apiregistration.k8s.io", Names{"v1"}, "apiservices", "APIService", kCluster | kStatus);
  kinds.push_back(alias(deployments, "extensions", {"v1beta1"}));
  return kinds;
}

}  // namespace

const std::vector<Kind>& builtinKinds() {
  static const std::vector<Kind> kinds = makeKinds();
  return kinds;
}

}  // namespace postern::schema
