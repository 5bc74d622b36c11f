#include "operator/mesh_defaults.h"

#include <nlohmann/json.hpp>

namespace postern::op {
namespace {

using json::Json;

void setDefault(Json& object, const char* key, Json value) {
  auto it = object.find(key);
  if (it == object.end() || it->is_null() ||
      (it->is_string() && it->get_ref<const std::string&>().empty())) {
    object[key] = std::move(value);
  }
}

Json port(const char* name, int number) {
  return {{"name", name}, {"port", number}, {"protocol", "TCP"}, {"targetPort", number}};
}

Json& objectAt(Json& parent, const char* key) {
  Json& child = parent[key];
  if (!child.is_object()) child = Json::object();
  return child;
}

void defaultMainGateway(Json& gateway, const char* service_type, Json ports) {
  setDefault(gateway, "enabled", true);
  setDefault(gateway, "minReplicas", 1);
  setDefault(gateway, "maxReplicas", 1);
  setDefault(gateway, "replicaCount", 1);
  setDefault(gateway, "serviceType", service_type);
  setDefault(gateway, "ports", std::move(ports));
  Json& sds = objectAt(gateway, "sds");
  setDefault(sds, "enabled", false);
  setDefault(sds, "image", "docker.io/istio/node-agent-k8s:1.4.3");
}

}  // namespace

Json defaultedMeshSpec(Json spec) {
  if (!spec.is_object()) spec = Json::object();
  setDefault(spec, "version", "1.4.7");
  setDefault(spec, "mtls", false);
  setDefault(spec, "autoMtls", true);
  setDefault(spec, "imagePullPolicy", "IfNotPresent");
  setDefault(objectAt(spec, "outboundTrafficPolicy"), "mode", "ALLOW_ANY");
  setDefault(objectAt(spec, "proxy"), "image", kDefaultProxyImage);
  setDefault(spec["proxy"], "clusterDomain", "cluster.local");
  setDefault(spec["proxy"], "accessLogFile", "/dev/stdout");
  setDefault(objectAt(spec, "sidecarInjector"), "enabled", true);
  setDefault(objectAt(spec, "defaultPodDisruptionBudget"), "enabled", true);
  Json& gateways = objectAt(spec, "gateways");
  setDefault(gateways, "enabled", true);
  defaultMainGateway(objectAt(gateways, "ingress"), "LoadBalancer",
                     Json::array({port("status-port", 15020), port("http2", 80), port("https", 443),
                                  port("tls", 15443)}));
  defaultMainGateway(objectAt(gateways, "egress"), "ClusterIP",
                     Json::array({port("http2", 80), port("https", 443)}));
  return spec;
}

Json defaultedGatewaySpec(Json spec) {
  if (!spec.is_object()) spec = Json::object();
  const bool ingress = json::stringAt(spec, "type") == "ingress";
  setDefault(spec, "serviceType", ingress ? "LoadBalancer" : "ClusterIP");
  setDefault(spec, "replicaCount", 1);
  setDefault(spec, "minReplicas", 1);
  setDefault(spec, "maxReplicas", 1);
  Json& resources = objectAt(spec, "resources");
  setDefault(resources, "requests", {{"cpu", "100m"}, {"memory", "128Mi"}});
  setDefault(resources, "limits", {{"cpu", "2000m"}, {"memory", "1024Mi"}});
  if (!spec.contains("ports") || !spec["ports"].is_array()) spec["ports"] = Json::array();
  for (Json& each : spec["ports"]) {
    if (!each.is_object()) continue;
    setDefault(each, "protocol", "TCP");
    if (each.contains("port")) setDefault(each, "targetPort", each["port"]);
  }
  return spec;
}

Json mainGateway(const Json& mesh, const std::string& type) {
  Json spec = defaultedMeshSpec(mesh.value("spec", Json::object()));
  const Json& gateways = spec["gateways"];
  if (!json::boolAt(gateways, "enabled", true) || !json::boolAt(gateways[type], "enabled", true))
    return nullptr;
  const bool ingress = type == "ingress";
  Json gateway_spec = gateways[type];
  gateway_spec.erase("enabled");
  gateway_spec["type"] = type;
  Json labels = gateway_spec.value("labels", Json::object());
  labels["app"] = ingress ? kIngressName : kEgressName;
  labels["istio"] = ingress ? "ingressgateway" : "egressgateway";
  gateway_spec["labels"] = labels;
  return {{"apiVersion", "istio.banzaicloud.io/v1beta1"},
          {"kind", "MeshGateway"},
          {"metadata",
           {{"name", ingress ? kIngressName : kEgressName},
            {"namespace", json::stringAt(mesh, "metadata.namespace")},
            {"labels", labels}}},
          {"spec", gateway_spec}};
}

}  // namespace postern::op
