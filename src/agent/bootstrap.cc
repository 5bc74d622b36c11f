#include "agent/bootstrap.h"

#include <nlohmann/json.hpp>

namespace postern::agent {
namespace {

using json::Json;

constexpr const char* kXdsCluster = "xds-grpc";
constexpr const char* kPrometheusCluster = "prometheus_stats";

Json socketAddress(const char* ip, std::uint16_t port) {
  return {{"socket_address", {{"protocol", "TCP"}, {"address", ip}, {"port_value", port}}}};
}

Json staticCluster(const char* name, Json address) {
  Json endpoint = {{"endpoint", {{"address", std::move(address)}}}};
  return {{"name", name},
          {"type", "STATIC"},
          {"connect_timeout", "1s"},
          {"lb_policy", "ROUND_ROBIN"},
          {"load_assignment",
           {{"cluster_name", name},
            {"endpoints", Json::array({{{"lb_endpoints", Json::array({std::move(endpoint)})}}})}}}};
}

Json xdsCluster(const AgentOptions& options) {
  Json cluster = staticCluster(kXdsCluster, {{"pipe", {{"path", xdsSocketPath(options)}}}});
  cluster["typed_extension_protocol_options"] = {
      {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
       {{"@type", "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
        {"explicit_http_config", {{"http2_protocol_options", Json::object()}}}}}};
  return cluster;
}

/// Metrics for Prometheus on all addresses: one path, led to the admin port, which is loopback's.
Json metricsListener(const AgentOptions& options) {
  Json route = {{"match", {{"prefix", "/stats/prometheus"}}},
                {"route", {{"cluster", kPrometheusCluster}}}};
  Json manager = {
      {"@type",
       "type.googleapis.com/"
       "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"},
      {"codec_type", "AUTO"},
      {"stat_prefix", "stats"},
      {"route_config",
       {{"virtual_hosts", Json::array({{{"name", "backend"},
                                        {"domains", {"*"}},
                                        {"routes", Json::array({std::move(route)})}}})}}},
      {"http_filters", Json::array({{{"name", "envoy.filters.http.router"},
                                     {"typed_config",
                                      {{"@type",
                                        "type.googleapis.com/"
                                        "envoy.extensions.filters.http.router.v3.Router"}}}}})}};
  Json filter = {{"name", "envoy.filters.network.http_connection_manager"},
                 {"typed_config", std::move(manager)}};
  return {{"name", "prometheus"},
          {"address", socketAddress("0.0.0.0", options.prometheus_port)},
          {"filter_chains", Json::array({{{"filters", Json::array({std::move(filter)})}}})}};
}

Json adsSource() {
  return {{"ads", Json::object()}, {"initial_fetch_timeout", "0s"}, {"resource_api_version", "V3"}};
}

}  // namespace

std::string xdsSocketPath(const AgentOptions& options) { return options.paths.config_dir + "/XDS"; }

Json makeBootstrap(const AgentOptions& options) {
  // Written by this program from values it read itself: it always parses.
  Json metadata = json::parse(options.metadata_json).value_or(Json::object());
  return {
      {"node",
       {{"id", options.nodeId()},
        {"cluster", options.service_cluster},
        {"metadata", std::move(metadata)}}},
      {"admin", {{"address", socketAddress("127.0.0.1", options.admin_port)}}},
      {"dynamic_resources",
       {{"lds_config", adsSource()},
        {"cds_config", adsSource()},
        {"ads_config",
         {{"api_type", "DELTA_GRPC"},
          {"transport_api_version", "V3"},
          {"set_node_on_first_message_only", true},
          {"grpc_services", Json::array({{{"envoy_grpc", {{"cluster_name", kXdsCluster}}}}})}}}}},
      {"static_resources",
       {{"listeners", Json::array({metricsListener(options)})},
        {"clusters", Json::array({staticCluster(kPrometheusCluster,
                                                socketAddress("127.0.0.1", options.admin_port)),
                                  xdsCluster(options)})}}}};
}

}  // namespace postern::agent
