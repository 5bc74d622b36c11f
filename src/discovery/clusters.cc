// CDS and EDS.
#include "discovery/inbound.h"
#include "discovery/shapes.h"
#include "model/host.h"

#include <algorithm>

namespace postern::discovery {

using json::Json;

namespace {

constexpr std::uint32_t kNoLimit = 4294967295U;

Json baseCluster(const std::string& name, const std::string& type, const std::string& timeout) {
  return {{"name", name}, {"type", type}, {"connect_timeout", timeout}};
}

/// The fields of `over` replace those of `base`, per group.
model::TrafficPolicy overlay(model::TrafficPolicy base, const model::TrafficPolicy& over) {
  if (over.balancer) base.balancer = over.balancer;
  if (over.has_pool) {
    const auto balancer = base.balancer;
    base = over;
    base.balancer = balancer;
  }
  return base;
}

model::TrafficPolicy effective(const model::DestinationRule* rule, const model::Subset* subset,
                               std::uint32_t port) {
  if (rule == nullptr) return {};
  model::TrafficPolicy out = rule->policy.top;
  if (subset != nullptr) out = overlay(out, subset->policy.top);
  auto apply = [&](const model::PolicySet& set) {
    for (const model::PortPolicy& entry : set.ports) {
      if (entry.port == port) out = overlay(out, entry.policy);
    }
  };
  apply(rule->policy);
  if (subset != nullptr) apply(subset->policy);
  return out;
}

Json thresholds(const model::TrafficPolicy& policy) {
  return {
      {"thresholds", Json::array({{{"max_connections", policy.max_connections.value_or(kNoLimit)},
                                   {"max_pending_requests", policy.max_pending.value_or(kNoLimit)},
                                   {"max_requests", policy.max_requests.value_or(kNoLimit)},
                                   {"max_retries", policy.max_retries.value_or(kNoLimit)},
                                   {"track_remaining", true}}})}};
}

void addHttpOptions(Json& cluster, const model::TrafficPolicy& policy, model::Protocol protocol) {
  Json options;
  const bool h2 = protocol == model::Protocol::kHttp2 || protocol == model::Protocol::kGrpc ||
                  (protocol == model::Protocol::kHttp && policy.upgrade_h2);
  if (h2) {
    options["explicit_http_config"] = {{"http2_protocol_options", Json::object()}};
  } else if (protocol == model::Protocol::kUnknown) {
    options["use_downstream_protocol_config"] = {{"http_protocol_options", Json::object()},
                                                 {"http2_protocol_options", Json::object()}};
  }
  Json common;
  if (policy.http_idle_timeout) common["idle_timeout"] = *policy.http_idle_timeout;
  if (policy.max_requests_per_connection.value_or(0) != 0) {
    common["max_requests_per_connection"] = *policy.max_requests_per_connection;
  }
  if (!common.is_null()) {
    options["common_http_protocol_options"] = std::move(common);
    if (!options.contains("explicit_http_config") &&
        !options.contains("use_downstream_protocol_config")) {
      options["explicit_http_config"] = {{"http_protocol_options", Json::object()}};
    }
  }
  if (options.is_null()) return;
  cluster["typed_extension_protocol_options"]
         ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = shapes::typed(
             "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", std::move(options));
}

Json lbEndpoint(const std::string& address, std::uint32_t port, std::uint32_t weight) {
  return {{"endpoint", {{"address", shapes::socketAddress(address, port)}}},
          {"load_balancing_weight", weight}};
}

Json assignment(const std::string& name, Json endpoints) {
  Json localities = Json::array();
  if (!endpoints.empty()) {
    localities.push_back({{"locality", Json::object()},
                          {"load_balancing_weight", endpoints.size()},
                          {"lb_endpoints", std::move(endpoints)}});
  }
  return {{"cluster_name", name}, {"endpoints", std::move(localities)}};
}

Json dnsEndpoints(const model::Service& service, const model::Port& port,
                  const model::Subset* subset) {
  Json out = Json::array();
  for (const model::Endpoint& endpoint : service.endpoints) {
    if (endpoint.port_name != port.name ||
        (subset != nullptr && !model::labelsContain(endpoint.labels, subset->labels))) {
      continue;
    }
    out.push_back(lbEndpoint(endpoint.address, endpoint.port, endpoint.weight));
  }
  if (out.empty() && service.endpoints.empty() && !service.host.starts_with("*")) {
    const std::string& host = service.external_name.empty() ? service.host : service.external_name;
    out.push_back(lbEndpoint(host, port.target != 0 ? port.target : port.number, 1));
  }
  return out;
}

std::string typeOf(const View& view, const model::Service& service,
                   const model::TrafficPolicy& policy) {
  if (policy.balancer == "CLUSTER_PROVIDED") return "ORIGINAL_DST";
  switch (service.resolution) {
    case model::Resolution::kEds:
      return "EDS";
    case model::Resolution::kDns:
      return "STRICT_DNS";
    case model::Resolution::kDnsRoundRobin:
      return "LOGICAL_DNS";
    case model::Resolution::kPassthrough:
      return view.proxy().router && service.headless ? "EDS" : "ORIGINAL_DST";
  }
  return "EDS";
}

Resource outboundCluster(View& view, const model::Service& service, const model::Port& port,
                         const model::DestinationRule* rule, const model::Subset* subset) {
  Resource out{
      shapes::outboundName(port.number, subset != nullptr ? subset->name : "", service.host),
      {},
      {service.meta.origin}};
  if (rule != nullptr) {
    out.origins.push_back(rule->meta.origin.at(subset != nullptr ? subset->path : "spec"));
  }
  const model::TrafficPolicy policy = effective(rule, subset, port.number);
  const std::string type = typeOf(view, service, policy);
  Json cluster =
      baseCluster(out.name, type, policy.connect_timeout.value_or(view.mesh().connect_timeout));
  cluster["circuit_breakers"] = thresholds(policy);
  cluster["common_lb_config"] = {{"healthy_panic_threshold", Json::object()}};
  if (type == "ORIGINAL_DST") {
    cluster["lb_policy"] = "CLUSTER_PROVIDED";
  } else {
    cluster["lb_policy"] = policy.balancer.value_or("LEAST_REQUEST");
  }
  if (type == "EDS") {
    cluster["eds_cluster_config"] = {{"eds_config", shapes::adsSource()},
                                     {"service_name", out.name}};
  } else if (type != "ORIGINAL_DST") {
    Json endpoints = dnsEndpoints(service, port, subset);
    if (type == "LOGICAL_DNS" && endpoints.size() != 1) cluster["type"] = "STRICT_DNS";
    cluster["load_assignment"] = assignment(out.name, std::move(endpoints));
    cluster["dns_lookup_family"] = "V4_ONLY";
    cluster["dns_refresh_rate"] = "60s";
    cluster["respect_dns_ttl"] = true;
  }
  addHttpOptions(cluster, policy, port.protocol);
  out.config = std::move(cluster);
  return out;
}

Json passthrough(const std::string& name, const std::string& timeout) {
  Json cluster = baseCluster(name, "ORIGINAL_DST", timeout);
  cluster["lb_policy"] = "CLUSTER_PROVIDED";
  cluster["circuit_breakers"] = thresholds({});
  model::TrafficPolicy policy;
  policy.http_idle_timeout = "300s";
  addHttpOptions(cluster, policy, model::Protocol::kUnknown);
  return cluster;
}

Json fromLoopback() { return {{"source_address", {{"address", "127.0.0.6"}, {"port_value", 0}}}}; }

void addSidecarClusters(View& view, std::vector<Resource>& out) {
  const std::string timeout = view.mesh().connect_timeout;
  for (const InboundPort& port : inboundPorts(view)) {
    const std::string name = shapes::inboundName(port.target);
    Json cluster = baseCluster(name, "ORIGINAL_DST", timeout);
    cluster["lb_policy"] = "CLUSTER_PROVIDED";
    cluster["circuit_breakers"] = thresholds({});
    cluster["upstream_bind_config"] = fromLoopback();
    addHttpOptions(cluster, {}, port.port->protocol);
    out.push_back({name, std::move(cluster), {port.service->meta.origin}});
  }
  out.push_back({shapes::kPassthrough, passthrough(shapes::kPassthrough, timeout), {}});
  Json inbound = passthrough(shapes::kInboundPassthrough, timeout);
  inbound["upstream_bind_config"] = fromLoopback();
  out.push_back({shapes::kInboundPassthrough, std::move(inbound), {}});
}

}  // namespace

std::vector<Resource> generateClusters(View& view) {
  std::vector<Resource> out;
  for (const auto& [service, ports] : view.services()) {
    const model::DestinationRule* rule = view.destinationRule(*service);
    for (const model::Port* port : ports) {
      out.push_back(outboundCluster(view, *service, *port, rule, nullptr));
      if (rule == nullptr) continue;
      for (const model::Subset& subset : rule->subsets) {
        out.push_back(outboundCluster(view, *service, *port, rule, &subset));
      }
    }
  }
  Json black_hole = baseCluster(shapes::kBlackHole, "STATIC", view.mesh().connect_timeout);
  out.push_back({shapes::kBlackHole, std::move(black_hole), {}});
  if (!view.proxy().router) addSidecarClusters(view, out);
  return out;
}

namespace {

Resource edsResource(View& view, const model::Service& service, const model::Port& port,
                     const model::Subset* subset) {
  const std::string name =
      shapes::outboundName(port.number, subset != nullptr ? subset->name : "", service.host);
  Json endpoints = Json::array();
  std::uint32_t total = 0;
  for (const model::Endpoint& endpoint : view.endpoints(service)) {
    if (endpoint.port_name != port.name || endpoint.port == 0 ||
        (subset != nullptr && !model::labelsContain(endpoint.labels, subset->labels))) {
      continue;
    }
    endpoints.push_back(lbEndpoint(endpoint.address, endpoint.port, endpoint.weight));
    total += endpoint.weight;
  }
  Json config = assignment(name, std::move(endpoints));
  if (total != 0) config["endpoints"][0]["load_balancing_weight"] = total;
  return {name, std::move(config), {service.meta.origin}};
}

}  // namespace

std::vector<Resource> generateEndpoints(View& view) {
  std::vector<Resource> out;
  for (const auto& [service, ports] : view.services()) {
    const model::DestinationRule* rule = view.destinationRule(*service);
    for (const model::Port* port : ports) {
      if (typeOf(view, *service, effective(rule, nullptr, port->number)) == "EDS") {
        out.push_back(edsResource(view, *service, *port, nullptr));
      }
      if (rule == nullptr) continue;
      for (const model::Subset& subset : rule->subsets) {
        if (typeOf(view, *service, effective(rule, &subset, port->number)) == "EDS") {
          out.push_back(edsResource(view, *service, *port, &subset));
        }
      }
    }
  }
  return out;
}

}  // namespace postern::discovery
