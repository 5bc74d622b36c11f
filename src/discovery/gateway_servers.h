// Which Gateway servers apply to a gateway workload, merged by address and port. Internal to this
// folder.
#pragma once

#include "discovery/view.h"

#include <string>
#include <vector>

namespace postern::discovery {

struct GatewayServer {
  const model::Gateway* gateway;
  const model::Server* server;
};

/// One listener: all servers on it are HTTP, or all are TLS pass-through, or all are TCP.
struct GatewayListener {
  std::string bind;
  std::uint32_t port = 0;  // the target port it listens on
  std::string route_name;  // HTTP only
  std::vector<GatewayServer> servers;
};

/// Oldest Gateway first; a server of another family than the first on its port is dropped.
std::vector<GatewayListener> gatewayListeners(View& view);
/// Hosts of a server that VirtualServices of `ns` may use, without the namespace part.
std::vector<std::string> admissibleHosts(const GatewayServer& server, const std::string& ns);

}  // namespace postern::discovery
