// RDS: the sidecar's per-port tables and the gateway's.
#include "discovery/gateway_servers.h"
#include "discovery/http_route.h"
#include "discovery/outbound.h"
#include "discovery/shapes.h"
#include "model/host.h"

#include <algorithm>
#include <map>

namespace postern::discovery {

using json::Json;

namespace {

Json catchAllHost(bool allow_any) {
  Json route = {{"match", {{"prefix", "/"}}}};
  if (allow_any) {
    route["name"] = "allow_any";
    route["route"] = {{"cluster", shapes::kPassthrough}, {"timeout", "0s"}};
  } else {
    route["name"] = "block_all";
    route["direct_response"] = {{"status", 502}};
  }
  return {{"name", allow_any ? "allow_any" : "block_all"},
          {"domains", Json::array({"*"})},
          {"routes", Json::array({std::move(route)})},
          {"include_request_attempt_count", true}};
}

Json routeConfig(const std::string& name, Json hosts) {
  return {{"name", name},
          {"virtual_hosts", std::move(hosts)},
          {"validate_clusters", false},
          {"ignore_port_in_host_matching", true},
          {"max_direct_response_body_size_bytes", 1048576}};
}

/// All names by which a pod of `ns` may call a service.
std::vector<std::string> domainsOf(const model::Service& service, const std::string& ns) {
  std::vector<std::string> out{service.host};
  const bool wildcard = service.host.starts_with("*");
  if (!wildcard) out.push_back(service.host + ".");
  if (service.kubernetes) {
    const std::string& own = service.meta.origin.ns;
    if (own == ns) out.push_back(service.short_name);
    out.push_back(service.short_name + "." + own);
    out.push_back(service.short_name + "." + own + ".svc");
    if (service.headless) {
      const std::size_t count = out.size();
      for (std::size_t i = 0; i < count; ++i) out.push_back("*." + out[i]);
    }
  }
  for (const std::string& address : service.addresses) {
    if (address.find('/') != std::string::npos) continue;
    out.push_back(address.find(':') == std::string::npos ? address : "[" + address + "]");
  }
  return out;
}

/// The VirtualService for a host on sidecars: the most specific host, then the oldest.
const model::VirtualService* ruleFor(const std::vector<const model::VirtualService*>& candidates,
                                     std::string_view host) {
  const model::VirtualService* best = nullptr;
  std::size_t best_rank = 0;
  for (const model::VirtualService* vs : candidates) {
    if (vs->http.empty()) continue;
    for (const std::string& pattern : vs->hosts) {
      if (!model::hostCovers(pattern, host)) continue;
      const std::size_t rank = model::hostSpecificity(pattern) + 1;
      if (rank > best_rank) {
        best = vs;
        best_rank = rank;
      }
    }
  }
  return best;
}

/// One sidecar route table while it is built; a domain belongs to the first host that claims it.
class SidecarTable {
 public:
  SidecarTable(View& view, std::string name, std::uint32_t port)
      : view_(view), name_(std::move(name)), port_(port), rules_(view.virtualServices("mesh")) {}

  void addService(const model::Service& service, bool any_domain) {
    const model::VirtualService* vs = ruleFor(rules_, service.host);
    std::vector<std::string> domains =
        any_domain ? std::vector<std::string>{"*"} : domainsOf(service, view_.proxy().ns);
    const std::string where = service.host + ":" + std::to_string(port_);
    Json routes = Json::array();
    if (vs != nullptr) {
      routes = routesOf(*vs);
      if (routes.empty()) return;  // its rules are for others: the catch-all takes the host
    } else {
      routes.push_back(
          shapes::defaultRoute(shapes::outboundName(port_, "", service.host), where + "/*"));
      origins_.push_back(service.meta.origin);
    }
    add(where, std::move(domains), std::move(routes));
  }

  /// Hosts of VirtualServices that no registry knows; only on port 80.
  void addUnregistered() {
    for (const model::VirtualService* vs : rules_) {
      if (vs->http.empty()) continue;
      for (const std::string& host : vs->hosts) {
        if (view_.service(host) != nullptr || host == "*") continue;
        std::vector<std::string> domains{host};
        if (!host.starts_with("*")) domains.push_back(host + ".");
        Json routes = routesOf(*vs);
        if (routes.empty()) continue;
        add(host + ":" + std::to_string(port_), std::move(domains), std::move(routes));
      }
    }
  }

  Resource finish(bool catch_all) {
    if (catch_all && !seen_.contains("*")) hosts_.push_back(catchAllHost(view_.allowAny()));
    return {name_, routeConfig(name_, std::move(hosts_)), std::move(origins_)};
  }

