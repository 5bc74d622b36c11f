#include "operator/gateway_objects.h"

#include "operator/mesh_defaults.h"

#include <nlohmann/json.hpp>

namespace postern::op {
namespace {

using json::Json;

constexpr int kStatusPort = 15021;
constexpr int kMergedMetricsPort = 15020;
constexpr int kPrometheusPort = 15090;

struct Context {
  const Json& gateway;
  const Json& spec;  // defaulted
  const Json& mesh;  // defaulted mesh spec
  std::string mesh_namespace;
  std::string name;
  std::string ns;
  Json labels;

  Json metadata(const std::string& object_name) const {
    return {{"name", object_name},
            {"namespace", ns},
            {"labels", labels},
            {"ownerReferences", Json::array({{{"apiVersion", "istio.banzaicloud.io/v1beta1"},
                                              {"kind", "MeshGateway"},
                                              {"name", name},
                                              {"uid", json::stringAt(gateway, "metadata.uid")},
                                              {"controller", true},
                                              {"blockOwnerDeletion", true}}})}};
  }
  std::string account() const { return name + "-service-account"; }
};

Json fieldEnv(const char* name, const char* path) {
  return {{"name", name},
          {"valueFrom", {{"fieldRef", {{"apiVersion", "v1"}, {"fieldPath", path}}}}}};
}

Json environment(const Context& c) {
  Json env = Json::array(
      {fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"),
       fieldEnv("INSTANCE_IP", "status.podIP"), fieldEnv("HOST_IP", "status.hostIP"),
       fieldEnv("SERVICE_ACCOUNT", "spec.serviceAccountName"),
       fieldEnv("NODE_NAME", "spec.nodeName")});
  auto add = [&env](const char* name, std::string value) {
    env.push_back({{"name", name}, {"value", std::move(value)}});
  };
  add("CA_ADDR", "istiod." + c.mesh_namespace + ".svc:15012");
  add("DISCOVERY_ADDRESS", "istiod." + c.mesh_namespace + ".svc:15012");
  add("ISTIO_META_ROUTER_MODE", "sni-dnat");
  add("ISTIO_META_WORKLOAD_NAME", c.name);
  add("ISTIO_META_OWNER",
      "kubernetes://apis/apps/v1/namespaces/" + c.ns + "/deployments/" + c.name);
  add("ISTIO_META_CLUSTER_ID", json::stringAt(c.mesh, "clusterName", "Kubernetes"));
  add("ISTIO_METAJSON_LABELS", json::dump(c.labels));
  add("ISTIO_META_MESH_ID",
      json::stringAt(c.mesh, "meshID", json::stringAt(c.mesh, "trustDomain", "cluster.local")));
  std::string view = json::stringAt(c.spec, "requestedNetworkView");
  if (!view.empty()) add("ISTIO_META_REQUESTED_NETWORK_VIEW", view);
  for (const Json& extra : c.spec.value("additionalEnvVars", Json::array())) {
    auto same = [&](const Json& each) { return each.value("name", "") == extra.value("name", ""); };
    auto it = std::find_if(env.begin(), env.end(), same);
    if (it != env.end()) {
      *it = extra;
    } else {
      env.push_back(extra);
    }
  }
  return env;
}

Json containerPorts(const Context& c) {
  Json ports = Json::array();
  for (const Json& port : c.spec["ports"]) {
    Json out = {{"containerPort", port.value("targetPort", port.value("port", Json(0)))},
                {"protocol", port.value("protocol", "TCP")}};
    if (port.contains("name")) out["name"] = port["name"];
    // A named target port has no number of its own: the Service port's is meant.
    if (!out["containerPort"].is_number()) out["containerPort"] = port.value("port", Json(0));
    ports.push_back(std::move(out));
  }
  ports.push_back(
      {{"name", "http-envoy-prom"}, {"containerPort", kPrometheusPort}, {"protocol", "TCP"}});
  return ports;
}

Json proxyContainer(const Context& c) {
  Json container = {
      {"name", "istio-proxy"},
      {"image", json::stringAt(c.mesh, "proxy.image", kDefaultProxyImage)},
      {"imagePullPolicy", json::stringAt(c.mesh, "imagePullPolicy", "IfNotPresent")},
      {"args",
       {"gateway", "--domain",
        "$(POD_NAMESPACE).svc." + json::stringAt(c.mesh, "proxy.clusterDomain", "cluster.local"),
        "--serviceCluster", c.name}},
      {"ports", containerPorts(c)},
      {"env", environment(c)},
      {"resources", c.spec["resources"]},
      {"readinessProbe",
       {{"httpGet", {{"path", "/healthz/ready"}, {"port", kStatusPort}, {"scheme", "HTTP"}}},
        {"initialDelaySeconds", 0},
        {"periodSeconds", 1},
        {"timeoutSeconds", 3},
        {"successThreshold", 1},
        {"failureThreshold", 30}}},
      {"volumeMounts",
       Json::array({{{"name", "istio-token"}, {"mountPath", "/var/run/secrets/tokens"}},
                    {{"name", "istiod-ca-cert"}, {"mountPath", "/var/run/secrets/istio"}},
                    {{"name", "podinfo"}, {"mountPath", "/etc/istio/pod"}},
                    {{"name", "istio-envoy"}, {"mountPath", "/etc/istio/proxy"}}})}};
  if (!json::boolAt(c.spec, "runAsRoot", false)) {
    container["securityContext"] = {
        {"runAsUser", 1337}, {"runAsGroup", 1337}, {"runAsNonRoot", true}};
  }
  return container;
}

Json volumes() {
  return Json::array(
      {{{"name", "istio-token"},
        {"projected",
         {{"sources", Json::array({{{"serviceAccountToken",
                                     {{"audience", "istio-ca"},
                                      {"expirationSeconds", 43200},
                                      {"path", "istio-token"}}}}})}}}},
       {{"name", "istiod-ca-cert"}, {"configMap", {{"name", "istio-ca-root-cert"}}}},
       {{"name", "podinfo"},
        {"downwardAPI",
         {{"items",
           Json::array({{{"path", "labels"}, {"fieldRef", {{"fieldPath", "metadata.labels"}}}},
                        {{"path", "annotations"},
                         {"fieldRef", {{"fieldPath", "metadata.annotations"}}}}})}}}},
       {{"name", "istio-envoy"}, {"emptyDir", Json::object()}}});
}

Json deployment(const Context& c) {
  Json annotations = c.spec.value("podAnnotations", Json::object());
  annotations["sidecar.istio.io/inject"] = "false";
  Json pod_spec = {
      {"serviceAccountName", c.account()},
      {"containers", Json::array({proxyContainer(c)})},
      {"volumes", volumes()},
      {"securityContext",
       {{"sysctls",
         Json::array({{{"name", "net.ipv4.ip_unprivileged_port_start"}, {"value", "0"}}})}}}};
  for (const char* key : {"nodeSelector", "affinity", "tolerations"}) {
    if (c.spec.contains(key)) pod_spec[key] = c.spec[key];
  }
  // No replicas: they belong to the HorizontalPodAutoscaler (and to `kubectl scale`).
  return {{"apiVersion", "apps/v1"},
          {"kind", "Deployment"},
          {"metadata", c.metadata(c.name)},
          {"spec",
           {{"selector",
             {{"matchLabels",
               {{"gateway-name", c.labels["gateway-name"]},
                {"gateway-type", c.labels["gateway-type"]}}}}},
            {"template",
             {{"metadata", {{"labels", c.labels}, {"annotations", annotations}}},
              {"spec", pod_spec}}}}}};
}

Json service(const Context& c) {
  Json metadata = c.metadata(c.name);
  const Json extra_labels = c.spec.value("serviceLabels", Json::object());
  for (const auto& [key, value] : extra_labels.items()) {
    if (!metadata["labels"].contains(key)) metadata["labels"][key] = value;
  }
  if (c.spec.contains("serviceAnnotations")) metadata["annotations"] = c.spec["serviceAnnotations"];
  Json spec = {
      {"type", c.spec["serviceType"]},
      {"ports", c.spec["ports"]},
      {"selector",
       {{"gateway-name", c.labels["gateway-name"]}, {"gateway-type", c.labels["gateway-type"]}}}};
  std::string ip = json::stringAt(c.spec, "loadBalancerIP");
  if (!ip.empty()) spec["loadBalancerIP"] = ip;
  std::string policy = json::stringAt(c.spec, "serviceExternalTrafficPolicy");
  if (!policy.empty()) spec["externalTrafficPolicy"] = policy;
  return {{"apiVersion", "v1"}, {"kind", "Service"}, {"metadata", metadata}, {"spec", spec}};
}

Json autoscaler(const Context& c) {
  return {
      {"apiVersion", "autoscaling/v2"},
      {"kind", "HorizontalPodAutoscaler"},
      {"metadata", c.metadata(c.name + "-autoscaler")},
      {"spec",
       {{"scaleTargetRef", {{"apiVersion", "apps/v1"}, {"kind", "Deployment"}, {"name", c.name}}},
        {"minReplicas", c.spec["minReplicas"]},
        {"maxReplicas", c.spec["maxReplicas"]},
        {"metrics",
         Json::array({{{"type", "Resource"},
                       {"resource",
                        {{"name", "cpu"},
                         {"target", {{"type", "Utilization"}, {"averageUtilization", 80}}}}}}})}}}};
}

Json disruptionBudget(const Context& c) {
  return {{"apiVersion", "policy/v1"},
          {"kind", "PodDisruptionBudget"},
          {"metadata", c.metadata(c.name)},
          {"spec",
           {{"minAvailable", 1},
            {"selector",
             {{"matchLabels",
               {{"gateway-name", c.labels["gateway-name"]},
                {"gateway-type", c.labels["gateway-type"]}}}}}}}};
}

}  // namespace

Json gatewayLabels(const Json& gateway) {
  Json labels = Json::object();
  if (const Json* own = json::find(gateway, "spec.labels"); own != nullptr && own->is_object())
    labels = *own;
  labels["gateway-name"] = json::stringAt(gateway, "metadata.name");
  labels["gateway-type"] = json::stringAt(gateway, "spec.type");
  return labels;
}

std::vector<Json> gatewayObjects(const Json& gateway, const Json& mesh_spec,
                                 const std::string& mesh_namespace) {
  Json spec = defaultedGatewaySpec(gateway.value("spec", Json::object()));
  Context c{gateway,
            spec,
            mesh_spec,
            mesh_namespace,
            json::stringAt(gateway, "metadata.name"),
            json::stringAt(gateway, "metadata.namespace"),
            gatewayLabels(gateway)};
  std::vector<Json> out;
  out.push_back(
      {{"apiVersion", "v1"}, {"kind", "ServiceAccount"}, {"metadata", c.metadata(c.account())}});
  out.push_back({{"apiVersion", "rbac.authorization.k8s.io/v1"},
                 {"kind", "Role"},
                 {"metadata", c.metadata(c.name + "-role-sds")},
                 {"rules", Json::array({{{"apiGroups", {""}},
                                         {"resources", {"secrets"}},
                                         {"verbs", {"get", "watch", "list"}}}})}});
  out.push_back(
      {{"apiVersion", "rbac.authorization.k8s.io/v1"},
       {"kind", "RoleBinding"},
       {"metadata", c.metadata(c.name + "-role-binding-sds")},
       {"roleRef",
        {{"apiGroup", "rbac.authorization.k8s.io"},
         {"kind", "Role"},
         {"name", c.name + "-role-sds"}}},
       {"subjects",
        Json::array({{{"kind", "ServiceAccount"}, {"name", c.account()}, {"namespace", c.ns}}})}});
  out.push_back(deployment(c));
  out.push_back(service(c));
  out.push_back(autoscaler(c));
  out.push_back(disruptionBudget(c));
  return out;
}

}  // namespace postern::op
