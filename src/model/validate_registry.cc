// What a ServiceEntry, a DestinationRule and a Sidecar may not say.
#include "base/strings.h"
#include "model/check.h"
#include "model/parse.h"

#include <set>

namespace postern::model {

using fields::at;
using fields::indexed;
using fields::items;
using fields::Json;
using fields::text;

namespace {

void checkEntryPorts(Check& check, const Json& spec) {
  const auto& ports = items(at(spec, "ports"));
  if (ports.empty()) check.add("spec.ports", "service entry must have at least one port");
  const bool several = items(at(spec, "hosts")).size() > 1;
  const std::string resolution = text(spec, "resolution");
  const bool none = resolution.empty() || resolution == "NONE";
  std::set<std::string> names;
  std::set<std::uint32_t> numbers;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::string path = indexed("spec.ports", i);
    check.port(at(ports[i], "number"), path + ".number");
    if (!at(ports[i], "targetPort").is_null() && fields::number(at(ports[i], "targetPort")) != 0) {
      check.port(at(ports[i], "targetPort"), path + ".targetPort");
    }
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
    if (several && !none && parseProtocol(protocol) == Protocol::kTcp) {
      check.add(path + ".protocol", "a TCP port needs a service entry with one host");
    }
  }
}

void checkEndpoint(Check& check, const Json& spec, const Json& endpoint, const std::string& path) {
  const std::string address = text(endpoint, "address");
  const std::string resolution = text(spec, "resolution");
  const bool unix_socket = address.starts_with("unix://");
  if (address.empty()) {
    check.add(path + ".address", "address is required");
  } else if (resolution == "STATIC" && !unix_socket && !isIpAddress(address)) {
    check.add(path + ".address", "\"" + address +
                                     "\" must be an IP address or unix:// for "
                                     "resolution STATIC");
  } else if (resolution.starts_with("DNS") && !isIpAddress(address)) {
    check.host(address, path + ".address", true);
  }
  const Json& ports = at(endpoint, "ports");
  if (!ports.is_object()) return;
  for (const auto& [name, number] : ports.items()) {
    bool known = false;
    for (const Json& port : items(at(spec, "ports"))) known = known || text(port, "name") == name;
    const std::string where = path + ".ports[" + name + "]";
    if (!known) check.add(where, "the service entry has no port of this name");
    check.port(number, where);
  }
}

void checkResolution(Check& check, const Json& spec) {
  const std::string resolution = text(spec, "resolution");
  const bool none = resolution.empty() || resolution == "NONE";
  const auto& endpoints = items(at(spec, "endpoints"));
  const bool selector = at(spec, "workloadSelector").is_object();
  if (selector && !endpoints.empty()) {
    check.add("spec.endpoints", "endpoints and workloadSelector exclude each other");
  }
  if (!endpoints.empty() && none) {
    check.add("spec.endpoints", "no endpoints should be provided for resolution type none");
  }
  if (resolution == "DNS_ROUND_ROBIN" && endpoints.size() > 1) {
    check.add("spec.endpoints",
              "there must only be 0 or 1 endpoint for resolution mode "
              "DNS_ROUND_ROBIN");
  }
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    checkEndpoint(check, spec, endpoints[i], indexed("spec.endpoints", i));
  }
  const auto addresses = fields::texts(at(spec, "addresses"));
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const std::string path = indexed("spec.addresses", i);
    const bool range = addresses[i].find('/') != std::string::npos;
    if (!isCidr(addresses[i])) {
      check.add(path, "\"" + addresses[i] + "\" is neither an address nor a CIDR");
    } else if (range && !none && resolution != "STATIC") {
      check.add(path, "CIDR addresses are allowed only for NONE/STATIC resolution types");
    }
  }
}

}  // namespace

void checkServiceEntry(Check& check, const Json& spec) {
  const auto& hosts = items(at(spec, "hosts"));
  if (hosts.empty()) check.add("spec.hosts", "service entry must have at least one host");
  const bool dns = text(spec, "resolution").starts_with("DNS");
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const std::string path = indexed("spec.hosts", i);
    if (text(hosts[i]) == "*") check.add(path, "invalid host *");
    check.host(text(hosts[i]), path, true);
    if (dns && items(at(spec, "endpoints")).empty() && text(hosts[i]).starts_with("*")) {
      check.add(path, "hosts must be FQDN if no endpoints are provided for resolution mode DNS");
    }
  }
  checkEntryPorts(check, spec);
  checkResolution(check, spec);
  check.exportTo(spec);
  std::size_t index = 0;
  for (const std::string& ns : fields::texts(at(spec, "exportTo"))) {
    if (ns == "~") check.add(indexed("spec.exportTo", index), "\"~\" is not allowed here");
    ++index;
  }
}