 private:
  Json routesOf(const model::VirtualService& vs) {
    Json routes = Json::array();
    for (BuiltRoute& route : httpRoutes({view_, "mesh", port_}, vs)) {
      routes.push_back(std::move(route.config));
      origins_.push_back(std::move(route.origin));
    }
    return routes;
  }
  void add(const std::string& name, std::vector<std::string> domains, Json routes) {
    std::erase_if(domains, [&](const std::string& domain) { return !seen_.insert(domain).second; });
    if (domains.empty() || !names_.insert(name).second) return;
    hosts_.push_back({{"name", name},
                      {"domains", domains},
                      {"routes", std::move(routes)},
                      {"include_request_attempt_count", true}});
  }

  View& view_;
  std::string name_;
  std::uint32_t port_;
  std::vector<const model::VirtualService*> rules_;
  Json hosts_ = Json::array();
  std::set<std::string> seen_;
  std::set<std::string> names_;
  std::vector<model::Origin> origins_;
};

std::vector<Resource> sidecarRoutes(View& view) {
  std::vector<Resource> out;
  std::map<std::uint32_t, SidecarTable> tables;
  for (const auto& [service, ports] : view.services()) {
    for (const model::Port* port : ports) {
      if (model::isHttp(port->protocol)) {
        tables.try_emplace(port->number, view, std::to_string(port->number), port->number)
            .first->second.addService(*service, false);
      } else if (isSniffed(*service, *port)) {
        SidecarTable own(view, service->host + ":" + std::to_string(port->number), port->number);
        own.addService(*service, true);
        out.push_back(own.finish(false));
      }
    }
  }
  for (auto& [port, table] : tables) {
    if (port == 80) table.addUnregistered();
    out.push_back(table.finish(true));
  }
  return out;
}

/// Moves routes that match everything behind the rest, keeping their order otherwise.
void sortCatchAllsLast(std::vector<BuiltRoute>& routes) {
  std::stable_partition(routes.begin(), routes.end(),
                        [](const BuiltRoute& route) { return !route.catch_all; });
}

Resource gatewayTable(View& view, const GatewayListener& listener) {
  struct Host {
    std::string name;
    std::string domain;
    std::vector<BuiltRoute> routes;
    bool redirect = false;
  };
  std::vector<Host> hosts;
  auto hostOf = [&](const std::string& domain, std::uint32_t port) -> Host& {
    auto found =
        std::find_if(hosts.begin(), hosts.end(), [&](const Host& h) { return h.domain == domain; });
    if (found != hosts.end()) return *found;
    hosts.push_back({domain + ":" + std::to_string(port), domain, {}, false});
    return hosts.back();
  };
  for (const GatewayServer& entry : listener.servers) {
    const std::string gateway =
        entry.gateway->meta.origin.ns + "/" + entry.gateway->meta.origin.name;
    for (const model::VirtualService* vs : view.virtualServices(gateway)) {
      if (vs->http.empty()) continue;
      std::set<std::string> domains;
      for (const std::string& allowed : admissibleHosts(entry, vs->meta.origin.ns)) {
        for (const std::string& host : vs->hosts) {
          std::string both = model::hostIntersection(allowed, host);
          if (!both.empty()) domains.insert(std::move(both));
        }
      }
      for (const std::string& domain : domains) {
        Host& host = hostOf(domain, entry.server->port);
        host.redirect = host.redirect || entry.server->https_redirect;
        for (BuiltRoute& route : httpRoutes({view, gateway, entry.server->port}, *vs)) {
          host.routes.push_back(std::move(route));
        }
      }
    }
  }
  Resource out{listener.route_name, {}, {}};
  Json list = Json::array();
  for (Host& host : hosts) {
    sortCatchAllsLast(host.routes);
    Json routes = Json::array();
    for (BuiltRoute& route : host.routes) {
      routes.push_back(std::move(route.config));
      out.origins.push_back(std::move(route.origin));
    }
    Json entry = {{"name", host.name},
                  {"domains", Json::array({host.domain})},
                  {"routes", std::move(routes)},
                  {"include_request_attempt_count", true}};
    if (host.redirect) entry["require_tls"] = "ALL";
    list.push_back(std::move(entry));
  }
  if (list.empty()) {
    list.push_back(
        {{"name", "blackhole:" + std::to_string(listener.port)}, {"domains", Json::array({"*"})}});
  }
  out.config = routeConfig(listener.route_name, std::move(list));
  return out;
}

}  // namespace

std::vector<Resource> generateRoutes(View& view) {
  if (!view.proxy().router) return sidecarRoutes(view);
  std::vector<Resource> out;
  for (const GatewayListener& listener : gatewayListeners(view)) {
    if (!listener.route_name.empty()) out.push_back(gatewayTable(view, listener));
  }
  return out;
}

}  // namespace postern::discovery
