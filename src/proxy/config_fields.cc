// The fields that the builders honour, and the small messages that they share.
#include "api/message.h"
#include "config/supported.h"
#include "envoy/config/core/v3/address.pb.h"
#include "envoy/config/core/v3/config_source.pb.h"
#include "proxy/config_build.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>

#include <limits>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
using config::joinPath;

const config::SupportedFields& honoured() {
  static const config::SupportedFields table{
      {"envoy.config.core.v3.Address", {"socket_address", "pipe"}},
      {"envoy.config.core.v3.SocketAddress", {"protocol", "address", "port_value"}},
      {"envoy.config.core.v3.Pipe", {"path", "mode"}},
      {"envoy.config.core.v3.CidrRange", {"*"}},
      {"envoy.config.core.v3.Metadata", {"*"}},
      {"envoy.config.core.v3.Locality", {"*"}},
      {"envoy.config.core.v3.TcpKeepalive", {"*"}},
      {"envoy.config.core.v3.TransportSocket", {"*"}},  // the builders look at the type
      {"envoy.config.core.v3.BindConfig", {"source_address"}},
      {"envoy.config.core.v3.ConfigSource",
       {"ads", "initial_fetch_timeout", "resource_api_version"}},
      {"envoy.config.core.v3.AggregatedConfigSource", {}},
      {"envoy.config.core.v3.HttpProtocolOptions",
       {"idle_timeout", "max_connection_duration", "max_requests_per_connection",
        "max_stream_duration", "max_headers_count", "max_response_headers_kb"}},
      {"envoy.config.core.v3.Http1ProtocolOptions",
       {"header_key_format", "enable_trailers", "allow_chunked_length",
        "send_fully_qualified_url"}},
      {"envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat", {"*"}},  // the builder checks
      {"envoy.config.core.v3.Http2ProtocolOptions", {"*"}},  // readHttp2Options checks it
      {"envoy.config.accesslog.v3.AccessLog", {"*"}},        // buildAccessLogs checks it
      {"envoy.config.listener.v3.Listener",
       {"name",
        "address",
        "additional_addresses",
        "bypass_overload_manager",
        "stat_prefix",
        "filter_chains",
        "use_original_dst",
        "default_filter_chain",
        "per_connection_buffer_limit_bytes",
        "metadata",
        "deprecated_v1",
        "listener_filters",
        "listener_filters_timeout",
        "continue_on_listener_filters_timeout",
        "transparent",
        "freebind",
        "socket_options",
        "tcp_fast_open_queue_length",
        "tcp_keepalive",
        "max_connections_to_accept_per_socket_event",
        "traffic_direction",
        "enable_reuse_port",
        "access_log",
        "tcp_backlog_size",
        "bind_to_port",
        "udp_listener_config",
        "ignore_global_conn_limit"}},
      {"envoy.config.listener.v3.AdditionalAddress",
       {"address", "socket_options", "tcp_keepalive"}},
      {"envoy.config.core.v3.SocketOptionsOverride", {"*"}},
      {"envoy.config.core.v3.SocketOption", {"*"}},
      {"envoy.config.listener.v3.UdpListenerConfig", {"downstream_socket_config"}},
      {"envoy.config.core.v3.UdpSocketConfig", {"max_rx_datagram_size"}},
      {"envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
       {"stat_prefix", "cluster", "matcher", "idle_timeout", "upstream_socket_config",
        "use_per_packet_load_balancing", "access_log"}},
      {"envoy.extensions.filters.udp.udp_proxy.v3.Route", {"cluster"}},
      {"xds.type.matcher.v3.Matcher", {"on_no_match"}},
      {"xds.type.matcher.v3.Matcher.OnMatch", {"action"}},
      {"xds.core.v3.TypedExtensionConfig", {"*"}},
      {"envoy.config.listener.v3.Listener.DeprecatedV1", {"bind_to_port"}},
      {"envoy.config.listener.v3.ListenerFilter", {"name", "typed_config", "filter_disabled"}},
      {"envoy.config.listener.v3.ListenerFilterChainMatchPredicate", {"*"}},
      {"envoy.config.listener.v3.FilterChain",
       {"name", "filter_chain_match", "filters", "metadata", "transport_socket",
        "transport_socket_connect_timeout"}},
      {"envoy.config.listener.v3.FilterChainMatch",
       {"destination_port", "prefix_ranges", "direct_source_prefix_ranges", "source_type",
        "source_prefix_ranges", "source_ports", "server_names", "transport_protocol",
        "application_protocols"}},
      {"envoy.config.listener.v3.Filter", {"name", "typed_config"}},
      {"envoy.extensions.filters.listener.original_dst.v3.OriginalDst", {}},
      {"envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", {}},
      {"envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
       {"initial_read_buffer_size", "max_client_hello_size",
        "close_connection_on_client_hello_parsing_errors"}},
      {"envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
       {"allow_requests_without_proxy_protocol", "pass_through_tlvs", "disallowed_versions",
        "stat_prefix"}},
      {"envoy.config.core.v3.ProxyProtocolPassThroughTLVs", {"match_type", "tlv_type"}},
      {"envoy.config.core.v3.ProxyProtocolConfig", {"version", "pass_through_tlvs", "added_tlvs"}},
      {"envoy.config.core.v3.TlvEntry", {"type", "value"}},
      {"envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
       {"config", "transport_socket", "tlv_as_pool_key"}},
      {"envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
       {"stat_prefix", "max_connections", "delay"}},
      {"envoy.extensions.filters.network.sni_cluster.v3.SniCluster", {}},
      {"envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", {}},
      {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
       {"stat_prefix", "cluster", "weighted_clusters", "idle_timeout", "access_log",
        "max_connect_attempts", "max_downstream_connection_duration",
        "max_downstream_connection_duration_jitter_percentage", "backoff_options",
        "upstream_connect_mode", "max_early_data_bytes"}},
      {"envoy.config.core.v3.BackoffStrategy", {"base_interval", "max_interval"}},
      {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster", {"clusters"}},
      {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
       {"name", "weight"}},
      {"envoy.config.cluster.v3.Cluster",
       {"name",
        "alt_stat_name",
        "type",
        "eds_cluster_config",
        "connect_timeout",
        "per_connection_buffer_limit_bytes",
        "lb_policy",
        "load_assignment",
        "max_requests_per_connection",
        "circuit_breakers",
        "common_http_protocol_options",
        "http_protocol_options",
        "http2_protocol_options",
        "typed_extension_protocol_options",
        "dns_refresh_rate",
        "dns_jitter",
        "respect_dns_ttl",
        "dns_lookup_family",
        "cleanup_interval",
        "upstream_bind_config",
        "original_dst_lb_config",
        "least_request_lb_config",
        "round_robin_lb_config",
        "common_lb_config",
        "transport_socket",
        "transport_socket_matches",
        "metadata",
        "upstream_connection_options",
        "ignore_health_on_host_removal"}},
      {"envoy.config.cluster.v3.Cluster.TransportSocketMatch", {"*"}},
      {"envoy.config.cluster.v3.Cluster.EdsClusterConfig", {"eds_config", "service_name"}},
      {"envoy.config.cluster.v3.Cluster.OriginalDstLbConfig", {"upstream_port_override"}},
      {"envoy.config.cluster.v3.Cluster.LeastRequestLbConfig", {"choice_count"}},
      {"envoy.config.cluster.v3.Cluster.RoundRobinLbConfig", {}},
      {"envoy.config.cluster.v3.Cluster.CommonLbConfig",
       {"healthy_panic_threshold", "locality_weighted_lb_config"}},
      {"envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", {}},
      {"envoy.config.cluster.v3.CircuitBreakers", {"thresholds"}},
      {"envoy.config.cluster.v3.CircuitBreakers.Thresholds",
       {"priority", "max_connections", "max_pending_requests", "max_requests", "max_retries",
        "retry_budget", "track_remaining"}},
      {"envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
       {"budget_percent", "min_retry_concurrency"}},
      {"envoy.config.cluster.v3.UpstreamConnectionOptions", {"tcp_keepalive"}},
      {"envoy.type.v3.Percent", {"*"}},
      {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
       {"common_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config",
        "auto_config"}},
      {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
       {"http_protocol_options", "http2_protocol_options"}},
      {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
       {"http_protocol_options", "http2_protocol_options"}},
      {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
       {"http_protocol_options", "http2_protocol_options"}},
      {"envoy.config.endpoint.v3.ClusterLoadAssignment", {"cluster_name", "endpoints", "policy"}},
      {"envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", {"overprovisioning_factor"}},
      {"envoy.config.endpoint.v3.LocalityLbEndpoints",
       {"locality", "metadata", "lb_endpoints", "load_balancing_weight", "priority"}},
      {"envoy.config.endpoint.v3.LbEndpoint",
       {"endpoint", "health_status", "metadata", "load_balancing_weight"}},
      {"envoy.config.endpoint.v3.Endpoint", {"address", "hostname"}}};
  return table;
}

}  // namespace

