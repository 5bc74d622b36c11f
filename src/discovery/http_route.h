// A VirtualService's HTTP rules as Envoy routes. Internal to this folder; includes nlohmann.
#pragma once

#include "discovery/shapes.h"

namespace postern::discovery {

/// What is decided statically: where the rules are evaluated.
struct RouteContext {
  View& view;
  std::string gateway;     // "mesh" or "ns/name"
  std::uint32_t port = 0;  // declared port of the server, or the listener's port
};

struct BuiltRoute {
  json::Json config;
  model::Origin origin;
  bool catch_all = false;
};

/// In list order, up to and including the first catch-all.
std::vector<BuiltRoute> httpRoutes(const RouteContext& context, const model::VirtualService& vs);
/// Whether a match holds for this proxy, gateway and port, as far as that is known in advance.
bool appliesHere(const RouteContext& context, std::uint32_t port,
                 const std::vector<std::string>& gateways, const model::Labels& source_labels,
                 const std::string& source_namespace);
/// The first L4 rule of a list that applies, or null.
const model::L4Rule* firstL4Rule(const RouteContext& context,
                                 const std::vector<model::L4Rule>& rules);

}  // namespace postern::discovery
