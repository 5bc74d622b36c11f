// virtualOutbound (15001) and virtualInbound (15006), where captured connections arrive.
#include "discovery/inbound.h"
#include "discovery/listeners.h"
#include "discovery/shapes.h"

namespace postern::discovery {

using json::Json;

namespace {

constexpr std::uint32_t kOutboundPort = 15001;
constexpr std::uint32_t kInboundPort = 15006;

Json blackHoleChain(const char* name, std::uint32_t port, const Json& log) {
  return shapes::chain(
      name, {{"destination_port", port}},
      Json::array({shapes::tcpProxy(shapes::kBlackHole, shapes::kBlackHole, log)}));
}

Resource virtualOutbound(View& view, const Json& log) {
  const char* to = view.allowAny() ? shapes::kPassthrough : shapes::kBlackHole;
  Json chains = Json::array({blackHoleChain("virtualOutbound-blackhole", kOutboundPort, log),
                             shapes::chain("virtualOutbound-catchall-tcp", Json::object(),
                                           Json::array({shapes::tcpProxy(to, to, log)}))});
  Json config = {{"name", "virtualOutbound"},
                 {"address", shapes::socketAddress("0.0.0.0", kOutboundPort)},
                 {"filter_chains", std::move(chains)},
                 {"use_original_dst", true},
                 {"traffic_direction", "OUTBOUND"}};
  return {"virtualOutbound", std::move(config), {view.mesh().origin}};
}

Json inboundHttp(const InboundPort& port, const Json& log) {
  const std::string cluster = shapes::inboundName(port.target);
  const std::string where = port.service->host + ":" + std::to_string(port.port->number);
  Json route = {{"name", "default"},
                {"match", {{"prefix", "/"}}},
                {"route", {{"cluster", cluster}, {"timeout", "0s"}}},
                {"decorator", {{"operation", where + "/*"}}}};
  Json host = {{"name", "inbound|http|" + std::to_string(port.port->number)},
               {"domains", Json::array({"*"})},
               {"routes", Json::array({std::move(route)})}};
  Json routes = {{"route_config",
                  {{"name", cluster},
                   {"virtual_hosts", Json::array({std::move(host)})},
                   {"validate_clusters", false}}}};
  return shapes::httpManager(shapes::Side::kInbound,
                             "inbound_0.0.0.0_" + std::to_string(port.target), routes, log);
}

void addInboundChains(const InboundPort& port, const Json& log, Json& chains) {
  const std::string name = "0.0.0.0_" + std::to_string(port.target);
  const std::string cluster = shapes::inboundName(port.target);
  Json match = {{"destination_port", port.target}};
  const model::Protocol protocol = port.port->protocol;
  if (model::isHttp(protocol)) {
    match["transport_protocol"] = "raw_buffer";
    chains.push_back(shapes::chain(name, match, Json::array({inboundHttp(port, log)})));
    return;
  }
  if (protocol == model::Protocol::kUnknown) {
    Json http = match;
    http["transport_protocol"] = "raw_buffer";
    http["application_protocols"] = Json::array({"http/1.1", "h2c"});
    chains.push_back(shapes::chain(name, std::move(http), Json::array({inboundHttp(port, log)})));
    // Matching does not go back: once the transport protocol chose the chain above, one without it
    // is out, and what is not HTTP would find no chain.
    match["transport_protocol"] = "raw_buffer";
  }
  chains.push_back(
      shapes::chain(name, match, Json::array({shapes::tcpProxy(cluster, cluster, log)})));
}

Resource virtualInbound(View& view, const Json& log) {
  Resource resource{"virtualInbound", {}, {}};
  Json chains = Json::array({blackHoleChain("virtualInbound-blackhole", kInboundPort, log)});
  bool sniff = false;
  for (const InboundPort& port : inboundPorts(view)) {
    addInboundChains(port, log, chains);
    sniff = sniff || port.port->protocol == model::Protocol::kUnknown;
    resource.origins.push_back(port.service->meta.origin);
  }
  chains.push_back(shapes::chain(
      "virtualInbound", Json::object(),
      Json::array(
          {shapes::tcpProxy(shapes::kInboundPassthrough, shapes::kInboundPassthrough, log)})));
  Json filters = Json::array({shapes::named(
      "envoy.filters.listener.original_dst",
      "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", Json::object())});
  resource.config = {{"name", "virtualInbound"},
                     {"address", shapes::socketAddress("0.0.0.0", kInboundPort)},
                     {"filter_chains", std::move(chains)},
                     {"traffic_direction", "INBOUND"}};
  if (sniff) {
    // A protocol whose server speaks first must not wait for bytes that never come.
    filters.push_back(shapes::httpInspector());
    resource.config["listener_filters_timeout"] = "1s";
    resource.config["continue_on_listener_filters_timeout"] = true;
  }
  resource.config["listener_filters"] = std::move(filters);
  return resource;
}

}  // namespace

std::vector<InboundPort> inboundPorts(View& view) {
  std::vector<InboundPort> out;
  std::set<std::uint32_t> taken;  // the oldest service keeps a target port
  for (const model::Service* service : view.ownServices()) {
    for (const model::Port& port : service->ports) {
      if (port.protocol == model::Protocol::kUdp) continue;
      const std::uint32_t target =
          port.target != 0 ? port.target : view.containerPort(port.target_name);
      if (target != 0 && taken.insert(target).second) out.push_back({service, &port, target});
    }
  }
  return out;
}

std::vector<Resource> virtualListenerResources(View& view) {
  const Json log = shapes::accessLog(view.mesh());
  std::vector<Resource> out;
  out.push_back(virtualOutbound(view, log));
  out.push_back(virtualInbound(view, log));
  return out;
}

std::vector<Resource> generateListeners(View& view) {
  if (view.proxy().router) return gatewayListenerResources(view);
  std::vector<Resource> out = outboundListenerResources(view);
  for (Resource& resource : virtualListenerResources(view)) out.push_back(std::move(resource));
  return out;
}

}  // namespace postern::discovery
