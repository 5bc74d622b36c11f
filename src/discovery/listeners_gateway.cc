// LDS of gateways: one listener per address and target port.
#include "discovery/gateway_servers.h"
#include "discovery/http_route.h"
#include "discovery/listeners.h"
#include "discovery/shapes.h"
#include "model/host.h"

namespace postern::discovery {

using json::Json;

namespace {

/// TLS pass-through by SNI: a chain for each match of each VirtualService; a claimed name is
/// skipped.
void addSniChains(View& view, const GatewayServer& entry, const Json& log,
                  std::set<std::string>& claimed, Json& chains, Resource& resource) {
  const model::Origin& gateway = entry.gateway->meta.origin;
  const RouteContext context{view, gateway.ns + "/" + gateway.name, entry.server->port};
  for (const model::VirtualService* vs : view.virtualServices(context.gateway)) {
    const auto admissible = admissibleHosts(entry, vs->meta.origin.ns);
    for (const model::L4Rule& rule : vs->tls) {
      for (const model::L4Match& match : rule.matches) {
        if (rule.destinations.empty() ||
            !appliesHere(context, match.port, match.gateways, match.source_labels,
                         match.source_namespace)) {
          continue;
        }
        Json names = Json::array();
        for (const std::string& sni : match.sni_hosts) {
          bool allowed = false;
          for (const std::string& host : admissible) {
            allowed = allowed || !model::hostIntersection(host, sni).empty();
          }
          if (allowed && claimed.insert(sni).second) names.push_back(sni);
        }
        if (names.empty()) continue;
        const std::string prefix = vs->meta.origin.name + "." + vs->meta.origin.ns;
        Json filters =
            Json::array({shapes::tcpProxyTo(prefix, rule.destinations, entry.server->port, log)});
        Json match_json = {{"server_names", std::move(names)}};
        if (match_json["server_names"] == Json::array({"*"})) match_json = Json::object();
        chains.push_back(shapes::chain("", std::move(match_json), std::move(filters)));
        resource.origins.push_back(vs->meta.origin.at(rule.path));
      }
    }
  }
}

Json tcpChains(View& view, const GatewayListener& listener, const Json& log, Resource& resource) {
  Json chains = Json::array();
  std::set<std::string> claimed;
  for (const GatewayServer& entry : listener.servers) {
    if (model::isTls(entry.server->protocol)) {
      addSniChains(view, entry, log, claimed, chains, resource);
      continue;
    }
    const model::Origin& gateway = entry.gateway->meta.origin;
    const RouteContext context{view, gateway.ns + "/" + gateway.name, entry.server->port};
    for (const model::VirtualService* vs : view.virtualServices(context.gateway)) {
      const model::L4Rule* rule = firstL4Rule(context, vs->tcp);
      if (rule == nullptr || !chains.empty()) continue;
      const std::string prefix = vs->meta.origin.name + "." + vs->meta.origin.ns;
      chains.push_back(shapes::chain(
          "", Json::object(),
          Json::array({shapes::tcpProxyTo(prefix, rule->destinations, entry.server->port, log)})));
      resource.origins.push_back(vs->meta.origin.at(rule->path));
    }
  }
  return chains;
}

}  // namespace

std::vector<Resource> gatewayListenerResources(View& view) {
  std::vector<Resource> out;
  const Json log = shapes::accessLog(view.mesh());
  for (const GatewayListener& listener : gatewayListeners(view)) {
    Resource resource{listener.bind + "_" + std::to_string(listener.port), {}, {}};
    for (const GatewayServer& entry : listener.servers) {
      resource.origins.push_back(entry.gateway->meta.origin.at(entry.server->path));
    }
    Json config = {{"name", resource.name},
                   {"address", shapes::socketAddress(listener.bind, listener.port)},
                   {"traffic_direction", "OUTBOUND"}};
    if (!listener.route_name.empty()) {
      config["filter_chains"] = Json::array({shapes::chain(
          "", Json::object(),
          Json::array({shapes::httpManager(shapes::Side::kGateway, "outbound_" + resource.name,
                                           shapes::rds(listener.route_name), log)}))});
    } else {
      config["filter_chains"] = tcpChains(view, listener, log, resource);
      if (config["filter_chains"].empty()) continue;
      if (model::isTls(listener.servers[0].server->protocol)) {
        config["listener_filters"] = Json::array({shapes::tlsInspector()});
      }
    }
    resource.config = std::move(config);
    out.push_back(std::move(resource));
  }
  return out;
}

}  // namespace postern::discovery
