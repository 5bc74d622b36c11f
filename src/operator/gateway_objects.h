// The Kubernetes objects of one MeshGateway: what the operator applies. Pure functions; every
// object is namespaced, labelled gateway-name/gateway-type and owned by the gateway.
#pragma once

#include "json/json.h"

#include <vector>

namespace postern::op {

/// ServiceAccount, Role, RoleBinding, Deployment, Service, HorizontalPodAutoscaler and
/// PodDisruptionBudget, in the order of application. `mesh_spec` is defaulted; `gateway` is the
/// MeshGateway as stored.
std::vector<json::Json> gatewayObjects(const json::Json& gateway, const json::Json& mesh_spec,
                                       const std::string& mesh_namespace);
/// gateway-name, gateway-type and spec.labels (which may not change the first two).
json::Json gatewayLabels(const json::Json& gateway);

}  // namespace postern::op
