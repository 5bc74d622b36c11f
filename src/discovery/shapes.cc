#include "discovery/shapes.h"

namespace postern::discovery::shapes {

namespace {

constexpr std::string_view kTextFormat =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% "
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

}  // namespace

std::string outboundName(std::uint32_t port, std::string_view subset, std::string_view host) {
  std::string out = "outbound|" + std::to_string(port) + "|";
  out.append(subset).append("|").append(host);
  return out;
}
std::string clusterName(const model::Destination& to, std::uint32_t port) {
  return outboundName(to.port != 0 ? to.port : port, to.subset, to.host);
}
std::string inboundName(std::uint32_t port) { return "inbound|" + std::to_string(port) + "||"; }

Json typed(std::string_view type, Json fields) {
  if (!fields.is_object()) fields = Json::object();
  fields["@type"] = "type.googleapis.com/" + std::string(type);
  return fields;
}
Json named(std::string_view name, std::string_view type, Json fields) {
  return {{"name", name}, {"typed_config", typed(type, std::move(fields))}};
}
Json socketAddress(std::string_view ip, std::uint32_t port) {
  return {{"socket_address", {{"address", ip}, {"port_value", port}}}};
}
Json adsSource() {
  return {{"ads", Json::object()}, {"initial_fetch_timeout", "0s"}, {"resource_api_version", "V3"}};
}
Json httpInspector() {
  return named("envoy.filters.listener.http_inspector",
               "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", Json::object());
}

Json tlsInspector() {
  return named("envoy.filters.listener.tls_inspector",
               "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", Json::object());
}

Json accessLog(const model::MeshSettings& mesh) {
  if (mesh.access_log_file.empty()) return Json::array();
  std::string format(mesh.access_log_format.empty() ? kTextFormat : mesh.access_log_format);
  Json fields = {{"path", mesh.access_log_file},
                 {"log_format", {{"text_format_source", {{"inline_string", format}}}}}};
  return Json::array({named("envoy.access_loggers.file",
                            "envoy.extensions.access_loggers.file.v3.FileAccessLog", fields)});
}

namespace {

Json tcpProxyFilter(Json fields, const Json& access_log) {
  if (!access_log.empty()) fields["access_log"] = access_log;
  return named("envoy.filters.network.tcp_proxy",
               "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", std::move(fields));
}

}  // namespace

Json tcpProxy(std::string_view stat_prefix, std::string_view cluster, const Json& access_log) {
  return tcpProxyFilter({{"stat_prefix", stat_prefix}, {"cluster", cluster}}, access_log);
}

Json tcpProxyTo(std::string_view stat_prefix,
                const std::vector<model::WeightedDestination>& destinations, std::uint32_t port,
                const Json& access_log) {
  if (destinations.size() == 1) {
    const std::string cluster = clusterName(destinations[0].destination, port);
    return tcpProxy(cluster, cluster, access_log);
  }
  Json clusters = Json::array();
  for (const model::WeightedDestination& to : destinations) {
    clusters.push_back({{"name", clusterName(to.destination, port)}, {"weight", to.weight}});
  }
  return tcpProxyFilter(
      {{"stat_prefix", stat_prefix}, {"weighted_clusters", {{"clusters", clusters}}}}, access_log);
}

Json httpManager(Side side, std::string_view stat_prefix, const Json& routes,
                 const Json& access_log) {
  Json fields = routes;
  fields["stat_prefix"] = stat_prefix;
  fields["http_filters"] = Json::array();
  if (side != Side::kInbound) {
    fields["http_filters"].push_back(named("envoy.filters.http.fault",
                                           "envoy.extensions.filters.http.fault.v3.HTTPFault",
                                           Json::object()));
  }
  fields["http_filters"].push_back(named("envoy.filters.http.router",
                                         "envoy.extensions.filters.http.router.v3.Router",
                                         Json::object()));
  if (!access_log.empty()) fields["access_log"] = access_log;
  fields["use_remote_address"] = side == Side::kGateway;
  fields["normalize_path"] = true;
  fields["stream_idle_timeout"] = "0s";
  fields["upgrade_configs"] = Json::array({{{"upgrade_type", "websocket"}}});
  if (side != Side::kOutbound) fields["server_name"] = "istio-envoy";
  if (side == Side::kGateway) fields["proxy_100_continue"] = true;
  return named("envoy.filters.network.http_connection_manager",
               "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
               std::move(fields));
}

Json rds(std::string_view name) {
  return {{"rds", {{"route_config_name", name}, {"config_source", adsSource()}}}};
}

Json chain(std::string_view name, Json match, Json filters) {
  Json out = {{"filters", std::move(filters)}};
  if (!name.empty()) out["name"] = name;
  if (!match.empty()) out["filter_chain_match"] = std::move(match);
  return out;
}

Json defaultRetryPolicy() {
  return {
      {"retry_on", "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"},
      {"num_retries", 2},
      {"retry_host_predicate", Json::array({named("envoy.retry_host_predicates.previous_hosts",
                                                  "envoy.extensions.retry.host.previous_hosts.v3."
                                                  "PreviousHostsPredicate",
                                                  Json::object())})},
      {"host_selection_retry_max_attempts", "5"}};
}

Json defaultRoute(std::string_view cluster, std::string_view operation) {
  return {
      {"name", "default"},
      {"match", {{"prefix", "/"}}},
      {"route", {{"cluster", cluster}, {"timeout", "0s"}, {"retry_policy", defaultRetryPolicy()}}},
      {"decorator", {{"operation", operation}}}};
}

}  // namespace postern::discovery::shapes
