// LDS of sidecars, outbound: one listener per HTTP port and per TCP address, reached from 15001 by
// original destination.
#include "base/strings.h"
#include "discovery/http_route.h"
#include "discovery/listeners.h"
#include "discovery/outbound.h"
#include "discovery/shapes.h"
#include "model/host.h"

#include <map>

namespace postern::discovery {

using json::Json;

namespace {

struct Outbound {
  std::string address;
  std::uint32_t port = 0;
  std::string rds;              // not empty: has an HTTP chain
  Json chains = Json::array();  // by SNI or subnet
  Json fallback;                // filters of what no chain takes
  std::set<std::string> server_names;
  bool needs_tls = false;
  std::vector<model::Origin> origins;
};

class OutboundBuilder {
 public:
  explicit OutboundBuilder(View& view)
      : view_(view), log_(shapes::accessLog(view.mesh())), rules_(view.virtualServices("mesh")) {}

  void add(const model::Service& service, const model::Port& port) {
    if (model::isHttp(port.protocol)) {
      Outbound& listener = at("0.0.0.0", port.number);
      listener.rds = std::to_string(port.number);
      listener.origins.push_back(service.meta.origin);
      return;
    }
    std::vector<std::string> addresses = service.addresses;
    if (service.headless && !model::isTls(port.protocol)) {
      for (const model::Endpoint& endpoint : view_.endpoints(service)) {
        addresses.push_back(endpoint.address);
      }
      if (addresses.empty()) return;
    }
    if (addresses.empty()) addresses.emplace_back("0.0.0.0");
    for (const std::string& address : addresses) addTcp(service, port, address);
  }

  std::vector<Resource> finish() {
    std::vector<Resource> out;
    for (auto& [name, listener] : listeners_) {
      Json config = render(name, listener);
      if (!config.is_null()) {
        out.push_back({name, std::move(config), std::move(listener.origins)});
      }
    }
    return out;
  }

 private:
  Outbound& at(const std::string& address, std::uint32_t port) {
    Outbound& listener = listeners_[address + "_" + std::to_string(port)];
    listener.address = address;
    listener.port = port;
    return listener;
  }

  void addTcp(const model::Service& service, const model::Port& port, const std::string& address) {
    const auto slash = address.find('/');
    const bool subnet = slash != std::string::npos;
    Outbound& listener = at(subnet ? "0.0.0.0" : address, port.number);
    listener.origins.push_back(service.meta.origin);
    const std::string cluster = shapes::outboundName(port.number, "", service.host);
    Json filters = Json::array({shapes::tcpProxy(cluster, cluster, log_)});
    const bool tls_rules = model::isTls(port.protocol) && addTlsRules(listener, service, port);
    if (const model::L4Rule* rule = tcpRule(service, port, listener)) {
      filters = Json::array({shapes::tcpProxyTo(cluster, rule->destinations, port.number, log_)});
    }
    if (isSniffed(service, port) && !subnet) {
      listener.rds = service.host + ":" + std::to_string(port.number);
    }
    if (subnet) {
      Json match = {{"prefix_ranges", Json::array({prefixRange(address)})}};
      listener.chains.push_back(shapes::chain("", std::move(match), std::move(filters)));
    } else if (model::isTls(port.protocol) && address == "0.0.0.0") {
      if (!tls_rules) addSni(listener, {service.host}, std::move(filters));
    } else if (listener.fallback.is_null()) {  // the oldest keeps the address
      listener.fallback = std::move(filters);
    }
  }

  static Json prefixRange(const std::string& cidr) {
    const auto slash = cidr.find('/');
    return {
        {"address_prefix", cidr.substr(0, slash)},
        {"prefix_len",
         base::parseInteger<std::uint32_t>(std::string_view(cidr).substr(slash + 1)).value_or(32)}};
  }

