// The service addresses of the cluster as an nftables ruleset for a pod's own network namespace:
// connections to a cluster or load-balancer address and port go to one of the ready endpoints.
// Pure text from Service and EndpointSlice objects; any thread.
#pragma once

#include "json/json.h"

#include <memory>
#include <string>
#include <vector>

namespace postern::network {

using ObjectPtr = std::shared_ptr<const json::Json>;

/// One address and port, and where it leads.
struct ServicePort {
  std::string protocol;                // "tcp", "udp"
  std::vector<std::string> addresses;  // cluster and load-balancer IPs (IPv4)
  int port = 0;
  struct Backend {
    std::string ip;
    int port = 0;
  };
  std::vector<Backend> backends;  // ready ones; none: connections are refused
};

/// Services without cluster IP (headless, ExternalName) and non-IPv4 addresses are left out.
std::vector<ServicePort> servicePorts(const std::vector<ObjectPtr>& services,
                                      const std::vector<ObjectPtr>& endpoint_slices);

/// Replaces table "ip postern-services" in one transaction (`nft -f -`).
std::string serviceRuleset(const std::vector<ServicePort>& ports);

}  // namespace postern::network