namespace {

void checkPool(Check& check, const Json& pool, const std::string& path) {
  if (!pool.is_object()) return;
  const Json& tcp = at(pool, "tcp");
  const Json& http = at(pool, "http");
  if (!tcp.is_object() && !http.is_object()) {
    check.add(path, "connection pool must have at least one field");
  }
  check.atLeast(tcp, "maxConnections", 0, path + ".tcp");
  for (const char* key : {"connectTimeout", "maxConnectionDuration"}) {
    check.duration(tcp, key, path + ".tcp");
  }
  for (const char* key : {"http1MaxPendingRequests", "http2MaxRequests", "maxRequestsPerConnection",
                          "maxRetries", "maxConcurrentStreams"}) {
    check.atLeast(http, key, 0, path + ".http");
  }
  check.duration(http, "idleTimeout", path + ".http");
  if (fields::truth(at(http, "useClientProtocol")) && text(http, "h2UpgradePolicy") == "UPGRADE") {
    check.add(path + ".http.useClientProtocol", "cannot be combined with h2UpgradePolicy UPGRADE");
  }
}

void checkPolicy(Check& check, const Json& policy, const std::string& path) {
  checkPool(check, at(policy, "connectionPool"), path + ".connectionPool");
  const Json& outlier = at(policy, "outlierDetection");
  for (const char* key : {"interval", "baseEjectionTime"}) {
    check.duration(outlier, key, path + ".outlierDetection");
  }
  const Json& tls = at(policy, "tls");
  if (text(tls, "mode") == "MUTUAL" && text(tls, "credentialName").empty()) {
    for (const char* key : {"clientCertificate", "privateKey"}) {
      if (text(tls, key).empty()) {
        check.add(path + ".tls." + key, "is required for mutual TLS without credentialName");
      }
    }
  }
}

void checkTrafficPolicy(Check& check, const Json& policy, const std::string& path) {
  if (!policy.is_object()) return;
  if (policy.empty()) check.add(path, "traffic policy must have at least one field");
  checkPolicy(check, policy, path);
  std::size_t index = 0;
  for (const Json& entry : items(at(policy, "portLevelSettings"))) {
    const std::string where = indexed(path + ".portLevelSettings", index++);
    if (at(entry, "port").is_null()) {
      check.add(where + ".port", "port is required");
    } else {
      check.port(at(at(entry, "port"), "number"), where + ".port.number");
    }
    if (entry.size() < 2) check.add(where, "port level settings must say something about the port");
    checkPolicy(check, entry, where);
  }
}

}  // namespace

void checkDestinationRule(Check& check, const Json& spec) {
  check.host(text(spec, "host"), "spec.host", true);
  check.exportTo(spec);
  checkTrafficPolicy(check, at(spec, "trafficPolicy"), "spec.trafficPolicy");
  std::set<std::string> names;
  std::size_t index = 0;
  for (const Json& subset : items(at(spec, "subsets"))) {
    const std::string path = indexed("spec.subsets", index++);
    const std::string name = text(subset, "name");
    if (name.empty()) {
      check.add(path + ".name", "subset name must be set");
    } else {
      check.dnsLabel(name, path + ".name");
    }
    if (!name.empty() && !names.insert(name).second) {
      check.add(path + ".name", "duplicate subset name: " + name);
    }
    checkTrafficPolicy(check, at(subset, "trafficPolicy"), path + ".trafficPolicy");
  }
}

void checkSidecar(Check& check, const Json& spec) {
  if (spec.size() == 0) check.add("spec", "sidecar: empty configuration provided");
  const auto& listeners = items(at(spec, "egress"));
  std::set<std::uint32_t> ports;
  for (std::size_t i = 0; i < listeners.size(); ++i) {
    const std::string path = indexed("spec.egress", i);
    const Json& port = at(listeners[i], "port");
    if (port.is_null()) {
      if (i + 1 != listeners.size()) {
        check.add(path, "sidecar: the egress listener without port must be the last one");
      }
    } else {
      check.port(at(port, "number"), path + ".port.number");
      if (!ports.insert(fields::unsignedOf(at(port, "number"))).second) {
        check.add(path + ".port.number", "sidecar: ports on egress listeners must be unique");
      }
    }
    if (items(at(listeners[i], "hosts")).empty()) {
      check.add(path + ".hosts", "sidecar: egress listener must contain at least one host");
    }
    std::size_t h = 0;
    for (const std::string& written : fields::texts(at(listeners[i], "hosts"))) {
      const std::string where = indexed(path + ".hosts", h++);
      const auto slash = written.find('/');
      if (slash == std::string::npos) {
        check.add(where, "sidecar: host must be of form namespace/dnsName");
        continue;
      }
      std::string ns = written.substr(0, slash);
      if (ns.starts_with("~")) ns.erase(0, 1);
      if (!ns.empty() && ns != "*" && ns != "." && !isDnsLabel(ns)) {
        check.add(where, "sidecar: invalid namespace \"" + ns + "\"");
      }
      check.host(written.substr(slash + 1), where, false);
    }
  }
  const Json& policy = at(spec, "outboundTrafficPolicy");
  if (!at(policy, "egressProxy").is_null() && text(policy, "mode") != "ALLOW_ANY") {
    check.add("spec.outboundTrafficPolicy.egressProxy", "sidecar: needs mode ALLOW_ANY");
  }
}

}  // namespace postern::model