base::ConfigResult<void> checkSupported(const google::protobuf::Message& message,
                                        std::string_view path) {
  return honoured().check(message, path);
}

base::ConfigResult<std::unique_ptr<google::protobuf::Message>> unpackKnown(
    const google::protobuf::Any& any, std::string_view path) {
  auto message = api::unpack(any);
  if (message) return message;
  const std::string_view url = any.type_url();
  const std::string at = joinPath(path, "@type");
  if (url.empty()) return base::failConfig(at, "is required");
  if (api::makeMessage(url) == nullptr) {
    return base::failConfig(at, "\"" + std::string(url) + "\" is not supported");
  }
  return base::failConfig(std::string(path), "is malformed");
}

base::ConfigResult<net::Address> readSocketAddress(const core::SocketAddress& message,
                                                   std::string_view path) {
  if (message.protocol() != core::SocketAddress::TCP)
    return base::failConfig(joinPath(path, "protocol"), "only TCP is supported");
  if (message.port_value() > std::numeric_limits<std::uint16_t>::max())
    return base::failConfig(joinPath(path, "port_value"), "must be at most 65535");
  if (message.address().empty())
    return base::failConfig(joinPath(path, "address"), "must not be empty");
  const auto address =
      net::Address::fromIp(message.address(), static_cast<std::uint16_t>(message.port_value()));
  if (!address) {
    return base::failConfig(joinPath(path, "address"),
                            "malformed IP address: " + message.address());
  }
  return *address;
}

