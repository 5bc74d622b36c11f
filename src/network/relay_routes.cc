#include "network/relay_routes.h"

#include "network/network.h"

#include <fmt/core.h>

namespace postern::network {
namespace {

constexpr std::uint16_t kApiServicePort = 443;

}  // namespace

RelayRoutes::RelayRoutes(const net::Address& api_server, const std::vector<External>& externals)
    : exact_(externalTargets(externals)) {
  exact_[fmt::format("{}:{}", kApiServiceAddress, kApiServicePort)] = api_server;
  for (const char* network : {"0.0.0.0/8", "127.0.0.0/8", "10.244.0.0/24", "10.96.0.0/16",
                              "198.18.0.0/15", "224.0.0.0/3"}) {
    closed_.push_back(*net::Cidr::parse(network));
  }
}

std::optional<net::Address> RelayRoutes::find(const net::Address& destination) const {
  const auto at = exact_.find(destination.toString());
  if (at != exact_.end()) return at->second;
  if (destination.family() != AF_INET || destination.port() == 0) return std::nullopt;
  for (const net::Cidr& network : closed_) {
    if (network.contains(destination)) return std::nullopt;
  }
  return destination;
}

}  // namespace postern::network
