#include "apiserver/defaults.h"

#include "apiserver/catalog.h"
#include "apiserver/selectors.h"
#include "base/strings.h"

#include <algorithm>
#include <cctype>
#include <set>

namespace postern::apiserver {
namespace {

void set(Json& object, const char* name, Json value) {
  if (!object.contains(name)) object[name] = std::move(value);
}

void defaultProbe(Json& container, const char* name) {
  if (!container.contains(name) || !container[name].is_object()) return;
  Json& probe = container[name];
  set(probe, "timeoutSeconds", 1);
  set(probe, "periodSeconds", 10);
  set(probe, "successThreshold", 1);
  set(probe, "failureThreshold", 3);
  if (probe.contains("httpGet") && probe["httpGet"].is_object()) {
    set(probe["httpGet"], "scheme", "HTTP");
    set(probe["httpGet"], "path", "/");
  }
}

void defaultContainer(Json& c) {
  if (!c.is_object()) return;
  std::string image = json::stringAt(c, "image");
  std::size_t slash = image.rfind('/');
  std::size_t colon = image.find(':', slash == std::string::npos ? 0 : slash);
  bool latest = image.find('@') == std::string::npos &&
                (colon == std::string::npos || image.substr(colon) == ":latest");
  set(c, "imagePullPolicy", latest ? "Always" : "IfNotPresent");
  set(c, "terminationMessagePath", "/dev/termination-log");
  set(c, "terminationMessagePolicy", "File");
  set(c, "resources", Json::object());
  if (c.contains("ports") && c["ports"].is_array()) {
    for (Json& p : c["ports"]) {
      if (p.is_object()) set(p, "protocol", "TCP");
    }
  }
  for (const char* probe : {"livenessProbe", "readinessProbe", "startupProbe"}) {
    defaultProbe(c, probe);
  }
  if (c.contains("env") && c["env"].is_array()) {
    for (Json& e : c["env"]) {
      if (const Json* ref = json::find(e, "valueFrom.fieldRef"); ref && ref->is_object()) {
        set(e["valueFrom"]["fieldRef"], "apiVersion", "v1");
      }
    }
  }
}

void defaultPodSpec(Json& spec, bool job) {
  if (!spec.is_object()) return;
  set(spec, "restartPolicy", job ? "Never" : "Always");
  set(spec, "dnsPolicy", "ClusterFirst");
  set(spec, "schedulerName", "default-scheduler");
  set(spec, "securityContext", Json::object());
  set(spec, "terminationGracePeriodSeconds", 30);
  for (const char* list : {"containers", "initContainers"}) {
    if (!spec.contains(list) || !spec[list].is_array()) continue;
    for (Json& c : spec[list]) defaultContainer(c);
  }
  if (spec.contains("serviceAccountName")) set(spec, "serviceAccount", spec["serviceAccountName"]);
  if (spec.contains("serviceAccount")) set(spec, "serviceAccountName", spec["serviceAccount"]);
}

void defaultPod(Json& pod) {
  if (!pod.contains("spec") || !pod["spec"].is_object()) return;
  Json& spec = pod["spec"];
  set(spec, "serviceAccountName", "default");
  defaultPodSpec(spec, false);
  set(spec, "enableServiceLinks", true);
  set(spec, "priority", 0);
  set(spec, "preemptionPolicy", "PreemptLowerPriority");
  if (!spec.contains("tolerations")) {
    spec["tolerations"] = Json::array();
    for (const char* key : {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}) {
      spec["tolerations"].push_back({{"key", key},
                                     {"operator", "Exists"},
                                     {"effect", "NoExecute"},
                                     {"tolerationSeconds", 300}});
    }
  }
  set(pod, "status", Json::object());
  set(pod["status"], "phase", "Pending");
  set(pod["status"], "qosClass", "BestEffort");
}

/// A Job's pods are told apart by its uid, unless the user chose labels.
void selectOwnPods(Json& job) {
  Json& spec = job["spec"];
  const std::string uid = json::stringAt(job, "metadata.uid");
  if (uid.empty() || spec.contains("selector") || json::boolAt(spec, "manualSelector")) return;
  if (!spec.contains("template") || !spec["template"].is_object()) return;
  const std::string name = json::stringAt(job, "metadata.name");
  spec["selector"] = {{"matchLabels", {{"batch.kubernetes.io/controller-uid", uid}}}};
  Json& labels = spec["template"]["metadata"]["labels"];
  labels["batch.kubernetes.io/controller-uid"] = uid;
  labels["batch.kubernetes.io/job-name"] = name;
  labels["controller-uid"] = uid;
  labels["job-name"] = name;
}

void defaultWorkload(const std::string& storage, Json& object) {
  if (!object.contains("spec") || !object["spec"].is_object()) return;
  Json& spec = object["spec"];
  if (spec.contains("template") && spec["template"].is_object()) {
    Json& pod = spec["template"];
    if (!pod.contains("metadata") || pod["metadata"].is_null()) pod["metadata"] = Json::object();
    if (pod.contains("spec")) defaultPodSpec(pod["spec"], storage == "batch/jobs");
    if (!spec.contains("selector") && pod["metadata"].contains("labels") &&
        storage.starts_with("apps/")) {
      spec["selector"]["matchLabels"] = pod["metadata"]["labels"];  // as extensions/v1beta1 did
    }
  }
  if (storage != "apps/daemonsets" && storage.starts_with("apps/")) set(spec, "replicas", 1);
  if (storage == "apps/deployments") {
    set(spec, "progressDeadlineSeconds", 600);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "strategy", Json::object());
    set(spec["strategy"], "type", "RollingUpdate");
    if (spec["strategy"]["type"] == "RollingUpdate") {
      set(spec["strategy"], "rollingUpdate", Json::object());
      set(spec["strategy"]["rollingUpdate"], "maxSurge", "25%");
      set(spec["strategy"]["rollingUpdate"], "maxUnavailable", "25%");
    }
  }
  if (storage == "batch/jobs") {
    selectOwnPods(object);
    set(spec, "backoffLimit", 6);
    set(spec, "completions", 1);
    set(spec, "parallelism", 1);
  }
}

void defaultService(Json& service) {
  if (!service.contains("spec") || !service["spec"].is_object()) return;
  Json& spec = service["spec"];
  set(spec, "type", "ClusterIP");
  set(spec, "sessionAffinity", "None");
  set(service, "status", {{"loadBalancer", Json::object()}});
  if (spec["type"] == "ExternalName") return;
  set(spec, "ipFamilies", {"IPv4"});
  set(spec, "ipFamilyPolicy", "SingleStack");
  set(spec, "internalTrafficPolicy", "Cluster");
  if (spec["type"] != "ClusterIP") set(spec, "externalTrafficPolicy", "Cluster");
  if (spec["type"] == "LoadBalancer") set(spec, "allocateLoadBalancerNodePorts", true);
  if (!spec.contains("ports") || !spec["ports"].is_array()) return;
  for (Json& p : spec["ports"]) {
    if (!p.is_object()) continue;
    set(p, "protocol", "TCP");
    if (p.contains("port")) set(p, "targetPort", p["port"]);
  }
}

void defaultSecret(Json& secret) {
  set(secret, "type", "Opaque");
  if (!secret.contains("stringData") || !secret["stringData"].is_object()) return;
  for (auto it = secret["stringData"].begin(); it != secret["stringData"].end(); ++it) {
    if (it->is_string()) secret["data"][it.key()] = base::base64Encode(it->get<std::string>());
  }
  secret.erase("stringData");
}

void defaultWebhooks(Json& configuration, bool mutating) {
  if (!configuration.contains("webhooks") || !configuration["webhooks"].is_array()) return;
  for (Json& w : configuration["webhooks"]) {
    if (!w.is_object()) continue;
    set(w, "failurePolicy", "Fail");
    set(w, "matchPolicy", "Equivalent");
    set(w, "timeoutSeconds", 10);
    set(w, "namespaceSelector", Json::object());
    set(w, "objectSelector", Json::object());
    if (mutating) set(w, "reinvocationPolicy", "Never");
  }
}

std::string ipText(std::uint32_t ip) {
  return std::to_string(ip >> 24) + "." + std::to_string((ip >> 16) & 255) + "." +
         std::to_string((ip >> 8) & 255) + "." + std::to_string(ip & 255);
}
bool parseIp(std::string_view text, std::uint32_t& out) {
  auto parts = base::split(text, '.');
  if (parts.size() != 4) return false;
  out = 0;
  for (std::string_view p : parts) {
    auto v = base::parseInteger<unsigned char>(p);
    if (!v) return false;
    out = (out << 8) | *v;
  }
  return true;
}
bool parseCidr(std::string_view text, std::uint32_t& first, std::uint32_t& size) {
  auto parts = base::split(text, '/');
  auto bits = parts.size() == 2 ? base::parseInteger<unsigned>(parts[1]) : std::nullopt;
  if (!bits || *bits < 8 || *bits > 30 || !parseIp(parts[0], first)) return false;
  size = std::uint32_t(1) << (32 - *bits);
  return true;
}

schema::Cause invalidValue(const std::string& field, const Json& value, const std::string& why) {
  return {"FieldValueInvalid", field, "Invalid value: " + json::dump(value) + ": " + why};
}

}  // namespace

