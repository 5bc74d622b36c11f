#include "network/dns_names.h"

#include "base/strings.h"
#include "net/address.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>

namespace postern::network {
namespace {

constexpr std::string_view kClusterDomain = "cluster.local";
constexpr std::uint32_t kExternalCount = 1U << 17U;  // addresses of 198.18.0.0/15

bool isIpv4(const std::string& text) {
  const auto address = net::Address::fromIp(text, 0);
  return address && address->family() == AF_INET;
}

std::string serviceName(const json::Json& object, std::string_view name) {
  return fmt::format("{}.{}.svc.{}", name, json::stringAt(object, "metadata.namespace"),
                     kClusterDomain);
}

bool isBelow(std::string_view name, std::string_view domain) {
  return name == domain || (name.size() > domain.size() && name.ends_with(domain) &&
                            name[name.size() - domain.size() - 1] == '.');
}

// FNV-1a: the same host gets the same address after a restart.
std::uint32_t hashOf(std::string_view text) {
  std::uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

}  // namespace

DnsNames::DnsNames(const DnsNamesInput& input) {
  for (const auto& service : input.services) {
    DnsFound& found = names_[serviceName(*service, json::stringAt(*service, "metadata.name"))];
    found.exists = true;
    const std::string ip = json::stringAt(*service, "spec.clusterIP");
    if (isIpv4(ip)) found.addresses.push_back(ip);
    if (ip == "None") {
      headless_.insert(serviceName(*service, json::stringAt(*service, "metadata.name")));
    }
    if (json::stringAt(*service, "spec.type") == "ExternalName") {
      found.alias = base::toLower(json::stringAt(*service, "spec.externalName"));
    }
  }
  for (const auto& slice : input.endpoint_slices) addHeadless(*slice);
  addExternals(input.externals);
}

void DnsNames::addHeadless(const json::Json& slice) {
  const json::Json* labels = json::find(slice, "metadata.labels");
  if (labels == nullptr || !labels->is_object()) return;
  const auto owner = labels->find("kubernetes.io/service-name");
  if (owner == labels->end() || !owner->is_string()) return;
  const std::string service = serviceName(slice, owner->get<std::string>());
  const auto at = names_.find(service);
  const json::Json* endpoints = json::find(slice, "endpoints");
  if (at == names_.end() || !headless_.contains(service) || endpoints == nullptr ||
      !endpoints->is_array()) {
    return;
  }
  for (const json::Json& endpoint : *endpoints) {
    const json::Json* addresses = json::find(endpoint, "addresses");
    if (!json::boolAt(endpoint, "conditions.ready", true)) continue;
    if (addresses == nullptr || !addresses->is_array()) continue;
    for (const json::Json& address : *addresses) {
      if (!address.is_string() || !isIpv4(address.get<std::string>())) continue;
      at->second.addresses.push_back(address.get<std::string>());
      const std::string host = json::stringAt(endpoint, "hostname");
      if (host.empty()) continue;
      DnsFound& pod = names_[host + "." + service];
      pod.exists = true;
      pod.addresses.push_back(address.get<std::string>());
    }
  }
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
    names_[name] = {true, {ip}, ""};
  }
}

std::optional<DnsFound> DnsNames::find(std::string_view name) const {
  if (const auto at = names_.find(name); at != names_.end()) return at->second;
  if (isBelow(name, kClusterDomain)) return DnsFound{};
  if (const auto ip = addressInName(name)) return DnsFound{true, {*ip}, ""};
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
    if (isIpv4(ip)) return ip;
    return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace postern::network
