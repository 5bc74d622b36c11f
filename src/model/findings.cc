#include "model/findings.h"

#include "model/fields.h"
#include "model/host.h"
#include "model/parse.h"

#include <algorithm>
#include <set>

namespace postern::model {

using fields::at;
using fields::indexed;
using fields::items;
using fields::Json;
using fields::text;

namespace {

using Level = Finding::Level;

struct Code {
  const char* code;
  const char* name;
};
constexpr Code kNotFound{"IST0101", "ReferencedResourceNotFound"};
constexpr Code kConflictingHosts{"IST0109", "ConflictingMeshGatewayVirtualServiceHosts"};
constexpr Code kNoWorkload{"IST0127", "NoMatchingWorkloadsFound"};
constexpr Code kUnreachable{"IST0130", "VirtualServiceUnreachableRule"};
constexpr Code kHostNotInGateway{"IST0132", "VirtualServiceHostNotFoundInGateway"};
constexpr Code kIneffective{"IST0133", "SchemaWarning"};
constexpr Code kConflictingGateways{"IST0145", "ConflictingGateways"};

class Findings {
 public:
  void add(const Code& code, std::string path, std::string what, Level level = Level::kWarning) {
    out_.push_back({level, std::move(path), std::move(what), code.code, code.name});
  }
  void notImplemented(const Json& holder, std::initializer_list<const char*> keys,
                      const std::string& path) {
    for (const char* key : keys) {
      if (at(holder, key).is_null()) continue;
      add(kIneffective, path + "." + key, "not implemented yet, has no effect");
    }
  }
  std::vector<Finding> take() { return std::move(out_); }

 private:
  std::vector<Finding> out_;
};

/// Whether a server of the gateway takes the host of a VirtualService in `ns`.
bool gatewayTakes(const Gateway& gateway, const std::string& host, const std::string& ns) {
  for (const Server& server : gateway.servers) {
    for (std::string written : server.hosts) {
      if (const auto slash = written.find('/'); slash != std::string::npos) {
        std::string of = written.substr(0, slash);
        if (of == ".") of = gateway.meta.origin.ns;
        if (of != "*" && of != ns) continue;
        written = written.substr(slash + 1);
      }
      if (!hostIntersection(written, host).empty()) return true;
    }
  }
  return false;
}

void checkGatewaysOf(const VirtualService& vs, const Lookup& lookup, Findings& out) {
  std::vector<const Gateway*> bound;
  for (std::size_t i = 0; i < vs.gateways.size(); ++i) {
    const std::string& name = vs.gateways[i];
    const auto slash = name.find('/');
    if (name == "mesh" || slash == std::string::npos) continue;
    const std::string_view view = name;
    if (const Gateway* found = lookup.gateway(view.substr(0, slash), view.substr(slash + 1))) {
      bound.push_back(found);
    } else {
      out.add(kNotFound, indexed("spec.gateways", i), "gateway " + name + " not found");
    }
  }
  const bool mesh = std::find(vs.gateways.begin(), vs.gateways.end(), "mesh") != vs.gateways.end();
  for (std::size_t i = 0; i < vs.hosts.size(); ++i) {
    const bool taken = std::any_of(bound.begin(), bound.end(), [&](const Gateway* gateway) {
      return gatewayTakes(*gateway, vs.hosts[i], vs.meta.origin.ns);
    });
    if (!bound.empty() && !taken && !mesh) {
      out.add(kHostNotInGateway, indexed("spec.hosts", i),
              "host " + vs.hosts[i] + " is not served by any of the gateways");
    }
    if (!mesh || vs.http.empty()) continue;
    const std::string owner = lookup.meshRuleOf(vs.hosts[i]);
    if (!owner.empty() && owner != vs.meta.origin.ns + "/" + vs.meta.origin.name) {
      out.add(kConflictingHosts, indexed("spec.hosts", i),
              "sidecars obey the older VirtualService " + owner + " for this host");
    }
  }
}

void findDestination(const Destination& to, const std::string& path, const Lookup& lookup,
                     Findings& out) {
  if (!lookup.hasHost(to.host)) {
    out.add(kNotFound, path + ".destination.host", "host " + to.host + " not found");
  } else if (!to.subset.empty() && !lookup.hasSubset(to.host, to.subset)) {
    out.add(kNotFound, path + ".destination.subset",
            "subset " + to.subset + " of host " + to.host + " not found");
  }
}

void checkDestinations(const VirtualService& vs, const Lookup& lookup, Findings& out) {
  const auto all = [&](const std::vector<WeightedDestination>& list, const std::string& path) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      findDestination(list[i].destination, indexed(path + ".route", i), lookup, out);
    }
  };
  for (const HttpRule& rule : vs.http) all(rule.destinations, rule.path);
  for (const auto* rules : {&vs.tls, &vs.tcp}) {
    for (const L4Rule& rule : *rules) all(rule.destinations, rule.path);
  }
}

