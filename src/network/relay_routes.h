// Where the relay connects what pods send out of the cluster. Pure; any thread.
#pragma once

#include "network/external.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace postern::network {

class RelayRoutes {
 public:
  RelayRoutes(const net::Address& api_server, const std::vector<External>& externals);
  /// The host's address to connect to; nothing for what must not leave: loopback (the host's own
  /// is not the pods'), the cluster's networks, externals' addresses at other ports, multicast.
  std::optional<net::Address> find(const net::Address& destination) const;

 private:
  std::map<std::string, net::Address> exact_;  // by "address:port"
  std::vector<net::Cidr> closed_;
};

}  // namespace postern::network
