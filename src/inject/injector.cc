#include "inject/injector.h"

#include "base/strings.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace postern::inject {
namespace {

using json::Json;

constexpr const char* kProxyName = "istio-proxy";
constexpr const char* kInitName = "istio-init";
constexpr int kProxyUid = 1337;

// Namespaces that never get sidecars, as in Istio.
constexpr const char* kIgnoredNamespaces[] = {"kube-system", "kube-public", "kube-node-lease",
                                              "local-path-storage"};

std::string labelOf(const Json& object, const char* map, const char* key) {
  const Json* found = json::find(object, map);
  if (found == nullptr || !found->is_object()) return "";
  auto it = found->find(key);
  return it != found->end() && it->is_string() ? it->get<std::string>() : "";
}

Json& objectAt(Json& parent, const char* key) {
  Json& child = parent[key];
  if (!child.is_object()) child = Json::object();
  return child;
}

Json& arrayAt(Json& parent, const char* key) {
  Json& child = parent[key];
  if (!child.is_array()) child = Json::array();
  return child;
}

std::string annotation(const Json& pod, const char* key, std::string fallback) {
  std::string value = labelOf(pod, "metadata.annotations", key);
  return value.empty() ? std::move(fallback) : value;
}

bool hasContainer(const Json& pod, const char* name) {
  const Json* containers = json::find(pod, "spec.containers");
  if (containers == nullptr) return false;
  return std::any_of(containers->begin(), containers->end(),
                     [&](const Json& each) { return each.value("name", "") == name; });
}

Json fieldEnv(const char* name, const char* path) {
  return {{"name", name}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
}

/// Owner as Istio writes it; a ReplicaSet's template hash is cut off to name its Deployment.
std::string workloadName(const Json& pod) {
  std::string hash = labelOf(pod, "metadata.labels", "pod-template-hash");
  std::string generate = json::stringAt(pod, "metadata.generateName");
  while (generate.ends_with('-')) generate.pop_back();
  if (!hash.empty() && generate.ends_with("-" + hash))
    generate.resize(generate.size() - hash.size() - 1);
  return generate.empty() ? json::stringAt(pod, "metadata.name") : generate;
}

Json initContainer(const Json& pod, const InjectorConfig& config) {
  Json args = Json::array(
      {"capture", "-p", "15001", "-z", "15006", "-u", std::to_string(kProxyUid), "-m", "REDIRECT",
       "-i", annotation(pod, "traffic.sidecar.istio.io/includeOutboundIPRanges", "*"), "-x",
       annotation(pod, "traffic.sidecar.istio.io/excludeOutboundIPRanges", ""), "-b",
       annotation(pod, "traffic.sidecar.istio.io/includeInboundPorts", "*"), "-d",
       "15090,15021,15020"});
  std::string more = annotation(pod, "traffic.sidecar.istio.io/excludeInboundPorts", "");
  if (!more.empty()) args.back() = args.back().get<std::string>() + "," + more;
  std::string outbound = annotation(pod, "traffic.sidecar.istio.io/excludeOutboundPorts", "");
  if (!outbound.empty()) {
    args.push_back("-o");
    args.push_back(outbound);
  }
  return {{"name", kInitName},
          {"image", config.proxy_image},
          {"imagePullPolicy", config.image_pull_policy},
          {"args", args},
          {"resources",
           {{"requests", {{"cpu", "10m"}, {"memory", "40Mi"}}},
            {"limits", {{"cpu", "2"}, {"memory", "1Gi"}}}}},
          {"securityContext",
           {{"runAsUser", 0},
            {"runAsGroup", 0},
            {"runAsNonRoot", false},
            {"privileged", false},
            {"allowPrivilegeEscalation", false},
            {"capabilities", {{"add", {"NET_ADMIN", "NET_RAW"}}, {"drop", {"ALL"}}}}}}};
}

Json proxyEnvironment(const Json& pod, const std::string& ns, const InjectorConfig& config) {
  Json env = Json::array(
      {fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"),
       fieldEnv("INSTANCE_IP", "status.podIP"), fieldEnv("HOST_IP", "status.hostIP"),
       fieldEnv("SERVICE_ACCOUNT", "spec.serviceAccountName"),
       fieldEnv("NODE_NAME", "spec.nodeName")});
  auto add = [&env](const char* name, std::string value) {
    env.push_back({{"name", name}, {"value", std::move(value)}});
  };
  const std::string istiod = "istiod." + config.mesh_namespace + ".svc:15012";
  add("CA_ADDR", istiod);
  add("DISCOVERY_ADDRESS", istiod);
  add("PROXY_CONFIG", annotation(pod, "proxy.istio.io/config", "{}"));
  Json ports = Json::array();
  Json names = Json::array();
  for (const Json& container : *json::find(pod, "spec.containers")) {
    names.push_back(container.value("name", ""));
    for (const Json& port : container.value("ports", Json::array())) ports.push_back(port);
  }
  add("ISTIO_META_POD_PORTS", json::dump(ports));
  std::vector<std::string> list = names.get<std::vector<std::string>>();
  add("ISTIO_META_APP_CONTAINERS", base::join(list, ","));
  add("ISTIO_META_CLUSTER_ID", config.cluster_id);
  add("ISTIO_META_INTERCEPTION_MODE", "REDIRECT");
  add("ISTIO_META_WORKLOAD_NAME", workloadName(pod));
  add("ISTIO_META_OWNER",
      "kubernetes://apis/apps/v1/namespaces/" + ns + "/deployments/" + workloadName(pod));
  add("ISTIO_META_MESH_ID", config.mesh_id);
  return env;
}

Json proxyContainer(const Json& pod, const std::string& ns, const InjectorConfig& config) {
  return {
      {"name", kProxyName},
      {"image", config.proxy_image},
      {"imagePullPolicy", config.image_pull_policy},
      {"args", {"sidecar", "--domain", "$(POD_NAMESPACE).svc." + config.cluster_domain}},
      {"env", proxyEnvironment(pod, ns, config)},
      {"ports",
       Json::array({{{"name", "http-envoy-prom"}, {"containerPort", 15090}, {"protocol", "TCP"}}})},
      {"readinessProbe",
       {{"httpGet", {{"path", "/healthz/ready"}, {"port", 15021}}},
        {"periodSeconds", 1},
        {"timeoutSeconds", 3},
        {"failureThreshold", 30}}},
      {"resources",
       {{"requests", {{"cpu", "100m"}, {"memory", "128Mi"}}},
        {"limits", {{"cpu", "2"}, {"memory", "1Gi"}}}}},
      {"securityContext",
       {{"runAsUser", kProxyUid},
        {"runAsGroup", kProxyUid},
        {"runAsNonRoot", true},
        {"allowPrivilegeEscalation", false},
        {"capabilities", {{"drop", {"ALL"}}}}}},
      {"volumeMounts",
       Json::array({{{"name", "istiod-ca-cert"}, {"mountPath", "/var/run/secrets/istio"}},
                    {{"name", "istio-token"}, {"mountPath", "/var/run/secrets/tokens"}},
                    {{"name", "istio-podinfo"}, {"mountPath", "/etc/istio/pod"}},
                    {{"name", "istio-envoy"}, {"mountPath", "/etc/istio/proxy"}}})}};
}

Json volumes() {
  return Json::array(
      {{{"name", "istio-envoy"}, {"emptyDir", Json::object()}},
       {{"name", "istio-podinfo"},
        {"downwardAPI",
         {{"items",
           Json::array({{{"path", "labels"}, {"fieldRef", {{"fieldPath", "metadata.labels"}}}},
                        {{"path", "annotations"},
                         {"fieldRef", {{"fieldPath", "metadata.annotations"}}}}})}}}},
       {{"name", "istio-token"},
        {"projected",
         {{"sources", Json::array({{{"serviceAccountToken",
                                     {{"audience", "istio-ca"},
                                      {"expirationSeconds", 43200},
                                      {"path", "istio-token"}}}}})}}}},
       {{"name", "istiod-ca-cert"}, {"configMap", {{"name", "istio-ca-root-cert"}}}}});
}

/// Moves HTTP probes to the agent's port, which the capture rules exempt: a probe then needs no way
/// through the proxy.
void rewriteProbes(Json& pod, Json& proxy) {
  Json probers = Json::object();
  for (Json& container : pod["spec"]["containers"]) {
    for (auto [key, path] : {std::pair{"livenessProbe", "livez"},
                             {"readinessProbe", "readyz"},
                             {"startupProbe", "startupz"}}) {
      if (!container.contains(key) || !container[key].contains("httpGet")) continue;
      std::string where = "/app-health/" + container.value("name", "") + "/" + path;
      Json original = container[key]["httpGet"];
      if (original["port"].is_string()) {
        for (const Json& port : container.value("ports", Json::array())) {
          if (original["port"] == port.value("name", "")) original["port"] = port["containerPort"];
        }
      }
      probers[where] = {{"httpGet", original},
                        {"timeoutSeconds", container[key].value("timeoutSeconds", 1)}};
      container[key]["httpGet"] = {{"path", where}, {"port", 15020}};
    }
  }
  if (!probers.empty()) {
    proxy["env"].push_back({{"name", "ISTIO_KUBE_APP_PROBERS"}, {"value", json::dump(probers)}});
  }
}

}  // namespace

Decision decide(const Json& pod, const Json& namespace_object) {
  const std::string ns = json::stringAt(namespace_object, "metadata.name");
  if (std::find(std::begin(kIgnoredNamespaces), std::end(kIgnoredNamespaces), ns) !=
      std::end(kIgnoredNamespaces)) {
    return {false, "namespace " + ns + " never gets sidecars"};
  }
  if (json::boolAt(pod, "spec.hostNetwork")) return {false, "the pod uses the host's network"};
  for (const char* map : {"metadata.labels", "metadata.annotations"}) {
    std::string choice = labelOf(pod, map, "sidecar.istio.io/inject");
    if (choice == "true") return {true, std::string("sidecar.istio.io/inject=true in ") + map};
    if (choice == "false") return {false, std::string("sidecar.istio.io/inject=false in ") + map};
  }
  const bool enabled = labelOf(namespace_object, "metadata.labels", "istio-injection") == "enabled";
  return {enabled,
          enabled ? "namespace label istio-injection=enabled" : "namespace is not labelled"};
}

Json injectSidecar(Json pod, const std::string& ns, const InjectorConfig& config) {
  if (hasContainer(pod, kProxyName)) return pod;
  Json& spec = objectAt(pod, "spec");
  arrayAt(spec, "containers");
  const std::string app = spec["containers"].empty() ? "" : spec["containers"][0].value("name", "");
  Json proxy = proxyContainer(pod, ns, config);
  Json init = initContainer(pod, config);
  rewriteProbes(pod, proxy);
  spec["containers"].push_back(std::move(proxy));
  Json& init_containers = arrayAt(spec, "initContainers");
  init_containers.insert(init_containers.begin(), std::move(init));
  Json& pod_volumes = arrayAt(spec, "volumes");
  for (Json& volume : volumes()) pod_volumes.push_back(std::move(volume));

  Json& metadata = objectAt(pod, "metadata");
  Json& labels = objectAt(metadata, "labels");
  const auto first = [&](std::initializer_list<const char*> keys, std::string fallback) {
    for (const char* key : keys) {
      if (labels.contains(key) && labels[key].is_string()) return labels[key].get<std::string>();
    }
    return fallback;
  };
  const std::string workload = workloadName(pod);
  labels["service.istio.io/canonical-name"] =
      first({"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"},
            workload.empty() ? app : workload);
  labels["service.istio.io/canonical-revision"] = first(
      {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}, "latest");
  labels["istio.io/rev"] = "default";
  objectAt(metadata, "annotations")["sidecar.istio.io/status"] =
      json::dump({{"initContainers", {kInitName}},
                  {"containers", {kProxyName}},
                  {"volumes", {"istio-envoy", "istio-podinfo", "istio-token", "istiod-ca-cert"}},
                  {"revision", "default"}});
  return pod;
}

Json jsonPatch(const Json& from, const Json& to) { return Json::diff(from, to); }

}  // namespace postern::inject
