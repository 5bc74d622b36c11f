#include "model/validate.h"

#include "model/fields.h"
#include "model/host.h"
#include "model/parse.h"

#include <re2/re2.h>

#include <algorithm>
#include <initializer_list>
#include <set>

namespace postern::model {

using fields::at;
using fields::indexed;
using fields::items;
using fields::Json;
using fields::text;

namespace {

/// Collects errors of one object.
class Check {
 public:
  void add(std::string path, std::string what) {
    errors_.push_back({std::move(path), std::move(what)});
  }
  void port(const Json& value, const std::string& path) {
    const double n = fields::number(value, 0);
    if (n >= 1 && n <= 65535) return;
    add(path, "port number " + (value.is_number() ? value.dump() : std::string("0")) +
                  " must be in the range 1..65535");
  }
  void duration(const Json& holder, const char* key, const std::string& path) {
    const Json& value = at(holder, key);
    if (value.is_null()) return;
    if (parseDuration(text(value)).empty()) {
      add(path + "." + key, "invalid duration \"" + text(value) + "\"");
    }
  }
  void host(const std::string& name, const std::string& path, bool allow_short) {
    const std::string bad = "invalid domain name \"" + name + "\"";
    if (name.empty() || name.size() > 255) return add(path, bad);
    if (name == "*") return;
    std::string_view rest = name;
    if (rest.starts_with("*.")) rest.remove_prefix(2);
    if (!allow_short && rest == name && rest.find('.') == std::string_view::npos) {
      return add(path, "short names (non FQDN) are not allowed: \"" + name + "\"");
    }
    std::size_t label = 0;
    for (std::size_t i = 0; i <= rest.size(); ++i) {
      if (i == rest.size() || rest[i] == '.') {
        if (label == 0 || label > 63 || rest[i - 1] == '-') return add(path, bad);
        label = 0;
        continue;
      }
      const char c = rest[i];
      const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (!alnum && (c != '-' || label == 0)) return add(path, bad);
      ++label;
    }
  }
  std::vector<base::ConfigError> take() { return std::move(errors_); }

