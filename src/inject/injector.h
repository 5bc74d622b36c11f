// Sidecar injection: decides whether a pod gets a proxy and changes the pod accordingly. Pure
// functions on JSON; the webhook server around them is control/webhook_server.h. Names, ports and
// order are those of Istio's injector (init container first, the application's containers before
// the proxy), so existing tools recognise the result.
#pragma once

#include "json/json.h"

#include <string>

namespace postern::inject {

struct InjectorConfig {
  std::string proxy_image;
  std::string cluster_domain = "cluster.local";
  std::string mesh_namespace = "istio-system";
  std::string cluster_id = "Kubernetes";
  std::string mesh_id = "cluster.local";
  std::string image_pull_policy = "IfNotPresent";
  bool enabled = true;  // false: every pod passes as it is
};

struct Decision {
  bool inject = false;
  std::string reason;  // why, for the log and for `postern` diagnostics
};

/// Label `sidecar.istio.io/inject` of the pod, then its annotation, then the namespace label
/// `istio-injection`.
Decision decide(const json::Json& pod, const json::Json& namespace_object);

/// The pod with the sidecar added. Idempotent: an injected pod is returned as it is. `ns` is used
/// where the pod of an admission request carries no namespace yet.
json::Json injectSidecar(json::Json pod, const std::string& ns, const InjectorConfig& config);

/// RFC 6902 operations from one object to the other.
json::Json jsonPatch(const json::Json& from, const json::Json& to);

}  // namespace postern::inject
