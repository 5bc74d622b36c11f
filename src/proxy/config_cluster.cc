#include "api/message.h"
#include "config/supported.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.pb.h"
#include "proxy/config_build.h"
#include "proxy/honoured_fields.h"
#include "proxy/tls_socket.h"
#include "proxy/upstream_proxy_protocol.h"
#include "stats/stats.h"

#include <limits>

namespace postern::proxy {

namespace {

namespace cluster = envoy::config::cluster::v3;
namespace core = envoy::config::core::v3;
namespace endpoint = envoy::config::endpoint::v3;
/// Names are allowed where DNS resolves them.
enum class HostNames : bool { kRefused, kAllowed };

namespace proxy_protocol = envoy::extensions::transport_sockets::proxy_protocol::v3;
using config::joinPath;

base::ConfigResult<void> readType(const cluster::Cluster& message, std::string_view path,
                                  Cluster& out) {
  switch (message.type()) {
    case cluster::Cluster::STATIC:
      out.type = Cluster::Type::kStatic;
      break;
    case cluster::Cluster::STRICT_DNS:
      out.type = Cluster::Type::kStrictDns;
      break;
    case cluster::Cluster::LOGICAL_DNS:
      out.type = Cluster::Type::kLogicalDns;
      break;
    case cluster::Cluster::ORIGINAL_DST:
      out.type = Cluster::Type::kOriginalDst;
      if (message.has_load_assignment()) {
        return base::failConfig(joinPath(path, "load_assignment"),
                                "must not be set with ORIGINAL_DST");
      }
      break;
    case cluster::Cluster::EDS: {
      out.type = Cluster::Type::kEds;
      const std::string at = joinPath(path, "eds_cluster_config");
      if (!message.has_eds_cluster_config()) return base::failConfig(at, "is required");
      POSTERN_TRY(
          const DiscoverySource source,
          readSource(message.eds_cluster_config().eds_config(), joinPath(at, "eds_config")));
      out.eds_timeout = source.initial_fetch_timeout;
      out.eds_name = message.eds_cluster_config().service_name();
      if (out.eds_name.empty()) out.eds_name = out.name;
      break;
    }
    default:
      return base::failConfig(joinPath(path, "type"), "is not a known type");
  }
  if (message.has_eds_cluster_config() && out.type != Cluster::Type::kEds)
    return base::failConfig(joinPath(path, "eds_cluster_config"), "is only for EDS");
  return {};
}

base::ConfigResult<void> readBalancing(const cluster::Cluster& message, std::string_view path,
                                       Cluster& out) {
  const std::string at = joinPath(path, "lb_policy");
  switch (message.lb_policy()) {
    case cluster::Cluster::ROUND_ROBIN:
      out.balancer = Cluster::Balancer::kRoundRobin;
      break;
    case cluster::Cluster::LEAST_REQUEST:
      out.balancer = Cluster::Balancer::kLeastRequest;
      break;
    case cluster::Cluster::RANDOM:
      out.balancer = Cluster::Balancer::kRandom;
      break;
    case cluster::Cluster::CLUSTER_PROVIDED:
      out.balancer = Cluster::Balancer::kProvided;
      break;
    default:
      return base::failConfig(
          at, cluster::Cluster::LbPolicy_Name(message.lb_policy()) + " is not supported");
  }
  const bool original = out.type == Cluster::Type::kOriginalDst;
  if (original != (out.balancer == Cluster::Balancer::kProvided)) {
    return base::failConfig(at, original ? "must be CLUSTER_PROVIDED with ORIGINAL_DST"
                                         : "CLUSTER_PROVIDED is only for ORIGINAL_DST");
  }
  if (message.least_request_lb_config().has_choice_count()) {
    out.choice_count = message.least_request_lb_config().choice_count().value();
    if (out.choice_count < 2) {
      return base::failConfig(joinPath(path, "least_request_lb_config.choice_count"),
                              "must be at least 2");
    }
  }
  if (message.original_dst_lb_config().has_upstream_port_override()) {
    const auto port = message.original_dst_lb_config().upstream_port_override().value();
    if (port > std::numeric_limits<std::uint16_t>::max()) {
      return base::failConfig(joinPath(path, "original_dst_lb_config.upstream_port_override"),
                              "must be at most 65535");
    }
    out.original_port_override = static_cast<std::uint16_t>(port);
  }
  const auto& common = message.common_lb_config();
  if (common.has_healthy_panic_threshold()) {
    const double percent = common.healthy_panic_threshold().value();
    if (!(percent >= 0 && percent <= 100)) {
      return base::failConfig(joinPath(path, "common_lb_config.healthy_panic_threshold.value"),
                              "must be between 0 and 100");
    }
    out.panic_percent = static_cast<std::uint32_t>(percent);
  }
  out.locality_weighted = common.has_locality_weighted_lb_config();
  return {};
}

base::ConfigResult<RetryBudget> readRetryBudget(
    const cluster::CircuitBreakers::Thresholds::RetryBudget& message, std::string_view path) {
  RetryBudget out;
  if (message.has_budget_percent()) {
    out.percent = message.budget_percent().value();
    if (!(out.percent >= 0 && out.percent <= 100)) {
      return base::failConfig(joinPath(path, "retry_budget.budget_percent.value"),
                              "must be between 0 and 100");
    }
  }
  if (message.has_min_retry_concurrency())
    out.concurrency_min = message.min_retry_concurrency().value();
  return out;
}

base::ConfigResult<void> readBreakers(const cluster::CircuitBreakers& message,
                                      std::string_view path, Cluster& out) {
  for (int i = 0; i < message.thresholds_size(); ++i) {
    const auto& each = message.thresholds(i);
    const bool high = each.priority() == core::HIGH;
    if (!high && each.priority() != core::DEFAULT) {
      return base::failConfig(joinPath(path, "thresholds", i) + ".priority",
                              "must be DEFAULT or HIGH");
    }
    CircuitBreaker& breaker = out.breakers[high ? 1 : 0];
    breaker = {};
    if (each.has_max_connections()) breaker.connections_max = each.max_connections().value();
    if (each.has_max_pending_requests()) breaker.pending_max = each.max_pending_requests().value();
    if (each.has_max_requests()) breaker.requests_max = each.max_requests().value();
    if (each.has_max_retries()) breaker.retries_max = each.max_retries().value();
    breaker.track_remaining = each.track_remaining();
    if (each.has_retry_budget()) {
      POSTERN_TRY(breaker.retry_budget,
                  readRetryBudget(each.retry_budget(), joinPath(path, "thresholds", i)));
    }
  }
  return {};
}

base::ConfigResult<void> readDns(const cluster::Cluster& message, std::string_view path,
                                 Cluster& out) {
  if (message.has_dns_refresh_rate()) {
    const std::string at = joinPath(path, "dns_refresh_rate");
    POSTERN_TRY(out.dns_refresh, readDuration(message.dns_refresh_rate(), at));
    if (out.dns_refresh.count() <= 1) return base::failConfig(at, "must be more than 1ms");
  }
  POSTERN_TRY(out.dns_jitter, readDuration(message.dns_jitter(), joinPath(path, "dns_jitter")));
  out.respect_dns_ttl = message.respect_dns_ttl();
  switch (message.dns_lookup_family()) {
    case cluster::Cluster::AUTO:
      out.dns_family = net::DnsFamily::kAuto;
      return {};
    case cluster::Cluster::V4_ONLY:
      out.dns_family = net::DnsFamily::kV4Only;
      return {};
    case cluster::Cluster::V6_ONLY:
      out.dns_family = net::DnsFamily::kV6Only;
      return {};
    case cluster::Cluster::V4_PREFERRED:
      out.dns_family = net::DnsFamily::kV4Preferred;
      return {};
    case cluster::Cluster::ALL:
      out.dns_family = net::DnsFamily::kAll;
      return {};
    default:
      return base::failConfig(joinPath(path, "dns_lookup_family"), "is not a known family");
  }
}

/// The transport socket, or the one inside where connections begin with a PROXY header; `path` then
/// names that.
base::ConfigResult<core::TransportSocket> readProxyProtocol(const core::TransportSocket& message,
                                                            std::string& path, Cluster& out) {
  proxy_protocol::ProxyProtocolUpstreamTransport config;
  if (!api::unpack(message.typed_config(), config)) return message;
  const std::string at = joinPath(path, "typed_config");
  POSTERN_TRY(out.proxy_protocol,
              buildUpstreamProxyProtocol(config.config(), joinPath(at, "config")));
  path = joinPath(at, "transport_socket");
  if (!config.has_transport_socket()) return base::failConfig(path, "is required");
  return config.transport_socket();
}

SocketCriteria readCriteria(const google::protobuf::Struct& message) {
  SocketCriteria out;
  for (const auto& [key, value] : message.fields()) out.emplace(key, api::serialize(value));
  return out;
}

base::ConfigResult<ClusterSocket> readSocket(const core::TransportSocket& message,
                                             std::string_view path) {
  ClusterSocket out;
  POSTERN_TRY(out.tls, readUpstreamSocket(message, path));
  if (out.tls != nullptr) out.fingerprint = api::serialize(message);
  return out;
}

base::ConfigResult<void> readSockets(const cluster::Cluster& message, std::string_view path,
                                     Cluster& out) {
  for (int i = 0; i < message.transport_socket_matches_size(); ++i) {
    const auto& each = message.transport_socket_matches(i);
    const std::string at = joinPath(path, "transport_socket_matches", i);
    if (each.name().empty()) return base::failConfig(at + ".name", "must not be empty");
    ClusterSocket socket;
    if (each.has_transport_socket()) {
      POSTERN_TRY(socket, readSocket(each.transport_socket(), joinPath(at, "transport_socket")));
    }
    socket.name = each.name();
    socket.criteria = readCriteria(each.match());
    out.sockets.push_back(std::move(socket));
  }
  if (!message.has_transport_socket() && out.sockets.empty()) return {};
  ClusterSocket rest;
  if (message.has_transport_socket()) {
    std::string at = joinPath(path, "transport_socket");
    POSTERN_TRY(const core::TransportSocket socket,
                readProxyProtocol(message.transport_socket(), at, out));
    POSTERN_TRY(rest, readSocket(socket, at));
    rest.greets = out.proxy_protocol.has_value();
  }
  out.sockets.push_back(std::move(rest));
  return {};
}

base::ConfigResult<void> readConnections(const cluster::Cluster& message, std::string_view path,
                                         Cluster& out) {
  if (message.has_connect_timeout()) {
    const std::string at = joinPath(path, "connect_timeout");
    POSTERN_TRY(out.connect_timeout, readDuration(message.connect_timeout(), at));
    if (out.connect_timeout.count() == 0) return base::failConfig(at, "must be more than 0s");
  }
  // 0: no limit, but for those that hold without the field.
  if (message.per_connection_buffer_limit_bytes().value() != 0)
    out.buffer_bytes_max = message.per_connection_buffer_limit_bytes().value();
  if (message.has_cleanup_interval()) {
    const std::string at = joinPath(path, "cleanup_interval");
    POSTERN_TRY(out.cleanup_interval, readDuration(message.cleanup_interval(), at));
    if (out.cleanup_interval.count() == 0) return base::failConfig(at, "must be more than 0s");
  }
  if (message.upstream_bind_config().has_source_address()) {
    POSTERN_TRY(out.source,
                readSocketAddress(message.upstream_bind_config().source_address(),
                                  joinPath(path, "upstream_bind_config.source_address")));
  }
  if (message.upstream_connection_options().has_tcp_keepalive()) {
    const auto& keepalive = message.upstream_connection_options().tcp_keepalive();
    out.keepalive_time_s = keepalive.keepalive_time().value();
    out.keepalive_interval_s = keepalive.keepalive_interval().value();
    out.keepalive_probes = keepalive.keepalive_probes().value();
  }
  return readSockets(message, path, out);
}

base::ConfigResult<Endpoint> readEndpoint(const endpoint::LbEndpoint& message,
                                          std::string_view path, HostNames names) {
  Endpoint out;
  if (!message.has_endpoint()) return base::failConfig(joinPath(path, "endpoint"), "is required");
  const std::string at = joinPath(path, "endpoint.address");
  const core::Address& address = message.endpoint().address();
  const core::SocketAddress& socket = address.socket_address();
  auto read = readAddress(address, at);
  if (read) {
    out.address = *read;
  } else if (names == HostNames::kAllowed && address.has_socket_address() &&
             !socket.address().empty() && socket.protocol() == core::SocketAddress::TCP &&
             socket.port_value() <= std::numeric_limits<std::uint16_t>::max()) {
    out.name = socket.address();
    out.port = static_cast<std::uint16_t>(socket.port_value());
  } else {
    return std::unexpected(std::move(read).error());
  }
  out.hostname = message.endpoint().hostname();
  const auto& metadata = message.metadata().filter_metadata();
  if (const auto it = metadata.find("envoy.transport_socket_match"); it != metadata.end())
    out.socket_criteria = readCriteria(it->second);
  if (message.has_load_balancing_weight()) {
    out.weight = message.load_balancing_weight().value();
    if (out.weight == 0)
      return base::failConfig(joinPath(path, "load_balancing_weight"), "must be at least 1");
  }
  switch (message.health_status()) {
    case core::UNKNOWN:
    case core::HEALTHY:
      break;
    case core::DEGRADED:
      out.health = Health::kDegraded;
      break;
    default:
      out.health = Health::kUnhealthy;
  }
  return out;
}

base::ConfigResult<LoadAssignment> readAssignment(const endpoint::ClusterLoadAssignment& message,
                                                  std::string_view path, HostNames names) {
  constexpr std::uint32_t kPriorityMax = 128;
  LoadAssignment out;
  if (message.policy().has_overprovisioning_factor()) {
    out.overprovisioning_percent = message.policy().overprovisioning_factor().value();
    if (out.overprovisioning_percent == 0) {
      return base::failConfig(joinPath(path, "policy.overprovisioning_factor"),
                              "must be at least 1");
    }
  }
  for (int i = 0; i < message.endpoints_size(); ++i) {
    const auto& each = message.endpoints(i);
    const std::string at = joinPath(path, "endpoints", i);
    LocalityEndpoints locality;
    locality.locality = {each.locality().region(), each.locality().zone(),
                         each.locality().sub_zone()};
    locality.weight = each.load_balancing_weight().value();
    locality.priority = each.priority();
    if (locality.priority > kPriorityMax)
      return base::failConfig(joinPath(at, "priority"), "must be at most 128");
    for (int k = 0; k < each.lb_endpoints_size(); ++k) {
      POSTERN_TRY(Endpoint read,
                  readEndpoint(each.lb_endpoints(k), joinPath(at, "lb_endpoints", k), names));
      locality.endpoints.push_back(std::move(read));
    }
    out.localities.push_back(std::move(locality));
  }
  return out;
}

}  // namespace

base::ConfigResult<LoadAssignment> buildAssignment(const endpoint::ClusterLoadAssignment& message,
                                                   std::string_view path) {
  POSTERN_TRY_VOID(checkHonoured(message, path, Door::kCluster));
  return readAssignment(message, path, HostNames::kRefused);
}

base::ConfigResult<std::shared_ptr<const Cluster>> buildCluster(const cluster::Cluster& message,
                                                                std::string_view path) {
  POSTERN_TRY_VOID(checkHonoured(message, path, Door::kCluster));
  auto out = std::make_shared<Cluster>();
  out->name = message.name();
  if (out->name.empty()) return base::failConfig(joinPath(path, "name"), "must not be empty");
  out->observed_name = message.alt_stat_name();
  out->stat_name = stats::statName(out->observed_name.empty() ? out->name : out->observed_name);
  POSTERN_TRY_VOID(readType(message, path, *out));
  POSTERN_TRY_VOID(readBalancing(message, path, *out));
  POSTERN_TRY_VOID(
      readBreakers(message.circuit_breakers(), joinPath(path, "circuit_breakers"), *out));
  POSTERN_TRY_VOID(readDns(message, path, *out));
  POSTERN_TRY_VOID(readConnections(message, path, *out));
  POSTERN_TRY_VOID(readUpstreamHttp(message, path, *out));
  const bool dns =
      out->type == Cluster::Type::kStrictDns || out->type == Cluster::Type::kLogicalDns;
  const std::string at = joinPath(path, "load_assignment");
  POSTERN_TRY(out->assignment, readAssignment(message.load_assignment(), at,
                                              dns ? HostNames::kAllowed : HostNames::kRefused));
  if (out->type == Cluster::Type::kLogicalDns) {
    std::size_t endpoints = 0;
    for (const auto& locality : out->assignment.localities) endpoints += locality.endpoints.size();
    if (endpoints != 1)
      return base::failConfig(at, "LOGICAL_DNS clusters must have exactly one endpoint");
  }
  return std::shared_ptr<const Cluster>(std::move(out));
}

}  // namespace postern::proxy
