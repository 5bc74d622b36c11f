#include "network/dns_names.h"

#include "base/strings.h"
#include "net/address.h"

#include <fmt/core.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>

namespace postern::network {
namespace {

constexpr std::string_view kClusterDomain = "cluster.local";
constexpr std::uint32_t kExternalCount = 1U << 17U;  // addresses of 198.18.0.0/15

std::string serviceName(const json::Json& object, std::string_view name) {
  return fmt::format("{}.{}.svc.{}", name, json::stringAt(object, "metadata.namespace"),
                     kClusterDomain);
}

bool isBelow(std::string_view name, std::string_view domain) {
  return name == domain || (name.size() > domain.size() && name.ends_with(domain) &&
                            name[name.size() - domain.size() - 1] == '.');
}

std::string dashed(std::string ip) {
  std::replace(ip.begin(), ip.end(), '.', '-');
  return ip;
}

std::string serverName(std::string_view port, std::string_view protocol, std::string_view service) {
  return fmt::format("_{}._{}.{}", port, base::toLower(protocol), service);
}

std::string reverseName(const std::string& ip) {
  auto parts = base::split(ip, '.');
  std::reverse(parts.begin(), parts.end());
  return fmt::format("{}.in-addr.arpa", fmt::join(parts, "."));
}

// The networks whose addresses nobody outside can name.
bool isOurReverse(std::string_view name) {
  for (const std::string_view domain :
       {"0.244.10.in-addr.arpa", "96.10.in-addr.arpa", "0.77.127.in-addr.arpa",
        "18.198.in-addr.arpa", "19.198.in-addr.arpa"}) {
    if (isBelow(name, domain)) return true;
  }
  return false;
}

// "10-244-0-5.namespace.pod.cluster.local"
std::optional<std::string> addressOfPodName(std::string_view name) {
  constexpr std::string_view kPods = "pod.cluster.local";
  if (!isBelow(name, kPods) || name == kPods) return std::nullopt;
  const auto labels = base::split(name.substr(0, name.size() - kPods.size() - 1), '.');
  if (labels.size() != 2) return std::nullopt;
  std::string ip(labels[0]);
  std::replace(ip.begin(), ip.end(), '-', '.');
  if (!net::isIpv4(ip)) return std::nullopt;
  return ip;
}

// FNV-1a: the same host gets the same address after a restart.
std::uint32_t hashOf(std::string_view text) {
  std::uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

}  // namespace

DnsNames::DnsNames(const DnsNamesInput& input) {
  for (const auto& service : input.services) addService(*service);
  for (const auto& slice : input.endpoint_slices) addHeadless(*slice);
  addExternals(input.externals);
}

void DnsNames::addService(const json::Json& service) {
  const std::string name = serviceName(service, json::stringAt(service, "metadata.name"));
  DnsFound& found = names_[name];
  found.exists = true;
  const std::string ip = json::stringAt(service, "spec.clusterIP");
  if (json::stringAt(service, "spec.type") == "ExternalName") {
    found.alias = base::toLower(json::stringAt(service, "spec.externalName"));
    return;
  }
  if (ip == "None") headless_.insert(name);
  if (!net::isIpv4(ip)) return;
  found.addresses.push_back(ip);
  addPointer(ip, name);
  const json::Json* ports = json::find(service, "spec.ports");
  if (ports == nullptr || !ports->is_array()) return;
  for (const json::Json& port : *ports) {
    const std::string label = json::stringAt(port, "name");
    const long long number = json::integerAt(port, "port");
    if (label.empty() || !net::isPort(number)) continue;
    DnsFound& server = names_[serverName(label, json::stringAt(port, "protocol", "TCP"), name)];
    server.exists = true;
    server.servers.push_back({name, static_cast<std::uint16_t>(number)});
  }
}

void DnsNames::addHeadless(const json::Json& slice) {
  const json::Json* labels = json::find(slice, "metadata.labels");
  if (labels == nullptr || !labels->is_object()) return;
  const auto owner = labels->find("kubernetes.io/service-name");
  if (owner == labels->end() || !owner->is_string()) return;
  const std::string service = serviceName(slice, owner->get<std::string>());
  const json::Json* endpoints = json::find(slice, "endpoints");
  const json::Json* ports = json::find(slice, "ports");
  if (!headless_.contains(service) || endpoints == nullptr || !endpoints->is_array()) return;
  for (const json::Json& endpoint : *endpoints) {
    const json::Json* addresses = json::find(endpoint, "addresses");
    if (!json::boolAt(endpoint, "conditions.ready", true)) continue;
    if (addresses == nullptr || !addresses->is_array()) continue;
    for (const json::Json& address : *addresses) {
      if (!address.is_string() || !net::isIpv4(address.get<std::string>())) continue;
      const std::string ip = address.get<std::string>();
      names_[service].addresses.push_back(ip);
      std::string host = json::stringAt(endpoint, "hostname");
      if (host.empty()) host = dashed(ip);
      const std::string name = host + "." + service;
      DnsFound& pod = names_[name];
      pod.exists = true;
      pod.addresses.push_back(ip);
      addPointer(ip, name);
      if (ports == nullptr || !ports->is_array()) continue;
      for (const json::Json& port : *ports) {
        const std::string label = json::stringAt(port, "name");
        const long long number = json::integerAt(port, "port");
        if (label.empty() || !net::isPort(number)) continue;
        DnsFound& server =
            names_[serverName(label, json::stringAt(port, "protocol", "TCP"), service)];
        server.exists = true;
        server.servers.push_back({name, static_cast<std::uint16_t>(number)});
      }
    }
  }
}

void DnsNames::addPointer(const std::string& ip, const std::string& name) {
  DnsFound& found = names_[reverseName(ip)];
  found.exists = true;
  if (found.pointer.empty()) found.pointer = name;
}

void DnsNames::addExternals(std::vector<std::string> hosts) {
  std::sort(hosts.begin(), hosts.end());
  for (const std::string& host : hosts) {
    const std::string name = base::toLower(host);
    if (names_.contains(name) || external_.size() >= kExternalCount / 2) continue;
    std::uint32_t slot = hashOf(name) % kExternalCount;
    std::string ip;
    do {
      slot = (slot + 1) % kExternalCount;
      ip = fmt::format("198.{}.{}.{}", 18 + (slot >> 16U), (slot >> 8U) & 255U, slot & 255U);
    } while (external_.contains(ip));
    external_[ip] = name;
    DnsFound& found = names_[name];
    found.exists = true;
    found.addresses.push_back(ip);
    addPointer(ip, name);
  }
}

std::optional<DnsFound> DnsNames::find(std::string_view name) const {
  if (const auto at = names_.find(name); at != names_.end()) return at->second;
  DnsFound found;
  if (const auto ip = addressInName(name)) {
    found.exists = true;
    found.addresses.push_back(*ip);
    return found;
  }
  if (const auto ip = addressOfPodName(name)) {
    found.exists = true;
    found.addresses.push_back(*ip);
    return found;
  }
  if (isBelow(name, kClusterDomain) || isOurReverse(name)) return found;
  return std::nullopt;
}

std::optional<std::string> addressInName(std::string_view name) {
  for (const std::string_view domain : {"xip.io", "nip.io", "sslip.io"}) {
    if (!isBelow(name, domain) || name == domain) continue;
    const auto labels = base::split(name.substr(0, name.size() - domain.size() - 1), '.');
    if (labels.size() < 4) return std::nullopt;
    std::string ip;
    for (std::size_t i = labels.size() - 4; i < labels.size(); ++i) {
      ip += (ip.empty() ? "" : ".") + std::string(labels[i]);
    }
    if (net::isIpv4(ip)) return ip;
    return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace postern::network
