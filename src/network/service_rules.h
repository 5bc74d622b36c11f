// The service addresses of the cluster as nftables rules for one network namespace: connections to
// a cluster or load balancer address and port go to one of the ready endpoints, or are refused at
// once when there is none. Pure: from Service and EndpointSlice objects to a transaction; any
// thread.
//
// Order of the hooks: a sidecar's capture (priority -100) comes first, so that an application's
// connection to a service address reaches the sidecar with that address as its original
// destination; what the sidecar's own uid sends falls through to these rules (-90).
#pragma once

#include "json/json.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postern::network {

using ObjectPtr = std::shared_ptr<const json::Json>;

inline constexpr const char* kServicesTable = "postern-services";
inline constexpr const char* kNodeTable = "postern-node";
/// Of one Service port; more are left out.
inline constexpr std::size_t kServiceBackendsMax = 128;

/// One address and port, and where it leads.
struct ServicePort {
  std::string service;                      // "namespace/name"
  std::string protocol;                     // "tcp", "udp"
  std::string cluster_ip;                   // IPv4
  std::vector<std::string> load_balancers;  // IPv4, of Services of type LoadBalancer
  std::uint16_t port = 0;
  bool affinity = false;  // sessionAffinity: ClientIP
  struct Backend {
    std::string ip;
    std::uint16_t port = 0;
  };
  std::vector<Backend> backends;  // ready ones; none: connections are refused
};

/// Services without cluster IP (headless, ExternalName) and non-IPv4 addresses are left out, and so
/// is the API server's own (default/kubernetes), which is not in the pod network.
std::vector<ServicePort> servicePorts(const std::vector<ObjectPtr>& services,
                                      const std::vector<ObjectPtr>& endpoint_slices);

/// The cluster's name service: `service_ip`, port 53, both protocols, leads to `server_ip`.
std::vector<ServicePort> dnsServicePorts(const std::string& service_ip,
                                         const std::string& server_ip);

enum class RulesFor : std::uint8_t {
  kPod,   // cluster and load balancer addresses
  kNode,  // cluster addresses: load balancers belong to the host there
};

/// A transaction (NetfilterSocket::apply) that replaces table "ip postern-services". What exceeds a
/// transaction's size is left out from the end; `left_out` counts it.
std::string serviceRules(const std::vector<ServicePort>& ports, RulesFor where,
                         std::size_t* left_out = nullptr);

/// The node's own table: what leaves the cluster by `bridge`, or by a process of the node's
/// namespace itself, goes to the relay's port; unknown service addresses and anything but TCP are
/// refused.
std::string nodeRules(const std::string& bridge, std::uint16_t relay_port);

}  // namespace postern::network
