#include "proxy/config_http.h"

#include "base/strings.h"
#include "envoy/config/core/v3/address.pb.h"
#include "envoy/config/core/v3/protocol.pb.h"
#include "envoy/config/core/v3/substitution_format_string.pb.h"
#include "envoy/extensions/filters/http/cors/v3/cors.pb.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb.h"
#include "envoy/extensions/filters/http/router/v3/router.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/request_id/uuid/v3/uuid.pb.h"
#include "proxy/config_filters.h"
#include "proxy/config_http2.h"
#include "proxy/config_logs.h"
#include "proxy/config_matchers.h"
#include "proxy/config_routes.h"

namespace postern::proxy {

namespace core = envoy::config::core::v3;
namespace hcm = envoy::extensions::filters::network::http_connection_manager::v3;
namespace filters = envoy::extensions::filters::http;

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
    if (!message.rds().config_source().has_ads()) at.fail("config_source", "only ads is supported");
  } else {
    place.fail("route_config", "is required (or rds)");
  }
}

void readFilters(const Message& message, const Place& place, HttpManager& out) {
  bool router = false;
  for (int i = 0; i < message.http_filters_size(); ++i) {
    const hcm::HttpFilter& each = message.http_filters(i);
    const Place at = place.item("http_filters", i);
    const Place typed = at.field("typed_config");
    at.only(each, {"name", "typed_config", "is_optional"});
    if (router) at.fail("stands behind the router, which ends the chain");
    const std::string_view type = typeName(each.typed_config());
    if (type == "envoy.extensions.filters.http.router.v3.Router") {
      filters::router::v3::Router config;
      router = true;
      if (!typed.unpack(each.typed_config(), config)) return;
      typed.only(config, {"suppress_envoy_headers", "respect_expected_rq_timeout"});
      out.suppress_envoy_headers = config.suppress_envoy_headers();
      out.respect_expected_timeout = config.respect_expected_rq_timeout();
    } else if (type == "envoy.extensions.filters.http.fault.v3.HTTPFault") {
      filters::fault::v3::HTTPFault config;
      if (out.fault != nullptr) at.fail("stands here a second time");
      if (typed.unpack(each.typed_config(), config)) out.fault = readFault(config, typed);
    } else if (type == "envoy.extensions.filters.http.cors.v3.Cors") {
      out.has_cors = true;
    } else if (!each.is_optional()) {
      typed.fail("\"" + each.typed_config().type_url() + "\" is not a supported HTTP filter");
    }
  }
  if (!router) place.fail("http_filters", "must end with the router");
}

void readHttpOptions(const core::HttpProtocolOptions& message, const Place& place,
                     HttpManager& out) {
  place.only(message,
             {"idle_timeout", "max_connection_duration", "max_headers_count", "max_stream_duration",
              "headers_with_underscores_action", "max_requests_per_connection"});
  if (message.has_idle_timeout())
    out.limits.idle_timeout = place.duration("idle_timeout", message.idle_timeout());
  if (message.has_max_connection_duration()) {
    out.connection_duration_max =
        place.duration("max_connection_duration", message.max_connection_duration());
  }
  if (message.has_max_headers_count())
    out.limits.header_count_max = message.max_headers_count().value();
  if (message.has_max_stream_duration())
    out.stream_duration_max = place.duration("max_stream_duration", message.max_stream_duration());
  constexpr UnderscoreHeaders kActions[] = {UnderscoreHeaders::kAllow, UnderscoreHeaders::kReject,
                                            UnderscoreHeaders::kDrop};
  if (message.headers_with_underscores_action() > 2)
    return place.fail("headers_with_underscores_action", "is not a known value");
  out.underscore_headers = kActions[message.headers_with_underscores_action()];
  out.requests_per_connection_max = message.max_requests_per_connection().value();
}

void readHttp1Options(const core::Http1ProtocolOptions& message, const Place& place,
                      HttpManager& out) {
  place.only(message, {"allow_absolute_url", "accept_http_10", "default_host_for_http_10",
                       "enable_trailers"});
  if (message.has_allow_absolute_url() && !message.allow_absolute_url().value())
    place.fail("allow_absolute_url", "false is not supported");
  out.accept_http_10 = message.accept_http_10();
  out.default_host_for_http_10 = message.default_host_for_http_10();
  out.http1_trailers = message.enable_trailers();
}