void applyBuiltinDefaults(const schema::Kind& kind, Json& object) {
  const std::string& s = kind.storage;
  if (s == "/pods") defaultPod(object);
  if (s == "/services") defaultService(object);
  if (s == "/secrets") defaultSecret(object);
  if (s.starts_with("apps/") || s == "batch/jobs") defaultWorkload(s, object);
  if (s == "/namespaces") {
    set(object, "spec", Json::object());
    set(object, "status", {{"phase", "Active"}});
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] =
        json::stringAt(object, "metadata.name");
  }
  if (s == "autoscaling/horizontalpodautoscalers" && object.contains("spec") &&
      object["spec"].is_object()) {
    set(object["spec"], "minReplicas", 1);
  }
  if (s == "apiextensions.k8s.io/customresourcedefinitions") completeDefinition(object);
  if (s.starts_with("admissionregistration.k8s.io/")) {
    defaultWebhooks(object, s.find("mutating") != std::string::npos);
  }
}

ApiResult<bool> allocateService(const store::Store& store, const ServiceRanges& ranges,
                                Json& service, const Json* old) {
  Json& spec = service["spec"];
  std::string type = json::stringAt(spec, "type");
  if (type == "ExternalName") return true;
  std::set<std::string> ips;
  std::set<long long> node_ports;
  std::string self = json::stringAt(service, "metadata.uid");
  for (const store::ObjectPtr& other : store.list("/services")) {
    if (old != nullptr && json::stringAt(*other, "metadata.uid") == self) continue;
    ips.insert(json::stringAt(*other, "spec.clusterIP"));
    if (const Json* ports = json::find(*other, "spec.ports"); ports && ports->is_array()) {
      for (const Json& p : *ports) node_ports.insert(json::integerAt(p, "nodePort"));
    }
  }
  std::string ip = json::stringAt(spec, "clusterIP");
  if (ip.empty() && old != nullptr) ip = json::stringAt(*old, "spec.clusterIP");
  std::uint32_t first = 0;
  std::uint32_t size = 0;
  if (!parseCidr(ranges.service_cidr, first, size)) return failed(internal("bad service range"));
  if (ip.empty()) {
    // The first addresses are kept for well-known services.
    for (std::uint32_t i = 32; i < size - 1 && ip.empty(); ++i) {
      if (!ips.contains(ipText(first + i))) ip = ipText(first + i);
    }
    if (ip.empty()) return failed(internal("no free cluster IP in " + ranges.service_cidr));
  } else if (ip != "None") {
    schema::Kind kind;
    kind.kind = "Service";
    std::uint32_t value = 0;
    std::string name = json::stringAt(service, "metadata.name");
    if (!parseIp(ip, value) || value - first >= size) {
      return failed(invalid(kind, name,
                            {invalidValue("spec.clusterIPs", Json::array({ip}),
                                          "failed to allocate IP " + ip +
                                              ": the provided IP is not in the valid range. The "
                                              "range of valid IPs is " +
                                              ranges.service_cidr)}));
    }
    if (ips.contains(ip)) {
      return failed(invalid(
          kind, name,
          {invalidValue("spec.clusterIPs", Json::array({ip}),
                        "failed to allocate IP " + ip + ": provided IP is already allocated")}));
    }
  }
  spec["clusterIP"] = ip;
  spec["clusterIPs"] = Json::array({ip});
  if (type == "ClusterIP" || !spec.contains("ports") || !spec["ports"].is_array()) return true;
  int next = ranges.node_port_first;
  for (Json& p : spec["ports"]) {
    if (!p.is_object() || json::integerAt(p, "nodePort") != 0) continue;
    const Json* before = old == nullptr ? nullptr : json::find(*old, "spec.ports");
    for (std::size_t i = 0; before && before->is_array() && i < before->size(); ++i) {
      if ((*before)[i].value("port", Json()) == p["port"] && (*before)[i].contains("nodePort")) {
        p["nodePort"] = (*before)[i]["nodePort"];
      }
    }
    if (p.contains("nodePort")) continue;
    while (next <= ranges.node_port_last && node_ports.contains(next)) ++next;
    if (next > ranges.node_port_last) return failed(internal("no free node port"));
    p["nodePort"] = next;
    node_ports.insert(next);
  }
  return true;
}

