#include "proxy/config_http_options.h"

#include "envoy/config/core/v3/extension.pb.h"
#include "envoy/config/core/v3/protocol.pb.h"
#include "envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case.pb.h"
#include "proxy/config_matchers.h"

// Fields that Envoy calls deprecated still come from older control planes.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace postern::proxy {

namespace core = envoy::config::core::v3;
namespace preserve = envoy::extensions::http::header_formatters::preserve_case::v3;

void readHttpOptions(const core::HttpProtocolOptions& message, const Place& place,
                     HttpManager& out) {
  if (message.has_idle_timeout())
    out.limits.idle_timeout = place.duration("idle_timeout", message.idle_timeout());
  if (message.has_max_connection_duration()) {
    out.connection_duration_max =
        place.duration("max_connection_duration", message.max_connection_duration());
  }
  if (message.has_max_headers_count()) {
    out.limits.header_count_max = message.max_headers_count().value();
    if (out.limits.header_count_max == 0) place.fail("max_headers_count", "must be above 0");
  }
  if (message.has_max_stream_duration())
    out.stream_duration_max = place.duration("max_stream_duration", message.max_stream_duration());
  constexpr UnderscoreHeaders kActions[] = {UnderscoreHeaders::kAllow, UnderscoreHeaders::kReject,
                                            UnderscoreHeaders::kDrop};
  if (message.headers_with_underscores_action() > 2)
    return place.fail("headers_with_underscores_action", "is not a known value");
  out.underscore_headers = kActions[message.headers_with_underscores_action()];
  out.requests_per_connection_max = message.max_requests_per_connection().value();
}

http::HeaderCase readHeaderCase(const core::Http1ProtocolOptions_HeaderKeyFormat& message,
                                const Place& place) {
  if (message.has_proper_case_words()) return http::HeaderCase::kProper;
  if (!message.has_stateful_formatter()) {
    place.fail("must be proper_case_words or stateful_formatter");
    return http::HeaderCase::kLower;
  }
  const Place typed = place.field("stateful_formatter").field("typed_config");
  const auto& any = message.stateful_formatter().typed_config();
  preserve::PreserveCaseFormatterConfig config;
  if (typeName(any) != config.GetDescriptor()->full_name()) {
    typed.fail("\"" + any.type_url() + "\" is not a supported formatter");
    return http::HeaderCase::kLower;
  }
  typed.unpack(any, config);
  return config.formatter_type_on_envoy_headers() ==
                 preserve::PreserveCaseFormatterConfig::PROPER_CASE
             ? http::HeaderCase::kPreserveOrProper
             : http::HeaderCase::kPreserve;
}

void readHttp1Options(const core::Http1ProtocolOptions& message, const Place& place,
                      HttpManager& out) {
  out.limits.host_required = false;  // the manager answers
  out.limits.absolute_form =
      !message.has_allow_absolute_url() || message.allow_absolute_url().value();
  out.limits.http_10 = message.accept_http_10();
  out.limits.chunked_beats_length = message.allow_chunked_length();
  out.default_host_for_http_10 = message.default_host_for_http_10();
  if (message.has_header_key_format()) {
    out.limits.header_case =
        readHeaderCase(message.header_key_format(), place.field("header_key_format"));
  }
  out.limits.trailers = message.enable_trailers();
  if (message.has_override_stream_error_on_invalid_http_message())
    out.http1_keeps_open = message.override_stream_error_on_invalid_http_message().value();
  for (int i = 0; i < message.ignore_http_11_upgrade_size(); ++i) {
    out.ignored_upgrades.push_back(
        readString(message.ignore_http_11_upgrade(i), place.item("ignore_http_11_upgrade", i)));
  }
}

}  // namespace postern::proxy
