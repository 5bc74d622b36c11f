// Names of Kubernetes resources and the errors the API gives.
#pragma once

#include "json/json.h"

#include <expected>
#include <string>
#include <string_view>

namespace postern::kube {

/// A served resource: enough to build its URL.
struct ResourceType {
  std::string group;    // "" for core
  std::string version;  // "v1"
  std::string plural;   // "deployments"
  std::string kind;     // "Deployment"
  bool namespaced = true;

  std::string apiVersion() const { return group.empty() ? version : group + "/" + version; }
  /// "/apis/apps/v1/namespaces/ns/deployments[/name[/subresource]]"; an empty ns lists all
  /// namespaces.
  std::string url(std::string_view ns, std::string_view name = "",
                  std::string_view subresource = "") const;
  bool operator==(const ResourceType&) const = default;
};

/// The types our own controllers use, by kind: kube::types::kPod and so on (types.cc).
namespace types {
extern const ResourceType kPod, kService, kEndpoints, kNamespace, kConfigMap, kSecret,
    kServiceAccount, kEvent, kNode;
extern const ResourceType kDeployment, kReplicaSet, kJob, kEndpointSlice, kHpa, kPdb, kRole,
    kRoleBinding;
extern const ResourceType kClusterRole, kClusterRoleBinding, kCrd, kMutatingWebhook,
    kValidatingWebhook, kLease;
extern const ResourceType kIstio, kMeshGateway;  // istio.banzaicloud.io/v1beta1
extern const ResourceType kGateway, kVirtualService, kDestinationRule, kServiceEntry,
    kSidecar;  // networking.istio.io/v1
}  // namespace types

/// A Status answer, or a failure to get one (code 0).
struct ApiError {
  int code = 0;
  std::string reason;  // "NotFound", "Conflict", …; "" when there was no answer
  std::string message;
  bool notFound() const { return code == 404; }
  bool conflict() const { return code == 409 && reason == "Conflict"; }
  bool alreadyExists() const { return code == 409 && reason == "AlreadyExists"; }
};

template <class T>
using ApiResult = std::expected<T, ApiError>;

/// "ns/name", or "name" for cluster-scoped objects; the key of caches and work queues.
std::string keyOf(const json::Json& object);
struct ObjectKey {
  std::string ns;
  std::string name;
};
ObjectKey splitKey(std::string_view key);

}  // namespace postern::kube
