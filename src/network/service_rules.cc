#include "network/service_rules.h"

#include "base/strings.h"
#include "net/address.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

namespace postern::network {
namespace {

bool isIpv4(const std::string& text) {
  const auto address = net::Address::fromIp(text, 0);
  return address && address->family() == AF_INET;
}

bool isPort(long long port) { return port > 0 && port <= 65535; }

std::vector<std::string> addressesOf(const json::Json& service) {
  std::vector<std::string> out;
  const std::string cluster_ip = json::stringAt(service, "spec.clusterIP");
  if (!isIpv4(cluster_ip)) return out;
  out.push_back(cluster_ip);
  const json::Json* ingress = json::find(service, "status.loadBalancer.ingress");
  if (ingress == nullptr || !ingress->is_array()) return out;
  for (const json::Json& entry : *ingress) {
    const std::string ip = json::stringAt(entry, "ip");
    if (isIpv4(ip)) out.push_back(ip);
  }
  return out;
}

// The slice's number for a service port, matched by name as the API defines.
int slicePort(const json::Json& slice, const std::string& name) {
  const json::Json* ports = json::find(slice, "ports");
  if (ports == nullptr || !ports->is_array()) return 0;
  for (const json::Json& port : *ports) {
    if (json::stringAt(port, "name") != name) continue;
    const long long number = json::integerAt(port, "port");
    return isPort(number) ? static_cast<int>(number) : 0;
  }
  return 0;
}

void addBackends(const json::Json& slice, const std::string& port_name, ServicePort& out) {
  const int port = slicePort(slice, port_name);
  const json::Json* endpoints = json::find(slice, "endpoints");
  if (port == 0 || endpoints == nullptr || !endpoints->is_array()) return;
  for (const json::Json& endpoint : *endpoints) {
    if (!json::boolAt(endpoint, "conditions.ready", true)) continue;
    const json::Json* addresses = json::find(endpoint, "addresses");
    if (addresses == nullptr || !addresses->is_array() || addresses->empty()) continue;
    const json::Json& first = addresses->front();
    if (!first.is_string() || !isIpv4(first.get<std::string>())) continue;
    out.backends.push_back({first.get<std::string>(), port});
  }
}

std::string verdict(const ServicePort& port) {
  if (port.backends.empty()) return "reject";
  if (port.backends.size() == 1) {
    return fmt::format("dnat to {}:{}", port.backends[0].ip, port.backends[0].port);
  }
  std::string map;
  for (std::size_t i = 0; i < port.backends.size(); ++i) {
    map += fmt::format("{}{} : {} . {}", i == 0 ? "" : ", ", i, port.backends[i].ip,
                       port.backends[i].port);
  }
  return fmt::format("dnat ip to numgen random mod {} map {{ {} }}", port.backends.size(), map);
}

}  // namespace

std::vector<ServicePort> servicePorts(const std::vector<ObjectPtr>& services,
                                      const std::vector<ObjectPtr>& endpoint_slices) {
  std::multimap<std::string, const json::Json*> slices;  // by "namespace/service"
  for (const ObjectPtr& slice : endpoint_slices) {
    const json::Json* labels = json::find(*slice, "metadata.labels");
    if (labels == nullptr || !labels->is_object()) continue;
    const auto name = labels->find("kubernetes.io/service-name");
    if (name == labels->end() || !name->is_string()) continue;
    slices.emplace(json::stringAt(*slice, "metadata.namespace") + "/" + name->get<std::string>(),
                   slice.get());
  }
  std::vector<ServicePort> out;
  for (const ObjectPtr& service : services) {
    const std::vector<std::string> addresses = addressesOf(*service);
    const json::Json* ports = json::find(*service, "spec.ports");
    if (addresses.empty() || ports == nullptr || !ports->is_array()) continue;
    const auto [begin, end] = slices.equal_range(json::stringAt(*service, "metadata.namespace") +
                                                 "/" + json::stringAt(*service, "metadata.name"));
    for (const json::Json& port : *ports) {
      const long long number = json::integerAt(port, "port");
      const std::string protocol = base::toLower(json::stringAt(port, "protocol", "TCP"));
      if (!isPort(number) || (protocol != "tcp" && protocol != "udp")) continue;
      ServicePort entry{protocol, addresses, static_cast<int>(number), {}};
      for (auto slice = begin; slice != end; ++slice) {
        addBackends(*slice->second, json::stringAt(port, "name"), entry);
      }
      out.push_back(std::move(entry));
    }
  }
  return out;
}

std::string serviceRuleset(const std::vector<ServicePort>& ports) {
  // Refusing is not a verdict of nat chains, so services without endpoints get a filter chain.
  std::string nat;
  std::string refuse;
  for (const ServicePort& port : ports) {
    for (const std::string& address : port.addresses) {
      std::string& chain = port.backends.empty() ? refuse : nat;
      chain += fmt::format("    ip daddr {} {} dport {} {}\n", address, port.protocol, port.port,
                           verdict(port));
    }
  }
  return fmt::format(
      "table ip postern-services\n"
      "delete table ip postern-services\n"
      "table ip postern-services {{\n"
      "  chain output {{\n"
      "    type nat hook output priority -90; policy accept;\n"
      "{}  }}\n"
      "  chain refuse {{\n"
      "    type filter hook output priority 0; policy accept;\n"
      "{}  }}\n"
      "}}\n",
      nat, refuse);
}

}  // namespace postern::network
