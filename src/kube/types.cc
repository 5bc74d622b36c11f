#include "kube/types.h"

#include <nlohmann/json.hpp>

namespace postern::kube {

std::string ResourceType::url(std::string_view ns, std::string_view name,
                              std::string_view subresource) const {
  std::string out = group.empty() ? "/api/" + version : "/apis/" + group + "/" + version;
  if (namespaced && !ns.empty()) out += "/namespaces/" + std::string(ns);
  out += "/" + plural;
  if (!name.empty()) out += "/" + std::string(name);
  if (!subresource.empty()) out += "/" + std::string(subresource);
  return out;
}

namespace types {

const ResourceType kPod{"", "v1", "pods", "Pod", true};
const ResourceType kService{"", "v1", "services", "Service", true};
const ResourceType kEndpoints{"", "v1", "endpoints", "Endpoints", true};
const ResourceType kNamespace{"", "v1", "namespaces", "Namespace", false};
const ResourceType kConfigMap{"", "v1", "configmaps", "ConfigMap", true};
const ResourceType kSecret{"", "v1", "secrets", "Secret", true};
const ResourceType kServiceAccount{"", "v1", "serviceaccounts", "ServiceAccount", true};
const ResourceType kEvent{"", "v1", "events", "Event", true};
const ResourceType kNode{"", "v1", "nodes", "Node", false};
const ResourceType kDeployment{"apps", "v1", "deployments", "Deployment", true};
const ResourceType kReplicaSet{"apps", "v1", "replicasets", "ReplicaSet", true};
const ResourceType kJob{"batch", "v1", "jobs", "Job", true};
const ResourceType kEndpointSlice{"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice",
                                  true};
const ResourceType kHpa{"autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler",
                        true};
const ResourceType kPdb{"policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true};
const ResourceType kRole{"rbac.authorization.k8s.io", "v1", "roles", "Role", true};
const ResourceType kRoleBinding{"rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding",
                                true};
const ResourceType kClusterRole{"rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole",
                                false};
const ResourceType kClusterRoleBinding{"rbac.authorization.k8s.io", "v1", "clusterrolebindings",
                                       "ClusterRoleBinding", false};
const ResourceType kCrd{"apiextensions.k8s.io", "v1", "customresourcedefinitions",
                        "CustomResourceDefinition", false};
const ResourceType kMutatingWebhook{"admissionregistration.k8s.io", "v1",
                                    "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
                                    false};
const ResourceType kValidatingWebhook{"admissionregistration.k8s.io", "v1",
                                      "validatingwebhookconfigurations",
                                      "ValidatingWebhookConfiguration", false};
const ResourceType kLease{"coordination.k8s.io", "v1", "leases", "Lease", true};
const ResourceType kIstio{"istio.banzaicloud.io", "v1beta1", "istios", "Istio", true};
const ResourceType kMeshGateway{"istio.banzaicloud.io", "v1beta1", "meshgateways", "MeshGateway",
                                true};
const ResourceType kGateway{"networking.istio.io", "v1", "gateways", "Gateway", true};
const ResourceType kVirtualService{"networking.istio.io", "v1", "virtualservices", "VirtualService",
                                   true};
const ResourceType kDestinationRule{"networking.istio.io", "v1", "destinationrules",
                                    "DestinationRule", true};
const ResourceType kServiceEntry{"networking.istio.io", "v1", "serviceentries", "ServiceEntry",
                                 true};
const ResourceType kSidecar{"networking.istio.io", "v1", "sidecars", "Sidecar", true};

}  // namespace types

std::string keyOf(const json::Json& object) {
  std::string ns = json::stringAt(object, "metadata.namespace");
  std::string name = json::stringAt(object, "metadata.name");
  return ns.empty() ? name : ns + "/" + name;
}

ObjectKey splitKey(std::string_view key) {
  std::size_t slash = key.find('/');
  if (slash == std::string_view::npos) return {"", std::string(key)};
  return {std::string(key.substr(0, slash)), std::string(key.substr(slash + 1))};
}

}  // namespace postern::kube
