#include "proxy/config_routes.h"

#include "base/strings.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"
#include "proxy/config_filters.h"
#include "proxy/config_http.h"
#include "proxy/config_matchers.h"
#include "proxy/config_retry.h"
#include "proxy/honoured_fields.h"

namespace postern::proxy {

namespace route = envoy::config::route::v3;

namespace {

constexpr std::size_t kDirectBodyBytesMax = 4096;  // unless the table says otherwise

bool badPath(std::string_view text) {
  return text.find_first_of("\r\n\0", 0, 3) != std::string_view::npos;
}

RouteMatch readRouteMatch(const route::RouteMatch& message, const Place& place) {
  RouteMatch out;
  using Kind = RouteMatch::Kind;
  switch (message.path_specifier_case()) {
    case route::RouteMatch::kPrefix:
      out.path = message.prefix();
      break;
    case route::RouteMatch::kPath:
      out.kind = Kind::kPath;
      out.path = message.path();
      break;
    case route::RouteMatch::kPathSeparatedPrefix:
      out.kind = Kind::kSeparatedPrefix;
      out.path = message.path_separated_prefix();
      if (out.path.ends_with('/') || out.path.find_first_of("?#") != std::string::npos)
        place.fail("path_separated_prefix", "must not end with '/' nor hold '?' or '#'");
      break;
    case route::RouteMatch::kSafeRegex:
      out.kind = Kind::kRegex;
      out.regex = readRegex(message.safe_regex(), place.field("safe_regex"));
      break;
    case route::RouteMatch::kConnectMatcher:
      out.kind = Kind::kConnect;
      break;
    default:
      place.fail("needs a path specifier");
  }
  if (message.has_case_sensitive()) out.case_sensitive = message.case_sensitive().value();
  out.grpc = message.has_grpc();
  if (message.has_runtime_fraction()) {
    out.fraction = readRuntimeFraction(message.runtime_fraction(), place.field("runtime_fraction"));
  }
  out.headers = readHeaders(message.headers(), place, "headers");
  for (int i = 0; i < message.query_parameters_size(); ++i)
    out.query.push_back(readQuery(message.query_parameters(i), place.item("query_parameters", i)));
  return out;
}

RouteCluster readWeight(const route::WeightedCluster::ClusterWeight& message, const Place& place) {
  RouteCluster out;
  out.name = message.name();
  out.name_header = requestHeaderName(message.cluster_header());
  if (out.name.empty() == out.name_header.empty())
    place.fail("name", "needs either name or cluster_header");
  out.weight = message.weight().value();
  out.host_rewrite = message.host_rewrite_literal();
  readHeaderOps(message.request_headers_to_add(), message.request_headers_to_remove(), place,
                "request", out.request);
  readHeaderOps(message.response_headers_to_add(), message.response_headers_to_remove(), place,
                "response", out.response);
  out.filters = readPerFilter(message.typed_per_filter_config(), place);
  return out;
}

void readClusters(const route::RouteAction& message, const Place& place, ForwardAction& out) {
  RouteCluster single;
  switch (message.cluster_specifier_case()) {
    case route::RouteAction::kCluster:
      single.name = message.cluster();
      if (single.name.empty()) place.fail("cluster", "is required");
      break;
    case route::RouteAction::kClusterHeader:
      single.name_header = requestHeaderName(message.cluster_header());
      if (single.name_header.empty()) place.fail("cluster_header", "is required");
      break;
    case route::RouteAction::kWeightedClusters: {
      const Place at = place.field("weighted_clusters");
      for (int i = 0; i < message.weighted_clusters().clusters_size(); ++i) {
        out.clusters.push_back(
            readWeight(message.weighted_clusters().clusters(i), at.item("clusters", i)));
        out.weight_total += out.clusters.back().weight;
      }
      if (out.weight_total == 0) at.fail("clusters", "the sum of the weights must be above 0");
      if (out.weight_total > 0xffffffffULL)
        at.fail("clusters", "the sum of the weights is too large");
      return;
    }
    default:
      place.fail("needs a cluster");
  }
  out.weight_total = 1;
  out.clusters.push_back(std::move(single));
}

void readRewrites(const route::RouteAction& message, const Place& place, ForwardAction& out) {
  out.prefix_rewrite = message.prefix_rewrite();
  if (badPath(out.prefix_rewrite)) place.fail("prefix_rewrite", "holds a control character");
  if (message.has_regex_rewrite()) {
    if (!out.prefix_rewrite.empty())
      place.fail("regex_rewrite", "cannot be set together with prefix_rewrite");
    out.path_regex = readSubstitution(message.regex_rewrite(), place.field("regex_rewrite"),
                                      out.path_substitution);
  }
  switch (message.host_rewrite_specifier_case()) {
    case route::RouteAction::kHostRewriteLiteral:
      out.host_rewrite = message.host_rewrite_literal();
      if (badPath(out.host_rewrite))
        place.fail("host_rewrite_literal", "holds a control character");
      break;
    case route::RouteAction::kAutoHostRewrite:
      out.auto_host_rewrite = message.auto_host_rewrite().value();
      break;
    case route::RouteAction::kHostRewriteHeader:
      out.host_rewrite_header = requestHeaderName(message.host_rewrite_header());
      break;
    case route::RouteAction::kHostRewritePathRegex:
      out.host_path_regex =
          readSubstitution(message.host_rewrite_path_regex(),
                           place.field("host_rewrite_path_regex"), out.host_path_substitution);
      break;
    default:
      break;
  }
  out.append_forwarded_host = message.append_x_forwarded_host();
}

void readRouteTimeouts(const route::RouteAction& message, const Place& place, ForwardAction& out) {
  if (message.has_timeout()) out.timeout = place.duration("timeout", message.timeout());
  if (message.has_idle_timeout())
    out.idle_timeout = place.duration("idle_timeout", message.idle_timeout());
  if (!message.has_max_stream_duration()) return;
  const auto& limit = message.max_stream_duration();
  out.timeout = {};  // as in Envoy: whoever limits the stream does not limit the answer
  const Place at = place.field("max_stream_duration");
  if (limit.has_max_stream_duration())
    out.stream_duration_max = at.duration("max_stream_duration", limit.max_stream_duration());
  if (limit.has_grpc_timeout_header_max())
    out.grpc_timeout_max = at.duration("grpc_timeout_header_max", limit.grpc_timeout_header_max());
  if (limit.has_grpc_timeout_header_offset())
    out.grpc_timeout_offset =
        at.duration("grpc_timeout_header_offset", limit.grpc_timeout_header_offset());
}

ForwardAction readForwardAction(const route::RouteAction& message, const Place& place) {
  ForwardAction out;
  readClusters(message, place, out);
  switch (message.cluster_not_found_response_code()) {
    case route::RouteAction::NOT_FOUND:
      out.cluster_not_found_status = 404;
      break;
    case route::RouteAction::INTERNAL_SERVER_ERROR:
      out.cluster_not_found_status = 500;
      break;
    default:
      break;
  }
  readRewrites(message, place, out);
  readRouteTimeouts(message, place, out);
  if (message.has_retry_policy())
    out.retry = readRetryPolicy(message.retry_policy(), place.field("retry_policy"));
  out.high_priority = message.priority() == envoy::config::core::v3::HIGH;
  for (int i = 0; i < message.upgrade_configs_size(); ++i) {
    const auto& each = message.upgrade_configs(i);
    const Place at = place.item("upgrade_configs", i);
    if (each.has_connect_config()) {
      if (!base::equalsIgnoreCase(each.upgrade_type(), "connect"))
        at.fail("connect_config", "is only for CONNECT");
      out.ends_connect = !each.has_enabled() || each.enabled().value();
    }
    out.upgrades.emplace_back(base::toLower(each.upgrade_type()),
                              !each.has_enabled() || each.enabled().value());
  }
  return out;
}

Redirect readRedirect(const route::RedirectAction& message, const Place& place) {
  Redirect out;
  out.scheme = message.https_redirect() ? "https" : message.scheme_redirect();
  out.host = message.host_redirect();
  if (message.port_redirect() > 65535) place.fail("port_redirect", "must be at most 65535");
  out.port = static_cast<std::uint16_t>(message.port_redirect());
  out.path = message.path_redirect();
  out.prefix = message.prefix_rewrite();
  if (message.has_regex_rewrite()) {
    out.regex =
        readSubstitution(message.regex_rewrite(), place.field("regex_rewrite"), out.substitution);
  }
  if (badPath(out.path)) place.fail("path_redirect", "holds a control character");
  if (badPath(out.host)) place.fail("host_redirect", "holds a control character");
  if (badPath(out.prefix)) place.fail("prefix_rewrite", "holds a control character");
  constexpr int kStatus[] = {301, 302, 303, 307, 308};
  if (message.response_code() < 0 || message.response_code() > 4) {
    place.fail("response_code", "is not a known value");
  } else {
    out.status = kStatus[message.response_code()];
  }
  out.strip_query = message.strip_query();
  return out;
}

DirectResponse readDirect(const route::DirectResponseAction& message, const Place& place,
                          std::size_t body_bytes_max) {
  DirectResponse out;
  if (message.status() < 200 || message.status() >= 600)
    place.fail("status", "must be from 200 to 599");
  out.status = static_cast<int>(message.status());
  if (message.has_body()) out.body = readDataSource(message.body(), place.field("body"));
  if (out.body.size() > body_bytes_max)
    place.fail("body", "is longer than " + std::to_string(body_bytes_max) + " bytes");
  if (message.has_body_format()) {
    FormatString format = readFormatString(message.body_format(), place.field("body_format"));
    if (format.json) place.fail("body_format.json_format", "is not supported");
    out.formatted = true;
    out.omit_empty = format.omit_empty;
    out.body_format = std::move(format.text);
    if (!format.content_type.empty()) out.content_type = format.content_type;
  }
  return out;
}

Route readRoute(const route::Route& message, const Place& place, std::size_t body_bytes_max) {
  Route out;
  out.name = message.name();
  out.match = readRouteMatch(message.match(), place.field("match"));
  readHeaderOps(message.request_headers_to_add(), message.request_headers_to_remove(), place,
                "request", out.request);
  readHeaderOps(message.response_headers_to_add(), message.response_headers_to_remove(), place,
                "response", out.response);
  out.filters = readPerFilter(message.typed_per_filter_config(), place);
  switch (message.action_case()) {
    case route::Route::kRoute:
      out.action = readForwardAction(message.route(), place.field("route"));
      break;
    case route::Route::kRedirect:
      out.action = readRedirect(message.redirect(), place.field("redirect"));
      break;
    case route::Route::kDirectResponse:
      out.action =
          readDirect(message.direct_response(), place.field("direct_response"), body_bytes_max);
      break;
    default:
      place.fail("needs one of route, redirect, direct_response");
  }
  return out;
}

VirtualHost readHost(const route::VirtualHost& message, const Place& place,
                     std::size_t body_bytes_max) {
  VirtualHost out;
  out.name = message.name();
  if (out.name.empty()) place.fail("name", "is required");
  if (message.domains_size() == 0) place.fail("domains", "is required");
  for (const std::string& domain : message.domains()) out.domains.push_back(base::toLower(domain));
  switch (message.require_tls()) {
    case route::VirtualHost::EXTERNAL_ONLY:
      out.require_tls = VirtualHost::Tls::kExternalOnly;
      break;
    case route::VirtualHost::ALL:
      out.require_tls = VirtualHost::Tls::kAll;
      break;
    default:
      break;
  }
  readHeaderOps(message.request_headers_to_add(), message.request_headers_to_remove(), place,
                "request", out.request);
  readHeaderOps(message.response_headers_to_add(), message.response_headers_to_remove(), place,
                "response", out.response);
  out.filters = readPerFilter(message.typed_per_filter_config(), place);
  out.attempt_count_in_request = message.include_request_attempt_count();
  out.attempt_count_in_response = message.include_attempt_count_in_response();
  out.timeout_retry_header = message.include_is_timeout_retry_header();
  std::optional<RetryPolicy> retry;
  if (message.has_retry_policy())
    retry = readRetryPolicy(message.retry_policy(), place.field("retry_policy"));
  for (int i = 0; i < message.routes_size(); ++i) {
    Route each = readRoute(message.routes(i), place.item("routes", i), body_bytes_max);
    if (auto* action = std::get_if<ForwardAction>(&each.action);
        action != nullptr && !action->retry)
      action->retry = retry;
    out.routes.push_back(std::move(each));
  }
  return out;
}

}  // namespace

RouteTable readRoutes(const route::RouteConfiguration& message, const Place& place) {
  RouteTable out;
  out.name = message.name();
  if (message.validate_clusters().value()) {
    place.fail("validate_clusters",
               "true is not supported: clusters come and go, each request finds out");
  }
  const std::size_t body_bytes_max = message.has_max_direct_response_body_size_bytes()
                                         ? message.max_direct_response_body_size_bytes().value()
                                         : kDirectBodyBytesMax;
  for (const std::string& name : message.internal_only_headers())
    out.internal_only_headers.push_back(base::toLower(name));
  readHeaderOps(message.request_headers_to_add(), message.request_headers_to_remove(), place,
                "request", out.request);
  readHeaderOps(message.response_headers_to_add(), message.response_headers_to_remove(), place,
                "response", out.response);
  out.filters = readPerFilter(message.typed_per_filter_config(), place);
  out.host_header = requestHeaderName(message.vhost_header());
  out.ignore_port = message.ignore_port_in_host_matching();
  out.ignore_path_parameters = message.ignore_path_parameters_in_path_matching();
  out.most_specific_wins = message.most_specific_header_mutations_wins();
  for (int i = 0; i < message.virtual_hosts_size(); ++i) {
    out.hosts.push_back(
        readHost(message.virtual_hosts(i), place.item("virtual_hosts", i), body_bytes_max));
  }
  if (!place.errors().failed()) indexRoutes(out, place);
  return out;
}

base::ConfigResult<RouteTable> buildRoutes(const route::RouteConfiguration& message,
                                           std::string_view path) {
  POSTERN_TRY_VOID(checkHonoured(message, path, Door::kListener));
  BuildErrors errors;
  RouteTable out = readRoutes(message, Place(path, errors));
  if (errors.failed()) return std::unexpected(errors.error());
  return out;
}

}  // namespace postern::proxy