std::vector<schema::Cause> validateBuiltin(const schema::Kind& kind, const Json& object,
                                           const Json* old) {
  std::vector<schema::Cause> causes;
  const std::string& s = kind.storage;
  auto require = [&](const char* path) {
    const Json* at = json::find(object, path);
    if (at == nullptr || at->empty())
      causes.push_back({"FieldValueRequired", path, "Required value"});
  };
  if (s == "/pods") require("spec.containers");
  if (s == "apps/deployments" || s == "apps/replicasets") {
    require("spec.selector");
    require("spec.template.spec.containers");
    const Json* selector = json::find(object, "spec.selector");
    const Json* labels = json::find(object, "spec.template.metadata.labels");
    Json none = Json::object();
    if (selector != nullptr &&
        !LabelSelector::fromJson(*selector).matchesLabels(labels ? *labels : none)) {
      causes.push_back(invalidValue("spec.template.metadata.labels", labels ? *labels : none,
                                    "`selector` does not match template `labels`"));
    }
    if (old != nullptr && selector != nullptr) {
      const Json* before = json::find(*old, "spec.selector");
      if (before != nullptr && *before != *selector) {
        causes.push_back(invalidValue("spec.selector", *selector, "field is immutable"));
      }
    }
  }
  if (s == "/services") {
    std::string type = json::stringAt(object, "spec.type");
    if (type != "ClusterIP" && type != "NodePort" && type != "LoadBalancer" &&
        type != "ExternalName") {
      causes.push_back({"FieldValueNotSupported", "spec.type",
                        "Unsupported value: \"" + type +
                            "\": supported values: \"ClusterIP\", \"ExternalName\", "
                            "\"LoadBalancer\", \"NodePort\""});
    }
    const Json* ports = json::find(object, "spec.ports");
    for (std::size_t i = 0; ports && ports->is_array() && i < ports->size(); ++i) {
      std::string at = "spec.ports[" + std::to_string(i) + "]";
      long long port = json::integerAt((*ports)[i], "port");
      if (port < 1 || port > 65535) {
        causes.push_back(
            invalidValue(at + ".port", port, "must be between 1 and 65535, inclusive"));
      }
      if (ports->size() > 1 && json::stringAt((*ports)[i], "name").empty()) {
        causes.push_back({"FieldValueRequired", at + ".name", "Required value"});
      }
    }
  }
  if (s == "apiextensions.k8s.io/customresourcedefinitions") return checkDefinition(object);
  return causes;
}

