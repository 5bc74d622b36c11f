#include "operator/mesh_validate.h"

#include <nlohmann/json.hpp>

#include <set>
#include <string>

namespace postern::op {
namespace {

using json::Json;
using Errors = std::vector<base::ConfigError>;

void oneOf(const Json& object, const std::string& path, const char* key,
           const std::set<std::string>& allowed, bool required, Errors& errors) {
  auto it = object.find(key);
  if (it == object.end() || it->is_null() || (it->is_string() && it->get<std::string>().empty())) {
    if (required) errors.push_back({path + "." + key, "Required value"});
    return;
  }
  if (it->is_string() && allowed.contains(it->get<std::string>())) return;
  std::string list;
  for (const std::string& each : allowed) list += (list.empty() ? "\"" : ", \"") + each + "\"";
  errors.push_back(
      {path + "." + key, "Unsupported value: " + json::dump(*it) + ": supported values: " + list});
}

bool portInRange(const Json& port, const char* key) {
  auto it = port.find(key);
  if (it == port.end() || !it->is_number_integer()) return it == port.end() || it->is_string();
  const auto number = it->get<long long>();
  return number >= 1 && number <= 65535;
}

void checkPorts(const Json& spec, const std::string& path, Errors& errors) {
  auto it = spec.find("ports");
  if (it == spec.end()) return;
  if (!it->is_array()) {
    errors.push_back({path + ".ports", "must be a list"});
    return;
  }
  std::set<std::string> names;
  for (std::size_t i = 0; i < it->size(); ++i) {
    const Json& port = (*it)[i];
    const std::string at = path + ".ports[" + std::to_string(i) + "]";
    if (!port.is_object() || !port.contains("port")) {
      errors.push_back({at + ".port", "Required value"});
      continue;
    }
    for (const char* key : {"port", "targetPort"}) {
      if (!portInRange(port, key)) {
        errors.push_back({at + "." + key, "Invalid value: " + json::dump(port[key]) +
                                              ": must be between 1 and 65535, inclusive"});
      }
    }
    std::string name = json::stringAt(port, "name");
    if (it->size() > 1 && name.empty()) errors.push_back({at + ".name", "Required value"});
    if (!name.empty() && !names.insert(name).second) {
      errors.push_back({at + ".name", "Duplicate value: \"" + name + "\""});
    }
  }
}

void checkReplicas(const Json& spec, const std::string& path, Errors& errors) {
  for (const char* key : {"replicaCount", "minReplicas", "maxReplicas"}) {
    if (json::integerAt(spec, key, 0) < 0)
      errors.push_back({path + "." + key, "must be greater than or equal to 0"});
  }
  if (json::integerAt(spec, "minReplicas", 1) > json::integerAt(spec, "maxReplicas", 1) &&
      spec.contains("maxReplicas")) {
    errors.push_back({path + ".maxReplicas", "must be greater than or equal to minReplicas"});
  }
}

void checkGateway(const Json& spec, const std::string& path, Errors& errors) {
  oneOf(spec, path, "serviceType", {"ClusterIP", "NodePort", "LoadBalancer"}, false, errors);
  checkPorts(spec, path, errors);
  checkReplicas(spec, path, errors);
}

/// Unset, empty, false, or an object that says enabled: false.
bool asksForNothing(const Json& value) {
  if (value.is_object() && value.contains("enabled")) return !json::boolAt(value, "enabled");
  return value.is_null() || value == false || value == "" ||
         ((value.is_object() || value.is_array()) && value.empty());
}

void ineffective(const Json& object, const std::string& path,
                 const std::set<std::string>& effective, Errors& out) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    if (effective.contains(key) || asksForNothing(value)) continue;
    out.push_back({path + "." + key, "not implemented, has no effect"});
  }
}

}  // namespace

Errors meshWarnings(std::string_view kind, const Json& object) {
  static const std::set<std::string> kMesh{"version",
                                           "autoMtls",
                                           "imagePullPolicy",
                                           "outboundTrafficPolicy",
                                           "clusterName",
                                           "trustDomain",
                                           "meshID",
                                           "gateways",
                                           "proxy",
                                           "sidecarInjector",
                                           "defaultPodDisruptionBudget"};
  static const std::set<std::string> kProxy{"image", "clusterDomain", "accessLogFile",
                                            "accessLogFormat", "accessLogEncoding"};
  static const std::set<std::string> kGateways{"enabled", "ingress", "egress"};
  Errors out;
  const Json spec = object.value("spec", Json::object());
  if (kind != "Istio" || !spec.is_object()) return out;
  ineffective(spec, "spec", kMesh, out);
  const Json nothing = Json::object();
  ineffective(spec.value("proxy", nothing), "spec.proxy", kProxy, out);
  ineffective(spec.value("gateways", nothing), "spec.gateways", kGateways, out);
  ineffective(spec.value("sidecarInjector", nothing), "spec.sidecarInjector", {"enabled"}, out);
  if (json::stringAt(spec, "proxy.accessLogEncoding", "TEXT") == "JSON") {
    out.push_back({"spec.proxy.accessLogEncoding", "JSON is not implemented, lines are text"});
  }
  if (!json::boolAt(spec, "defaultPodDisruptionBudget.enabled", true)) {
    out.push_back({"spec.defaultPodDisruptionBudget.enabled",
                   "has no effect, every gateway has a disruption budget"});
  }
  return out;
}

Errors validateMesh(std::string_view kind, const Json& object) {
  Errors errors;
  const Json spec = object.value("spec", Json::object());
  if (!spec.is_object()) return {{"spec", "must be an object"}};
  if (kind == "MeshGateway") {
    oneOf(spec, "spec", "type", {"ingress", "egress"}, true, errors);
    checkGateway(spec, "spec", errors);
  } else if (kind == "Istio") {
    if (const Json* policy = json::find(spec, "outboundTrafficPolicy");
        policy != nullptr && policy->is_object()) {
      oneOf(*policy, "spec.outboundTrafficPolicy", "mode", {"ALLOW_ANY", "REGISTRY_ONLY"}, false,
            errors);
    }
    for (const char* type : {"ingress", "egress"}) {
      const Json* gateway = json::find(spec, std::string("gateways.") + type);
      if (gateway != nullptr && gateway->is_object())
        checkGateway(*gateway, std::string("spec.gateways.") + type, errors);
    }
  }
  return errors;
}

}  // namespace postern::op