void readForwarding(const Message& message, const Place& place, HttpManager& out) {
  out.use_remote_address = message.use_remote_address().value();
  out.trusted_hops = message.xff_num_trusted_hops();
  out.skip_xff_append = message.skip_xff_append();
  out.append_forwarded_port = message.append_x_forwarded_port();
  out.via = message.via();
  if (message.has_scheme_header_transformation()) {
    const Place at = place.field("scheme_header_transformation");
    at.only(message.scheme_header_transformation(), {"scheme_to_overwrite"});
    out.scheme_overwrite = message.scheme_header_transformation().scheme_to_overwrite();
  }
  if (message.has_internal_address_config()) {
    out.internal_unix = message.internal_address_config().unix_sockets();
    const auto& ranges = message.internal_address_config().cidr_ranges();
    for (int i = 0; i < ranges.size(); ++i) {
      const unsigned bits = ranges[i].has_prefix_len() ? ranges[i].prefix_len().value() : 0;
      auto range = net::Cidr::make(ranges[i].address_prefix(), bits);
      if (range) {
        out.internal_ranges.push_back(*range);
      } else {
        place.field("internal_address_config")
            .item("cidr_ranges", i)
            .fail("address_prefix", "is not a valid range");
      }
    }
  }
  constexpr ClientCertificate kModes[] = {
      ClientCertificate::kSanitize, ClientCertificate::kForwardOnly,
      ClientCertificate::kAppendForward, ClientCertificate::kSanitizeSet,
      ClientCertificate::kAlwaysForwardOnly};
  if (message.forward_client_cert_details() > 4)
    return place.fail("forward_client_cert_details", "is not a known value");
  out.client_certificate = kModes[message.forward_client_cert_details()];
  const auto& details = message.set_current_client_cert_details();
  place.field("set_current_client_cert_details").only(details, {"subject", "cert", "dns", "uri"});
  out.certificate_details = {details.subject().value(), details.cert(), details.dns(),
                             details.uri()};
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

void readTimeouts(const Message& message, const Place& place, HttpManager& out) {
  if (message.has_stream_idle_timeout())
    out.stream_idle_timeout = place.duration("stream_idle_timeout", message.stream_idle_timeout());
  if (message.has_request_timeout())
    out.request_timeout = place.duration("request_timeout", message.request_timeout());
  if (message.has_request_headers_timeout()) {
    out.limits.headers_timeout =
        place.duration("request_headers_timeout", message.request_headers_timeout());
  }
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

void readUpgrades(const Message& message, const Place& place, HttpManager& out) {
  for (int i = 0; i < message.upgrade_configs_size(); ++i) {
    const auto& each = message.upgrade_configs(i);
    const Place at = place.item("upgrade_configs", i);
    at.only(each, {"upgrade_type", "enabled"});
    const std::string type = base::toLower(each.upgrade_type());
    if (type.empty()) at.fail("upgrade_type", "is required");
    if (!each.has_enabled() || each.enabled().value()) out.upgrades.push_back(type);
  }
}

HttpManager readManager(const Message& message, const Place& place) {
  HttpManager out;
  place.only(message, {"codec_type",
                       "stat_prefix",
                       "rds",
                       "route_config",
                       "http_filters",
                       "common_http_protocol_options",
                       "http_protocol_options",
                       "http2_protocol_options",
                       "server_name",
                       "server_header_transformation",
                       "scheme_header_transformation",
                       "max_request_headers_kb",
                       "stream_idle_timeout",
                       "request_timeout",
                       "request_headers_timeout",
                       "access_log",
                       "use_remote_address",
                       "xff_num_trusted_hops",
                       "internal_address_config",
                       "skip_xff_append",
                       "via",
                       "generate_request_id",
                       "preserve_external_request_id",
                       "always_set_request_id_in_response",
                       "forward_client_cert_details",
                       "set_current_client_cert_details",
                       "proxy_100_continue",
                       "upgrade_configs",
                       "normalize_path",
                       "merge_slashes",
                       "path_with_escaped_slashes_action",
                       "request_id_extension",
                       "local_reply_config",
                       "strip_matching_host_port",
                       "strip_any_host_port",
                       "strip_trailing_host_dot",
                       "append_x_forwarded_port"});
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
  readFilters(message, place, out);
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
  readTimeouts(message, place, out);
  out.proxy_100_continue = message.proxy_100_continue();
  readUpgrades(message, place, out);
  if (message.has_local_reply_config())
    readLocalReplies(message.local_reply_config(), place.field("local_reply_config"), out);
  out.logs = readAccessLogs(message.access_log(), place, "access_log");
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