base::ConfigResult<net::Address> readAddress(const core::Address& message, std::string_view path) {
  constexpr std::size_t kPathBytesMax = sizeof(sockaddr_un{}.sun_path) - 1;
  switch (message.address_case()) {
    case core::Address::kSocketAddress:
      return readSocketAddress(message.socket_address(), joinPath(path, "socket_address"));
    case core::Address::kPipe:
      if (message.pipe().path().empty() || message.pipe().path().size() > kPathBytesMax) {
        return base::failConfig(joinPath(path, "pipe.path"),
                                "must have 1 to " + std::to_string(kPathBytesMax) + " characters");
      }
      return net::Address::unixPath(message.pipe().path());
    default:
      return base::failConfig(std::string(path), "must hold a socket_address or a pipe");
  }
}

base::ConfigResult<std::chrono::milliseconds> readDuration(
    const google::protobuf::Duration& message, std::string_view path) {
  constexpr std::int64_t kSecondsMax = 315'576'000'000;  // as protobuf defines it
  if (message.seconds() < 0 || message.nanos() < 0 || message.seconds() > kSecondsMax)
    return base::failConfig(std::string(path), "must not be negative");
  return std::chrono::milliseconds(message.seconds() * 1000 +
                                   (message.nanos() + 999'999) / 1'000'000);
}

base::ConfigResult<DiscoverySource> readSource(const core::ConfigSource& message,
                                               std::string_view path) {
  DiscoverySource out;
  if (!message.has_ads()) return base::failConfig(std::string(path), "must be ads");
  if (message.resource_api_version() == core::V2)
    return base::failConfig(joinPath(path, "resource_api_version"), "must be V3");
  if (message.has_initial_fetch_timeout()) {
    POSTERN_TRY(out.initial_fetch_timeout, readDuration(message.initial_fetch_timeout(),
                                                        joinPath(path, "initial_fetch_timeout")));
  }
  return out;
}

}  // namespace postern::proxy
