#include "proxy/config_http.h"

#include "base/strings.h"
#include "envoy/config/core/v3/config_source.pb.h"
#include "envoy/config/core/v3/protocol.pb.h"
#include "envoy/config/core/v3/substitution_format_string.pb.h"
#include "envoy/extensions/filters/http/cors/v3/cors.pb.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb.h"
#include "envoy/extensions/filters/http/router/v3/router.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/request_id/uuid/v3/uuid.pb.h"
#include "proxy/config_filters.h"
#include "proxy/config_http2.h"
#include "proxy/config_http_options.h"
#include "proxy/config_logs.h"
#include "proxy/config_matchers.h"
#include "proxy/config_routes.h"

// Fields that Envoy calls deprecated still come from older control planes.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace postern::proxy {

namespace core = envoy::config::core::v3;
namespace hcm = envoy::extensions::filters::network::http_connection_manager::v3;
namespace http_filters = envoy::extensions::filters::http;

using Message = hcm::HttpConnectionManager;

namespace {

constexpr std::uint32_t kHeaderKilobytesMax = 8192;

void readRouteSource(const Message& message, const Place& place, HttpManager& out) {
  if (message.has_route_config()) {
    out.routes = std::make_shared<const RouteTable>(
        readRoutes(message.route_config(), place.field("route_config")));
  } else if (message.has_rds()) {
    const Place at = place.field("rds");
    out.rds_name = message.rds().route_config_name();
    if (out.rds_name.empty()) at.fail("route_config_name", "is required");
    const auto& source = message.rds().config_source();
    const Place in = at.field("config_source");
    if (!source.has_ads()) in.fail("only ads is supported");
    if (source.resource_api_version() == core::V2) in.fail("resource_api_version", "must be V3");
    if (source.has_initial_fetch_timeout())
      out.rds_timeout = in.duration("initial_fetch_timeout", source.initial_fetch_timeout());
    if (out.rds_timeout.count() == 0) out.rds_timeout = std::chrono::milliseconds::max();
  } else {
    place.fail("route_config", "is required (or rds)");
  }
}

void readHttpFilters(const Message& message, const Place& place, HttpManager& out) {
  bool router = false;
  for (int i = 0; i < message.http_filters_size(); ++i) {
    const hcm::HttpFilter& each = message.http_filters(i);
    const Place at = place.item("http_filters", i);
    const Place typed = at.field("typed_config");
    if (router) at.fail("stands behind the router, which ends the chain");
    if (each.name().empty()) at.fail("name", "is required");
    const std::string_view type = typeName(each.typed_config());
    if (type == "envoy.extensions.filters.http.router.v3.Router") {
      http_filters::router::v3::Router config;
      router = true;
      if (!typed.unpack(each.typed_config(), config)) return;
      out.suppress_envoy_headers = config.suppress_envoy_headers();
      out.respect_expected_timeout = config.respect_expected_rq_timeout();
    } else if (type == "envoy.extensions.filters.http.fault.v3.HTTPFault") {
      http_filters::fault::v3::HTTPFault config;
      if (out.fault != nullptr) at.fail("stands here a second time");
      out.fault_name = each.name();
      out.faults_active = std::make_shared<std::atomic<std::uint32_t>>(0);
      if (typed.unpack(each.typed_config(), config)) out.fault = readFault(config, typed);
    } else if (type == "envoy.extensions.filters.http.cors.v3.Cors") {
      if (!out.cors_name.empty()) at.fail("stands here a second time");
      out.cors_name = each.name();
      out.cors_first = out.fault_name.empty();
    } else if (!each.is_optional()) {
      typed.fail("\"" + each.typed_config().type_url() + "\" is not a supported HTTP filter");
    }
  }
  if (!router) place.fail("http_filters", "must end with the router");
}

void readRequestId(const Message& message, const Place& place, HttpManager& out) {
  if (message.has_generate_request_id())
    out.generate_request_id = message.generate_request_id().value();
  out.preserve_external_request_id = message.preserve_external_request_id();
  out.request_id_in_response = message.always_set_request_id_in_response();
  if (!message.has_request_id_extension()) return;
  const Place at = place.field("request_id_extension").field("typed_config");
  envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig config;
  // Without tracing nothing is sampled: both fields only say how a trace verdict is carried.
  at.unpack(message.request_id_extension().typed_config(), config);
}

void readPaths(const Message& message, const Place& place, HttpManager& out) {
  out.normalize_path = message.normalize_path().value();
  out.merge_slashes = message.merge_slashes();
  constexpr EscapedSlashes kActions[] = {
      EscapedSlashes::kKeep, EscapedSlashes::kKeep, EscapedSlashes::kReject,
      EscapedSlashes::kUnescapeAndRedirect, EscapedSlashes::kUnescape};
  if (message.path_with_escaped_slashes_action() > 4)
    return place.fail("path_with_escaped_slashes_action", "is not a known value");
  out.escaped_slashes = kActions[message.path_with_escaped_slashes_action()];
  out.strip_matching_port = message.strip_matching_host_port();
  out.strip_any_port = message.strip_any_host_port();
  if (out.strip_matching_port && out.strip_any_port)
    place.fail("strip_any_host_port", "cannot be set together with strip_matching_host_port");
  out.strip_trailing_dot = message.strip_trailing_host_dot();
}

void readManagerTimeouts(const Message& message, const Place& place, HttpManager& out) {
  if (message.has_stream_idle_timeout())
    out.stream_idle_timeout = place.duration("stream_idle_timeout", message.stream_idle_timeout());
  if (message.has_request_timeout())
    out.request_timeout = place.duration("request_timeout", message.request_timeout());
  // Without a limit of its own, a head is a stream that may be idle for so long.
  out.limits.headers_timeout = out.stream_idle_timeout;
  if (message.has_request_headers_timeout() && (message.request_headers_timeout().seconds() > 0 ||
                                                message.request_headers_timeout().nanos() > 0)) {
    out.limits.headers_timeout =
        place.duration("request_headers_timeout", message.request_headers_timeout());
  }
  out.limits.flush_timeout = out.stream_idle_timeout;
  if (message.has_stream_flush_timeout()) {
    out.limits.flush_timeout =
        place.duration("stream_flush_timeout", message.stream_flush_timeout());
  }
  out.limits.drain_timeout = std::chrono::seconds(5);
  if (message.has_drain_timeout())
    out.limits.drain_timeout = place.duration("drain_timeout", message.drain_timeout());
  if (message.has_delayed_close_timeout()) {
    out.limits.delayed_close_timeout =
        place.duration("delayed_close_timeout", message.delayed_close_timeout());
  }
  out.http1_safe_duration = message.http1_safe_max_connection_duration();
  if (message.has_max_request_headers_kb()) {
    const std::uint32_t kilobytes = message.max_request_headers_kb().value();
    if (kilobytes == 0 || kilobytes > kHeaderKilobytesMax)
      place.fail("max_request_headers_kb", "must be from 1 to 8192");
    out.limits.header_bytes_max = std::size_t{kilobytes} * 1024;
  }
}

void readLocalReplies(const hcm::LocalReplyConfig& message, const Place& place, HttpManager& out) {
  if (message.has_body_format())
    out.local_format = readReplyFormat(message.body_format(), place.field("body_format"));
  for (int i = 0; i < message.mappers_size(); ++i) {
    const hcm::ResponseMapper& each = message.mappers(i);
    const Place at = place.item("mappers", i);
    LocalReplyMapper mapper;
    if (each.has_filter()) {
      mapper.filter = readLogFilter(each.filter(), at.field("filter"));
    } else {
      at.fail("filter", "is required");
    }
    if (each.has_status_code()) mapper.status = static_cast<int>(each.status_code().value());
    if (mapper.status && (*mapper.status < 200 || *mapper.status >= 600))
      at.fail("status_code", "must be from 200 to 599");
    if (each.has_body()) mapper.body = readDataSource(each.body(), at.field("body"));
    if (each.has_body_format_override()) {
      mapper.format =
          readReplyFormat(each.body_format_override(), at.field("body_format_override"));
    }
    readHeaderOps(each.headers_to_add(), {}, at, "", mapper.headers);
    out.local_replies.push_back(std::move(mapper));
  }
}

void readProxyStatus(const Message::ProxyStatusConfig& message, HttpManager& out) {
  out.proxy_status.emplace();
  out.proxy_status->name = message.literal_proxy_name();
  out.proxy_status->use_node_id = message.use_node_id();
  out.proxy_status->details = !message.remove_details();
  out.proxy_status->termination = !message.remove_connection_termination_details();
  out.proxy_status->flags = !message.remove_response_flags();
  out.proxy_status->recommended_status = message.set_recommended_response_code();
}

void readLogOptions(const Message& message, const Place& place, HttpManager& out) {
  // The older fields and the newer message say the same; Envoy refuses both together.
  const bool both = message.has_access_log_options() && (message.has_access_log_flush_interval() ||
                                                         message.flush_access_log_on_new_request());
  if (both) place.fail("access_log_options", "cannot be set together with the fields it replaces");
  const auto& options = message.access_log_options();
  const Place at = message.has_access_log_options() ? place.field("access_log_options") : place;
  const auto& interval = message.has_access_log_options() ? options.access_log_flush_interval()
                                                          : message.access_log_flush_interval();
  if (options.has_access_log_flush_interval() || message.has_access_log_flush_interval()) {
    out.log_interval = at.duration("access_log_flush_interval", interval);
    if (out.log_interval.count() == 0)
      at.fail("access_log_flush_interval", "must be at least 1 ms");
  }
  out.log_new_requests =
      options.flush_access_log_on_new_request() || message.flush_access_log_on_new_request();
  out.log_tunnels = options.flush_log_on_tunnel_successfully_established();
}

void readUpgrades(const Message& message, const Place& place, HttpManager& out) {
  for (int i = 0; i < message.upgrade_configs_size(); ++i) {
    const auto& each = message.upgrade_configs(i);
    const Place at = place.item("upgrade_configs", i);
    const std::string type = base::toLower(each.upgrade_type());
    if (type.empty()) at.fail("upgrade_type", "is required");
    if (!each.has_enabled() || each.enabled().value()) out.upgrades.push_back(type);
  }
}

HttpManager readManager(const Message& message, const Place& place) {
  HttpManager out;
  switch (message.codec_type()) {
    case Message::AUTO:
      break;
    case Message::HTTP1:
      out.codec = http::Protocol::kHttp1;
      break;
    case Message::HTTP2:
      out.codec = http::Protocol::kHttp2;
      break;
    default:
      place.fail("codec_type", "HTTP3 is not supported");
  }
  out.stat_prefix = message.stat_prefix();
  if (out.stat_prefix.empty()) place.fail("stat_prefix", "is required");
  readRouteSource(message, place, out);
  readHttpFilters(message, place, out);
  out.http1_keeps_open = message.stream_error_on_invalid_http_message().value();
  readHttpOptions(message.common_http_protocol_options(),
                  place.field("common_http_protocol_options"), out);
  readHttp1Options(message.http_protocol_options(), place.field("http_protocol_options"), out);
  readHttp2Options(message.http2_protocol_options(), place.field("http2_protocol_options"),
                   out.limits.h2);
  if (!message.server_name().empty()) out.server_name = message.server_name();
  constexpr ServerHeader kServer[] = {ServerHeader::kOverwrite, ServerHeader::kAppendIfAbsent,
                                      ServerHeader::kPassThrough};
  if (message.server_header_transformation() > 2) {
    place.fail("server_header_transformation", "is not a known value");
  } else {
    out.server_header = kServer[message.server_header_transformation()];
  }
  readForwarding(message, place, out);
  readRequestId(message, place, out);
  readPaths(message, place, out);
  readManagerTimeouts(message, place, out);
  out.proxy_100_continue = message.proxy_100_continue();
  readUpgrades(message, place, out);
  if (message.has_proxy_status_config()) readProxyStatus(message.proxy_status_config(), out);
  if (message.has_local_reply_config())
    readLocalReplies(message.local_reply_config(), place.field("local_reply_config"), out);
  out.logs = readAccessLogs(message.access_log(), place, "access_log");
  readLogOptions(message, place, out);
  return out;
}

}  // namespace

base::ConfigResult<HttpManager> buildHttpManager(const Message& message, std::string_view path) {
  BuildErrors errors;
  HttpManager out = readManager(message, Place(path, errors));
  if (errors.failed()) return std::unexpected(errors.error());
  return out;
}

}  // namespace postern::proxy