 private:
  std::vector<base::ConfigError> errors_;
};

/// Ports the proxy itself listens on in a pod.
bool reservedPort(std::uint32_t port) {
  for (std::uint32_t used : {15000U, 15001U, 15004U, 15006U, 15008U, 15020U, 15021U, 15090U}) {
    if (port == used) return true;
  }
  return false;
}

void checkServer(Check& check, const Json& server, const std::string& path) {
  const Json& port = at(server, "port");
  if (port.is_null()) {
    check.add(path + ".port", "port is required");
    return;
  }
  const std::string bind = text(server, "bind");
  if (!bind.starts_with("unix://")) check.port(at(port, "number"), path + ".port.number");
  const std::uint32_t number = fields::unsignedOf(at(port, "number"));
  if (reservedPort(number)) {
    check.add(path + ".port.number",
              "port " + std::to_string(number) + " is reserved by the proxy");
  }
  if (text(port, "name").empty()) check.add(path + ".port.name", "port name must be set");
  const std::string written = text(port, "protocol");
  const Protocol protocol = parseProtocol(written);
  if (protocol == Protocol::kUnknown || protocol == Protocol::kUdp) {
    check.add(
        path + ".port.protocol",
        "invalid protocol \"" + written +
            "\", supported protocols are HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS");
  }
  if (!at(port, "targetPort").is_null()) {
    check.add(path + ".port.targetPort", "targetPort is not supported in a Gateway");
  }
  if (items(at(server, "hosts")).empty()) {
    check.add(path + ".hosts", "server config must contain at least one host");
  }
  std::size_t index = 0;
  for (std::string host : fields::texts(at(server, "hosts"))) {
    if (auto slash = host.find('/'); slash != std::string::npos) host = host.substr(slash + 1);
    check.host(host, indexed(path + ".hosts", index++), false);
  }
  const bool tls = at(server, "tls").is_object();
  if (isTls(protocol) && !tls) {
    check.add(path + ".tls", "server must have TLS settings for HTTPS/TLS protocols");
  } else if (tls && !isTls(protocol) && protocol != Protocol::kUnknown && !isHttp(protocol)) {
    check.add(path + ".tls", "server cannot have TLS settings for plain text protocols");
  }
}

void checkGateway(Check& check, const Json& spec) {
  const auto& servers = items(at(spec, "servers"));
  if (servers.empty()) check.add("spec.servers", "gateway must have at least one server");
  std::set<std::string> names;
  std::map<std::string, std::pair<bool, std::string>> families;  // bind_port → (http, written)
  for (std::size_t i = 0; i < servers.size(); ++i) {
    const std::string path = indexed("spec.servers", i);
    checkServer(check, servers[i], path);
    const Json& port = at(servers[i], "port");
    const std::string name = text(port, "name");
    if (!name.empty() && !names.insert(name).second) {
      check.add(path + ".port.name",
                "port names in servers must be unique: duplicate name " + name);
    }
    const std::string written = text(port, "protocol");
    const Protocol protocol = parseProtocol(written);
    if (protocol == Protocol::kUnknown) continue;
    const std::string number = std::to_string(fields::unsignedOf(at(port, "number")));
    auto [slot, fresh] =
        families.try_emplace(text(servers[i], "bind") + "_" + number, isHttp(protocol), written);
    if (!fresh && slot->second.first != isHttp(protocol)) {
      check.add(path + ".port.protocol", "conflicting protocols on port " + number + ": " +
                                             written + " and " + slot->second.second);
    }
  }
}

void checkStringMatch(Check& check, const Json& match, const std::string& path) {
  const std::string regex = text(match, "regex");
  if (regex.empty()) return;
  if (regex.size() > 1024) return check.add(path + ".regex", "regex is too large, max length 1024");
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 compiled(regex, options);
  if (!compiled.ok()) check.add(path + ".regex", "invalid regex: " + compiled.error());
}

void checkDestinations(Check& check, const Json& route, const std::string& path) {
  double total = 0;
  std::size_t index = 0;
  for (const Json& item : items(route)) {
    const std::string where = indexed(path, index++);
    const Json& destination = at(item, "destination");
    const std::string host = text(destination, "host");
    if (host.empty()) {
      check.add(where + ".destination.host", "destination host is required");
    } else if (host == "*") {
      check.add(where + ".destination.host", "invalid destination host *");
    } else {
      check.host(host, where + ".destination.host", true);
    }
    if (const Json& port = at(destination, "port"); !port.is_null()) {
      check.port(at(port, "number"), where + ".destination.port.number");
    }
    const double weight = fields::number(at(item, "weight"));
    if (weight < 0) {
      check.add(where + ".weight", "weight " + at(item, "weight").dump() + " < 0");
    }
    total += weight;
  }
  if (index > 1 && total == 0) check.add(path, "total destination weight = 0");
}

void checkActions(Check& check, const Json& rule, const std::string& path) {
  const bool route = !items(at(rule, "route")).empty();
  const bool redirect = at(rule, "redirect").is_object();
  const bool direct = at(rule, "directResponse").is_object();
  const bool delegate = at(rule, "delegate").is_object();
  if (!route && !redirect && !direct && !delegate) {
    check.add(path, "HTTP route, redirect or direct_response is required");
  }
  if ((redirect || direct) && route) {
    check.add(path, "HTTP route cannot contain both route and redirect or direct_response");
  }
  if (redirect && direct) {
    check.add(path, "HTTP route cannot contain both redirect and direct_response");
  }
  if ((redirect || direct) && at(rule, "rewrite").is_object()) {
    check.add(path + ".rewrite", "HTTP route rule cannot contain both rewrite and redirect");
  }
  if ((redirect || direct) && at(rule, "fault").is_object()) {
    check.add(path + ".fault", "HTTP route cannot contain both fault and redirect");
  }
  if (redirect) {
    const Json& code = at(at(rule, "redirect"), "redirectCode");
    const double n = fields::number(code, 301);
    if (n != 0 && (n < 300 || n > 399)) {
      check.add(path + ".redirect.redirectCode",
                "redirect code " + code.dump() + " must be in the range 300..399");
    }
  }
  if (direct) {
    const double n = fields::number(at(at(rule, "directResponse"), "status"));
    if (n < 200 || n > 599) {
      check.add(path + ".directResponse.status", "status must be in the range 200..599");
    }
  }
}

void checkFault(Check& check, const Json& fault, const std::string& path) {
  if (!fault.is_object()) return;
  if (!at(fault, "delay").is_object() && !at(fault, "abort").is_object()) {
    check.add(path, "HTTP fault injection must have an abort and/or a delay");
  }
  check.duration(at(fault, "delay"), "fixedDelay", path + ".delay");
  for (const char* part : {"delay", "abort"}) {
    const double percent = fields::number(at(at(at(fault, part), "percentage"), "value"));
    if (percent < 0 || percent > 100) {
      check.add(path + "." + part + ".percentage.value", "percentage must be in the range 0..100");
    }
  }
}

void checkHttpRule(Check& check, const Json& rule, const std::string& path) {
  checkActions(check, rule, path);
  std::size_t index = 0;
  for (const Json& match : items(at(rule, "match"))) {
    const std::string where = indexed(path + ".match", index++);
    for (const char* key : {"uri", "scheme", "method", "authority"}) {
      checkStringMatch(check, at(match, key), where + "." + key);
    }
    for (const char* key : {"headers", "withoutHeaders", "queryParams"}) {
      const Json& map = at(match, key);
      if (!map.is_object()) continue;
      for (const auto& [name, value] : map.items()) {
        checkStringMatch(check, value, where + "." + key + "[" + name + "]");
      }
    }
    if (!at(match, "port").is_null()) check.port(at(match, "port"), where + ".port");
  }
  checkDestinations(check, at(rule, "route"), path + ".route");
  check.duration(rule, "timeout", path);
  const Json& retries = at(rule, "retries");
  if (fields::number(at(retries, "attempts")) < 0) {
    check.add(path + ".retries.attempts", "attempts cannot be negative");
  }
  check.duration(retries, "perTryTimeout", path + ".retries");
  checkFault(check, at(rule, "fault"), path + ".fault");
}

void checkVirtualService(Check& check, const Json& spec) {
  const auto& hosts = items(at(spec, "hosts"));
  if (hosts.empty()) check.add("spec.hosts", "virtual service must have at least one host");
  std::set<std::string> seen;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const std::string host = text(hosts[i]);
    const std::string path = indexed("spec.hosts", i);
    check.host(host, path, true);
    if (!seen.insert(host).second) check.add(path, "duplicate hosts in virtual service: " + host);
    const auto gateways = fields::texts(at(spec, "gateways"));
    const bool mesh =
        gateways.empty() || std::find(gateways.begin(), gateways.end(), "mesh") != gateways.end();
    if (host == "*" && mesh) {
      check.add(path,
                "wildcard host * is not allowed for virtual services bound to the mesh gateway");
    }
  }
  if (items(at(spec, "http")).empty() && items(at(spec, "tls")).empty() &&
      items(at(spec, "tcp")).empty()) {
    check.add("spec", "http, tcp or tls must be provided in virtual service");
  }
  std::size_t index = 0;
  for (const Json& rule : items(at(spec, "http"))) {
    checkHttpRule(check, rule, indexed("spec.http", index++));
  }
  for (const char* kind : {"tls", "tcp"}) {
    index = 0;
    for (const Json& rule : items(at(spec, kind))) {
      const std::string path = indexed(std::string("spec.") + kind, index++);
      if (items(at(rule, "route")).empty()) check.add(path + ".route", "route is required");
      checkDestinations(check, at(rule, "route"), path + ".route");
      if (std::string_view(kind) != "tls") continue;
      if (items(at(rule, "match")).empty())
        check.add(path + ".match", "TLS route must have at least one match condition");
      std::size_t m = 0;
      for (const Json& match : items(at(rule, "match"))) {
        const std::string where = indexed(path + ".match", m++);
        if (items(at(match, "sniHosts")).empty()) {
          check.add(where + ".sniHosts", "TLS match must have at least one SNI host");
        }
      }
    }
  }
}

void checkServiceEntry(Check& check, const Json& spec) {
  const auto& hosts = items(at(spec, "hosts"));
  if (hosts.empty()) check.add("spec.hosts", "service entry must have at least one host");
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const std::string path = indexed("spec.hosts", i);
    if (text(hosts[i]) == "*") check.add(path, "invalid host *");
    check.host(text(hosts[i]), path, true);
  }
  const auto& ports = items(at(spec, "ports"));
  if (ports.empty()) check.add("spec.ports", "service entry must have at least one port");
  std::set<std::string> names;
  std::set<std::uint32_t> numbers;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::string path = indexed("spec.ports", i);
    check.port(at(ports[i], "number"), path + ".number");
    const std::uint32_t number = fields::unsignedOf(at(ports[i], "number"));
    if (!numbers.insert(number).second) {
      check.add(path + ".number",
                "service entry port " + std::to_string(number) + " already defined");
    }
    const std::string name = text(ports[i], "name");
    if (name.empty()) {
      check.add(path + ".name", "port name must be set");
    } else if (!names.insert(name).second) {
      check.add(path + ".name", "service entry port name \"" + name + "\" already defined");
    }
    const std::string protocol = text(ports[i], "protocol");
    if (!protocol.empty() && parseProtocol(protocol) == Protocol::kUnknown) {
      check.add(path + ".protocol", "invalid protocol \"" + protocol + "\"");
    }
  }
  const std::string resolution = text(spec, "resolution");
  const bool endpoints = !items(at(spec, "endpoints")).empty();
  if (endpoints && (resolution.empty() || resolution == "NONE")) {
    check.add("spec.endpoints", "no endpoints should be provided for resolution type none");
  }
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    if (resolution.starts_with("DNS") && !endpoints && text(hosts[i]).starts_with("*")) {
      check.add(indexed("spec.hosts", i),
                "hosts must be FQDN if no endpoints are provided for resolution mode DNS");
    }
  }
}