std::vector<schema::Cause> validateName(const schema::Kind& kind, const std::string& name) {
  if (kind.group == "rbac.authorization.k8s.io") return {};  // path segments: "system:node" is fine
  bool label = kind.storage == "/namespaces" || kind.storage == "/services";
  bool ok = !name.empty() && name.size() <= (label ? 63u : 253u);
  for (std::size_t i = 0; i < name.size() && ok; ++i) {
    char c = name[i];
    bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    bool edge = i == 0 || i + 1 == name.size();
    ok = alnum || (!edge && (c == '-' || (c == '.' && !label)));
  }
  if (kind.storage == "/services" && ok && std::isdigit(static_cast<unsigned char>(name[0]))) {
    ok = false;
  }
  if (ok) return {};
  std::string rule =
      label ? "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or "
              "'-', and must start and end with an alphanumeric character (e.g. 'my-name',  or "
              "'123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            : "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
              "'-' or '.', and must start and end with an alphanumeric character (e.g. "
              "'example.com', regex used for validation is "
              "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
  return {invalidValue("metadata.name", name, rule)};
}

void convertToStored(const schema::Kind& kind, const std::string& version, Json& object) {
  if (kind.storage == "autoscaling/horizontalpodautoscalers" && version == "v1" &&
      object.contains("spec") && object["spec"].is_object()) {
    Json& spec = object["spec"];
    if (spec.contains("targetCPUUtilizationPercentage")) {
      Json target = {{"type", "Utilization"},
                     {"averageUtilization", spec["targetCPUUtilizationPercentage"]}};
      spec["metrics"] = Json::array();
      spec["metrics"].push_back(
          {{"type", "Resource"}, {"resource", {{"name", "cpu"}, {"target", target}}}});
      spec.erase("targetCPUUtilizationPercentage");
    }
  }
  if (!kind.custom || !kind.storage_version.empty()) object["apiVersion"] = kind.storage_version;
  object["kind"] = kind.kind;
}

void convertFromStored(const schema::Kind& kind, const std::string& version, Json& object) {
  object["apiVersion"] = kind.apiVersion(version);
  object["kind"] = kind.kind;
  if (kind.storage != "autoscaling/horizontalpodautoscalers" || version != "v1") return;
  const Json* metrics = json::find(object, "spec.metrics");
  if (metrics == nullptr || !metrics->is_array()) return;
  for (const Json& m : *metrics) {
    if (const Json* v = json::find(m, "resource.target.averageUtilization")) {
      object["spec"]["targetCPUUtilizationPercentage"] = Json(*v);
      break;
    }
  }
  object["spec"].erase("metrics");
}

}  // namespace postern::apiserver
