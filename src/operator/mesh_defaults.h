// Defaults of the `Istio` and `MeshGateway` resources as the Banzai operator 0.4.7 applies them,
// minus its defects (replicas belong to the HPA, labels of the gateway may not be overridden). Pure
// functions on JSON objects.
#pragma once

#include "json/json.h"

#include <string>

namespace postern::op {

inline constexpr const char* kDefaultProxyImage = "docker.io/istio/proxyv2:1.4.7";
inline constexpr const char* kIngressName = "istio-ingressgateway";
inline constexpr const char* kEgressName = "istio-egressgateway";

/// The spec of a mesh with every default filled in that the operator persists.
json::Json defaultedMeshSpec(json::Json spec);
/// The spec of a gateway with every default filled in (not persisted).
json::Json defaultedGatewaySpec(json::Json spec);
/// The MeshGateway object of one of the mesh's main gateways ("ingress" or "egress"); null when it
/// is disabled.
json::Json mainGateway(const json::Json& mesh, const std::string& type);

}  // namespace postern::op