void checkDestinationRule(Check& check, const Json& spec) {
  check.host(text(spec, "host"), "spec.host", true);
  std::set<std::string> names;
  std::size_t index = 0;
  for (const Json& subset : items(at(spec, "subsets"))) {
    const std::string path = indexed("spec.subsets", index++);
    const std::string name = text(subset, "name");
    if (name.empty()) check.add(path + ".name", "subset name must be set");
    if (!name.empty() && !names.insert(name).second) {
      check.add(path + ".name", "duplicate subset name: " + name);
    }
  }
}

void checkSidecar(Check& check, const Json& spec) {
  if (spec.size() == 0) check.add("spec", "sidecar: empty configuration provided");
  std::size_t index = 0;
  for (const Json& listener : items(at(spec, "egress"))) {
    const std::string path = indexed("spec.egress", index++);
    if (const Json& port = at(listener, "port"); !port.is_null()) {
      check.port(at(port, "number"), path + ".port.number");
    }
    if (items(at(listener, "hosts")).empty()) {
      check.add(path + ".hosts", "sidecar: egress listener must contain at least one host");
    }
    std::size_t h = 0;
    for (const std::string& host : fields::texts(at(listener, "hosts"))) {
      const std::string where = indexed(path + ".hosts", h++);
      if (host.find('/') == std::string::npos) {
        check.add(where, "sidecar: host must be of form namespace/dnsName");
      }
    }
  }
}

}  // namespace

std::vector<base::ConfigError> validate(std::string_view kind, const Json& object) {
  Check check;
  const Json& spec = at(object, "spec");
  if (kind == "Gateway") checkGateway(check, spec);
  if (kind == "VirtualService") checkVirtualService(check, spec);
  if (kind == "ServiceEntry") checkServiceEntry(check, spec);
  if (kind == "DestinationRule") checkDestinationRule(check, spec);
  if (kind == "Sidecar") checkSidecar(check, spec);
  return check.take();
}

}  // namespace postern::model