  void addSni(Outbound& listener, const std::vector<std::string>& hosts, Json filters) {
    Json names = Json::array();
    for (const std::string& host : hosts) {
      if (listener.server_names.insert(host).second) names.push_back(host);
    }
    if (names.empty()) return;
    listener.needs_tls = true;
    listener.chains.push_back(
        shapes::chain("", {{"server_names", std::move(names)}}, std::move(filters)));
  }

  bool addTlsRules(Outbound& listener, const model::Service& service, const model::Port& port) {
    const RouteContext context{view_, "mesh", port.number};
    bool any = false;
    for (const model::VirtualService* vs : rules_) {
      if (!coversHost(*vs, service.host)) continue;
      for (const model::L4Rule& rule : vs->tls) {
        for (const model::L4Match& match : rule.matches) {
          if (rule.destinations.empty() ||
              !appliesHere(context, match.port, match.gateways, match.source_labels,
                           match.source_namespace)) {
            continue;
          }
          const std::string prefix = vs->meta.origin.name + "." + vs->meta.origin.ns;
          addSni(listener, match.sni_hosts,
                 Json::array({shapes::tcpProxyTo(prefix, rule.destinations, port.number, log_)}));
          listener.origins.push_back(vs->meta.origin.at(rule.path));
          any = true;
        }
      }
    }
    return any;
  }

  const model::L4Rule* tcpRule(const model::Service& service, const model::Port& port,
                               Outbound& listener) {
    for (const model::VirtualService* vs : rules_) {
      if (!coversHost(*vs, service.host)) continue;
      const model::L4Rule* rule = firstL4Rule({view_, "mesh", port.number}, vs->tcp);
      if (rule == nullptr) continue;
      listener.origins.push_back(vs->meta.origin.at(rule->path));
      return rule;
    }
    return nullptr;
  }

  static bool coversHost(const model::VirtualService& vs, const std::string& host) {
    for (const std::string& pattern : vs.hosts) {
      if (model::hostCovers(pattern, host)) return true;
    }
    return false;
  }

  Json render(const std::string& name, const Outbound& listener) {
    Json chains = listener.chains;
    if (!listener.rds.empty()) {
      Json match = {{"transport_protocol", "raw_buffer"},
                    {"application_protocols", Json::array({"http/1.1", "h2c"})}};
      chains.push_back(shapes::chain(
          "", std::move(match),
          Json::array({shapes::httpManager(shapes::Side::kOutbound, "outbound_" + name,
                                           shapes::rds(listener.rds), log_)})));
    }
    Json config = {{"name", name},
                   {"address", shapes::socketAddress(listener.address, listener.port)},
                   {"traffic_direction", "OUTBOUND"},
                   {"bind_to_port", false},
                   {"listener_filters_timeout", "0s"},
                   {"continue_on_listener_filters_timeout", true}};
    Json fallback = listener.fallback;
    std::string fallback_name;
    if (fallback.is_null()) {
      fallback_name = "PassthroughFilterChain";
      const char* to = view_.allowAny() ? shapes::kPassthrough : shapes::kBlackHole;
      fallback = Json::array({shapes::tcpProxy(to, to, log_)});
    }
    if (chains.empty()) {
      config["filter_chains"] =
          Json::array({shapes::chain(fallback_name, Json::object(), std::move(fallback))});
      return config;
    }
    config["filter_chains"] = std::move(chains);
    config["default_filter_chain"] =
        shapes::chain(fallback_name, Json::object(), std::move(fallback));
    if (listener.needs_tls) config["listener_filters"].push_back(shapes::tlsInspector());
    if (!listener.rds.empty()) config["listener_filters"].push_back(shapes::httpInspector());
    return config;
  }

  View& view_;
  Json log_;
  std::vector<const model::VirtualService*> rules_;
  std::map<std::string, Outbound> listeners_;
};

}  // namespace

std::vector<Resource> outboundListenerResources(View& view) {
  OutboundBuilder builder(view);
  for (const auto& [service, ports] : view.services()) {
    for (const model::Port* port : ports) builder.add(*service, *port);
  }
  return builder.finish();
}

}  // namespace postern::discovery
