#include "network/service_rules.h"

#include "base/strings.h"
#include "net/address.h"
#include "network/dns_message.h"
#include "network/netfilter.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <map>
#include <set>
#include <tuple>

#include <netinet/in.h>

namespace postern::network {
namespace {

constexpr int kRefusePriority = -95;
constexpr int kServicesPriority = -90;
constexpr int kUnservedPriority = -85;  // after the services' translation
constexpr int kRelayPriority = -80;
constexpr int kMasqueradePriority = 100;
constexpr std::size_t kElementBytesMax = 96;
constexpr std::size_t kRuleBytesMax = 640;

constexpr const char* kPodNetwork = "10.244.0.0";
constexpr unsigned kPodNetworkBits = 24;
constexpr const char* kServiceNetwork = "10.96.0.0";
constexpr unsigned kServiceNetworkBits = 16;
constexpr const char* kApiAddress = "10.96.0.1";
constexpr const char* kLoadBalancerNetwork = "127.77.0.0";
constexpr unsigned kLoadBalancerBits = 24;

bool isPodNetworkDns(const std::string& service) { return service == "kube-system/kube-dns"; }
bool isApiServer(const std::string& service) { return service == "default/kubernetes"; }

std::vector<std::string> loadBalancersOf(const json::Json& service) {
  std::vector<std::string> out;
  const json::Json* ingress = json::find(service, "status.loadBalancer.ingress");
  if (json::stringAt(service, "spec.type") != "LoadBalancer" || ingress == nullptr ||
      !ingress->is_array()) {
    return out;
  }
  for (const json::Json& entry : *ingress) {
    const std::string ip = json::stringAt(entry, "ip");
    if (net::isIpv4(ip)) out.push_back(ip);
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
    return net::isPort(number) ? static_cast<int>(number) : 0;
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
    if (!first.is_string() || !net::isIpv4(first.get<std::string>())) continue;
    if (out.backends.size() == kServiceBackendsMax) return;
    out.backends.push_back({first.get<std::string>(), static_cast<std::uint16_t>(port)});
  }
}

std::uint8_t numberOf(const std::string& protocol) {
  return protocol == "udp" ? IPPROTO_UDP : IPPROTO_TCP;
}

// Two Services may claim one address and port (a load balancer address, say): the first has it.
void removeRepeated(std::vector<NetfilterElement>& served,
                    std::vector<NetfilterElement>& unserved) {
  std::set<std::tuple<std::string, int, int>> seen;
  for (auto* list : {&served, &unserved}) {
    std::erase_if(*list, [&](const NetfilterElement& element) {
      return !seen.emplace(element.key.ip, element.key.protocol, element.key.port).second;
    });
  }
}

std::vector<std::string> addressesIn(const ServicePort& port, RulesFor where) {
  std::vector<std::string> out{port.cluster_ip};
  if (where == RulesFor::kPod) {
    out.insert(out.end(), port.load_balancers.begin(), port.load_balancers.end());
  }
  return out;
}

void addBackendRules(NetfilterBatch& batch, const std::string& chain, const ServicePort& port) {
  const std::size_t count = port.backends.size();
  for (std::size_t i = 0; i < count; ++i) {
    NetfilterRule rule;
    rule.protocolIs(numberOf(port.protocol));  // the kernel wants it before a port is changed
    if (port.affinity && count > 1) {
      rule.sourceHashIs(i, count);
    } else if (i + 1 < count) {
      rule.oneOf(count - i);  // 1/n of all, 1/(n-1) of the rest, …
    }
    batch.addRule(chain, rule.toDestination(port.backends[i].ip, port.backends[i].port));
  }
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
    const std::string key = json::stringAt(*service, "metadata.namespace") + "/" +
                            json::stringAt(*service, "metadata.name");
    const std::string cluster_ip = json::stringAt(*service, "spec.clusterIP");
    const json::Json* ports = json::find(*service, "spec.ports");
    if (!net::isIpv4(cluster_ip) || ports == nullptr || !ports->is_array()) continue;
    if (isApiServer(key) || isPodNetworkDns(key)) continue;
    const auto [begin, end] = slices.equal_range(key);
    for (const json::Json& port : *ports) {
      const long long number = json::integerAt(port, "port");
      ServicePort entry;
      entry.service = key;
      entry.protocol = base::toLower(json::stringAt(port, "protocol", "TCP"));
      if (!net::isPort(number) || (entry.protocol != "tcp" && entry.protocol != "udp")) continue;
      entry.cluster_ip = cluster_ip;
      entry.load_balancers = loadBalancersOf(*service);
      entry.port = static_cast<std::uint16_t>(number);
      entry.affinity = json::stringAt(*service, "spec.sessionAffinity") == "ClientIP";
      for (auto slice = begin; slice != end; ++slice) {
        addBackends(*slice->second, json::stringAt(port, "name"), entry);
      }
      out.push_back(std::move(entry));
    }
  }
  return out;
}

std::vector<ServicePort> dnsServicePorts(const std::string& service_ip,
                                         const std::string& server_ip) {
  std::vector<ServicePort> out;
  for (const char* protocol : {"udp", "tcp"}) {
    ServicePort port;
    port.service = "kube-system/kube-dns";
    port.protocol = protocol;
    port.cluster_ip = service_ip;
    port.port = kDnsPort;
    port.backends.push_back({server_ip, kDnsPort});
    out.push_back(std::move(port));
  }
  return out;
}

std::string serviceRules(const std::vector<ServicePort>& ports, RulesFor where,
                         std::size_t* left_out) {
  NetfilterBatch batch(kServicesTable);
  batch.addMap("services");
  batch.addSet("without-endpoints");
  batch.addBaseChain("output", "nat", NetfilterHook::kOutput, kServicesPriority);
  batch.addRule("output", NetfilterRule().destinationByMap("services"));
  // Refusing is not a verdict of nat chains. What was translated has another destination by now.
  batch.addBaseChain("refuse", "filter", NetfilterHook::kOutput, kRefusePriority);
  batch.addRule(
      "refuse",
      NetfilterRule().protocolIs(IPPROTO_TCP).destinationInSet("without-endpoints").rejectReset());
  batch.addRule("refuse",
                NetfilterRule().destinationInSet("without-endpoints").rejectUnreachable());
  if (where == RulesFor::kPod) {
    // Load balancer addresses are of the pod's own loopback: what leaves needs a source that others
    // can answer, and a port that no Service has must not lead to the pod itself.
    batch.addBaseChain("unserved", "filter", NetfilterHook::kOutput, kUnservedPriority);
    batch.addRule("unserved", NetfilterRule()
                                  .destinationIs(kLoadBalancerNetwork, kLoadBalancerBits)
                                  .protocolIs(IPPROTO_TCP)
                                  .rejectReset());
    batch.addBaseChain("postrouting", "nat", NetfilterHook::kPostrouting, kMasqueradePriority);
    batch.addRule("postrouting",
                  NetfilterRule().sourceIs("127.0.0.0", 8).outputLinkIsNot("lo").masquerade());
  }
  std::vector<NetfilterElement> served;
  std::vector<NetfilterElement> unserved;
  std::size_t at = 0;
  for (; at < ports.size(); ++at) {
    const ServicePort& port = ports[at];
    // Elements are written last; this much room is kept for them.
    if (batch.size() + (served.size() + unserved.size()) * kElementBytesMax +
            (port.backends.size() + 2 * port.load_balancers.size() + 4) * kRuleBytesMax >
        kNetfilterBatchBytesMax) {
      break;
    }
    const std::string chain = port.backends.empty() ? "" : fmt::format("service-{}", at);
    if (!chain.empty()) {
      batch.addChain(chain);
      addBackendRules(batch, chain, port);
    }
    for (const std::string& address : addressesIn(port, where)) {
      (chain.empty() ? unserved : served)
          .push_back({{address, numberOf(port.protocol), port.port}, chain});
    }
  }
  if (left_out != nullptr) *left_out = ports.size() - at;
  removeRepeated(served, unserved);
  batch.addElements("services", served);
  batch.addElements("without-endpoints", unserved);
  return batch.finish();
}

std::string nodeRules(const std::string& bridge, std::uint16_t relay_port) {
  const auto in = [&] { return NetfilterRule().inputLinkIs(bridge); };
  NetfilterBatch batch(kNodeTable);
  // From pods, by the bridge.
  batch.addBaseChain("refuse", "filter", NetfilterHook::kPrerouting, -110);
  batch.addRule("refuse", in().destinationIs(kPodNetwork, kPodNetworkBits).accept());
  batch.addRule("refuse", in().destinationIs("224.0.0.0", 3).accept());  // multicast, broadcast
  batch.addRule("refuse", in().destinationIs(kApiAddress).protocolIs(IPPROTO_TCP).accept());
  batch.addRule("refuse", in().destinationIs(kServiceNetwork, kServiceNetworkBits)
                              .protocolIs(IPPROTO_TCP)
                              .rejectReset());
  batch.addRule("refuse", in().protocolIs(IPPROTO_TCP).accept());
  batch.addRule("refuse", in().rejectUnreachable());
  batch.addBaseChain("prerouting", "nat", NetfilterHook::kPrerouting, -100);
  batch.addRule("prerouting", in().destinationIs(kPodNetwork, kPodNetworkBits).accept());
  batch.addRule("prerouting", in().protocolIs(IPPROTO_TCP).redirect(relay_port));
  // From the node's own processes. All address translation happens at priority -100, whatever a nat
  // chain's own number says (that one only orders nat chains): the filter chain sees its result.
  const auto to = [](const char* ip, unsigned bits) {
    return NetfilterRule().destinationIs(ip, bits);
  };
  batch.addBaseChain("own", "nat", NetfilterHook::kOutput, kRelayPriority);
  batch.addRule("own", to("127.0.0.0", 8).accept());
  batch.addRule("own", to(kPodNetwork, kPodNetworkBits).accept());
  batch.addRule("own", to(kApiAddress, 32).protocolIs(IPPROTO_TCP).redirect(relay_port));
  batch.addRule("own", to(kServiceNetwork, kServiceNetworkBits).accept());
  batch.addRule("own", NetfilterRule().protocolIs(IPPROTO_TCP).redirect(relay_port));
  batch.addBaseChain("own-refuse", "filter", NetfilterHook::kOutput, kUnservedPriority);
  batch.addRule("own-refuse",
                to(kServiceNetwork, kServiceNetworkBits).protocolIs(IPPROTO_TCP).rejectReset());
  return batch.finish();
}

}  // namespace postern::network