/// The conditions of a match without its name, to compare matches.
Json conditions(Json match) {
  if (match.is_object()) {
    match.erase("name");
    match.erase("statPrefix");
  }
  return match;
}

bool matchesEverything(const Json& match) {
  Json left = conditions(match);
  if (!left.is_object()) return false;
  const Json& uri = at(left, "uri");
  if (text(uri, "prefix") == "/" || text(uri, "regex") == ".*") left.erase("uri");
  left.erase("ignoreUriCase");
  return left.empty();
}

/// Rules that no request reaches, and matches written twice.
void checkOrder(const Json& rules, Findings& out) {
  std::string caught;
  std::vector<std::pair<Json, std::string>> seen;
  std::size_t index = 0;
  for (const Json& rule : items(rules)) {
    const std::string path = indexed("spec.http", index++);
    if (!caught.empty()) {
      out.add(kUnreachable, path, "rule is not used: " + caught + " matches every request");
      continue;
    }
    const auto& matches = items(at(rule, "match"));
    if (matches.empty()) caught = path;
    for (std::size_t i = 0; i < matches.size(); ++i) {
      const std::string where = indexed(path + ".match", i);
      Json wanted = conditions(matches[i]);
      const auto same = std::find_if(seen.begin(), seen.end(),
                                     [&](const auto& entry) { return entry.first == wanted; });
      if (!caught.empty()) {
        out.add(kUnreachable, where, "match is not used: " + caught + " matches every request");
      } else if (same != seen.end()) {
        out.add(kUnreachable, where, "match is not used: it repeats " + same->second);
      } else {
        seen.emplace_back(std::move(wanted), where);
      }
      if (caught.empty() && matchesEverything(matches[i])) caught = where;
    }
  }
}

void checkVirtualService(const Json& object, const Lookup* lookup, Findings& out) {
  const Json& spec = at(object, "spec");
  if (lookup != nullptr) {
    const VirtualService vs = parseVirtualService(object, "cluster.local");
    checkGatewaysOf(vs, *lookup, out);
    checkDestinations(vs, *lookup, out);
  }
  checkOrder(at(spec, "http"), out);
  std::size_t index = 0;
  for (const Json& rule : items(at(spec, "http"))) {
    const std::string path = indexed("spec.http", index++);
    out.notImplemented(rule, {"mirror", "mirrors", "mirrorPercentage", "corsPolicy", "delegate"},
                       path);
    out.notImplemented(at(rule, "retries"), {"retryRemoteLocalities"}, path + ".retries");
  }
}

void checkGateway(const Json& object, const Lookup* lookup, Findings& out) {
  const Json& spec = at(object, "spec");
  std::size_t index = 0;
  for (const Json& server : items(at(spec, "servers"))) {
    const std::string path = indexed("spec.servers", index++);
    const Json& tls = at(server, "tls");
    if (tls.is_object() && !fields::truth(at(tls, "httpsRedirect"))) {
      out.add(kIneffective, path + ".tls", "TLS is not implemented yet, the server is not opened",
              Level::kError);
    }
    out.notImplemented(server, {"defaultEndpoint"}, path);
  }
  if (lookup != nullptr) {
    const Gateway gateway = parseGateway(object);
    for (const Server& server : gateway.servers) {
      const std::string other = lookup->portTakenBy(gateway, server);
      if (other.empty()) continue;
      out.add(kConflictingGateways, server.path + ".port",
              "port " + std::to_string(server.port) + " is open for another protocol by gateway " +
                  other + ", which is older; the server is not opened",
              Level::kError);
    }
  }
  const Labels selector = fields::labels(at(spec, "selector"));
  if (lookup != nullptr && !selector.empty() && !lookup->hasWorkload(selector)) {
    std::string written;
    for (const auto& [key, value] : selector) {
      written += (written.empty() ? "" : ",") + key + "=" + value;
    }
    out.add(kNoWorkload, "spec.selector", "no pod has the labels " + written);
  }
}

void findPolicy(const Json& policy, const std::string& path, Findings& out) {
  out.notImplemented(policy, {"outlierDetection", "tunnel", "proxyProtocol", "retryBudget"}, path);
  if (const Json& tls = at(policy, "tls"); tls.is_object() && text(tls, "mode") != "DISABLE") {
    out.add(kIneffective, path + ".tls", "not implemented yet, has no effect");
  }
  out.notImplemented(at(policy, "loadBalancer"),
                     {"consistentHash", "backendUtilization", "localityLbSetting",
                      "zoneAwareLbSetting", "warmup", "warmupDurationSecs"},
                     path + ".loadBalancer");
}

void checkDestinationRule(const Json& object, const Lookup* lookup, Findings& out) {
  const Json& spec = at(object, "spec");
  findPolicy(at(spec, "trafficPolicy"), "spec.trafficPolicy", out);
  std::size_t index = 0;
  for (const Json& subset : items(at(spec, "subsets"))) {
    const std::string path = indexed("spec.subsets", index++);
    findPolicy(at(subset, "trafficPolicy"), path + ".trafficPolicy", out);
  }
  const std::string host = parseDestinationRule(object, "cluster.local").host;
  if (lookup != nullptr && !host.starts_with("*") && !lookup->hasHost(host)) {
    out.add(kNotFound, "spec.host", "host " + host + " not found");
  }
}

void checkServiceEntry(const Json& object, Findings& out) {
  const Json& spec = at(object, "spec");
  if (text(spec, "resolution") == "DYNAMIC_DNS") {
    out.add(kIneffective, "spec.resolution", "DYNAMIC_DNS is not implemented yet, works as NONE");
  }
  std::size_t index = 0;
  for (const Json& port : items(at(spec, "ports"))) {
    const std::string path = indexed("spec.ports", index++);
    if (parseProtocol(text(port, "protocol")) == Protocol::kTcp &&
        items(at(spec, "addresses")).empty()) {
      out.add({"IST0134", "ServiceEntryAddressesRequired"}, path,
              "TCP without spec.addresses takes every destination of this port");
    }
  }
}

void checkSidecar(const Json& object, const Lookup* lookup, Findings& out) {
  const Json& spec = at(object, "spec");
  out.notImplemented(spec, {"ingress", "inboundConnectionPool"}, "spec");
  out.notImplemented(at(spec, "outboundTrafficPolicy"), {"egressProxy"},
                     "spec.outboundTrafficPolicy");
  std::size_t index = 0;
  for (const Json& listener : items(at(spec, "egress"))) {
    const std::string path = indexed("spec.egress", index++);
    out.notImplemented(listener, {"bind", "captureMode"}, path);
  }
  const Labels selector = fields::labels(at(at(spec, "workloadSelector"), "labels"));
  if (lookup != nullptr && !selector.empty() && !lookup->hasWorkload(selector)) {
    out.add(kNoWorkload, "spec.workloadSelector", "no pod has these labels");
  }
}

constexpr const char* kCondition = "PassedValidation";

Json condition(const std::vector<Finding>& findings, long long generation, std::string_view now) {
  const bool errors = std::any_of(findings.begin(), findings.end(),
                                  [](const Finding& f) { return f.level == Level::kError; });
  std::string message;
  for (const Finding& finding : findings) {
    message += (message.empty() ? "" : "; ") + finding.message();
  }
  return {{"type", kCondition},
          {"status", findings.empty() ? "True" : "False"},
          {"reason", findings.empty() ? "noErrorsFound"
                     : errors         ? "errorsFound"
                                      : "warningsFound"},
          {"message", findings.empty() ? "No errors found" : message},
          {"observedGeneration", generation},
          {"lastTransitionTime", now}};
}

}  // namespace

std::vector<Finding> findings(std::string_view kind, const Json& object, const Lookup* lookup) {
  Findings out;
  if (kind == "VirtualService") checkVirtualService(object, lookup, out);
  if (kind == "Gateway") checkGateway(object, lookup, out);
  if (kind == "DestinationRule") checkDestinationRule(object, lookup, out);
  if (kind == "ServiceEntry") checkServiceEntry(object, out);
  if (kind == "Sidecar") checkSidecar(object, lookup, out);
  return out.take();
}

Json statusWith(const Json& object, const std::vector<Finding>& findings, std::string_view now) {
  const Json& status = at(object, "status");
  Json conditions = Json::array();
  const Json* before = nullptr;
  for (const Json& each : items(at(status, "conditions"))) {
    if (text(each, "type") == kCondition) {
      before = &each;
    } else {
      conditions.push_back(each);
    }
  }
  if (before == nullptr && findings.empty()) return nullptr;
  const Json& generation = at(at(object, "metadata"), "generation");
  Json wanted =
      condition(findings, generation.is_number_integer() ? generation.get<long long>() : 0, now);
  if (before != nullptr) {
    Json same = wanted;
    same["lastTransitionTime"] = at(*before, "lastTransitionTime");
    if (same == *before) return nullptr;
    if (text(*before, "status") == text(wanted, "status")) wanted = std::move(same);
  }
  conditions.push_back(std::move(wanted));
  Json messages = Json::array();
  for (const Finding& finding : findings) {
    messages.push_back({{"level", finding.level == Level::kError ? "ERROR" : "WARNING"},
                        {"type", {{"code", finding.code}, {"name", finding.name}}},
                        {"documentationUrl", std::string("https://istio.io/latest/docs/reference/"
                                                         "config/analysis/") +
                                                 finding.code + "/"},
                        {"message", finding.message()}});
  }
  Json out = status.is_object() ? status : Json::object();
  out["conditions"] = std::move(conditions);
  out["validationMessages"] = std::move(messages);
  return out;
}

}  // namespace postern::model
