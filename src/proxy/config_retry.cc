#include "proxy/config_retry.h"

#include "base/strings.h"
#include "envoy/config/route/v3/route_components.pb.h"
#include "proxy/config_matchers.h"

#include <algorithm>

namespace postern::proxy {

namespace {

constexpr std::pair<std::string_view, std::uint32_t> kWords[] = {
    {"5xx", RetryPolicy::k5xx},
    {"gateway-error", RetryPolicy::kGatewayError},
    {"reset", RetryPolicy::kReset},
    {"reset-before-request", RetryPolicy::kResetBeforeRequest},
    {"connect-failure", RetryPolicy::kConnectFailure},
    {"envoy-ratelimited", RetryPolicy::kEnvoyRatelimited},
    {"retriable-4xx", RetryPolicy::kRetriable4xx},
    {"refused-stream", RetryPolicy::kRefusedStream},
    {"retriable-status-codes", RetryPolicy::kRetriableStatusCodes},
    {"retriable-headers", RetryPolicy::kRetriableHeaders},
    {"cancelled", RetryPolicy::kGrpcCancelled},
    {"deadline-exceeded", RetryPolicy::kGrpcDeadlineExceeded},
    {"internal", RetryPolicy::kGrpcInternal},
    {"resource-exhausted", RetryPolicy::kGrpcResourceExhausted},
    {"unavailable", RetryPolicy::kGrpcUnavailable},
};

}  // namespace

std::uint32_t parseRetryOn(std::string_view list) {
  std::uint32_t out = 0;
  for (std::string_view word : base::split(list, ',')) {
    for (const auto& [text, bit] : kWords) {
      if (base::trim(word) == text) out |= bit;
    }
  }
  return out;
}

RetryPolicy readRetryPolicy(const envoy::config::route::v3::RetryPolicy& message,
                            const Place& place) {
  RetryPolicy out;
  out.on = parseRetryOn(message.retry_on());
  if (message.has_num_retries()) out.retries_max = message.num_retries().value();
  if (message.has_per_try_timeout())
    out.per_try_timeout = place.duration("per_try_timeout", message.per_try_timeout());
  if (message.has_per_try_idle_timeout())
    out.per_try_idle_timeout =
        place.duration("per_try_idle_timeout", message.per_try_idle_timeout());
  for (int i = 0; i < message.retry_host_predicate_size(); ++i) {
    const auto& each = message.retry_host_predicate(i);
    if (typeName(each.typed_config()) ==
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate") {
      out.avoid_previous_hosts = true;
    } else {
      place.item("retry_host_predicate", i)
          .fail("typed_config", "\"" + each.typed_config().type_url() + "\" is not supported");
    }
  }
  out.host_attempts_max = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(message.host_selection_retry_max_attempts(), 1, 100));
  for (const std::uint32_t code : message.retriable_status_codes())
    out.status_codes.push_back(code);
  if (message.has_retry_back_off()) {
    const auto& backoff = message.retry_back_off();
    const Place at = place.field("retry_back_off");
    out.backoff_base = at.duration("base_interval", backoff.base_interval());
    if (out.backoff_base.count() == 0) at.fail("base_interval", "must be above 0");
    out.backoff_max = backoff.has_max_interval()
                          ? at.duration("max_interval", backoff.max_interval())
                          : out.backoff_base * 10;
    if (out.backoff_max < out.backoff_base)
      at.fail("max_interval", "must not be below base_interval");
  }
  out.response_headers = readHeaders(message.retriable_headers(), place, "retriable_headers");
  out.request_headers =
      readHeaders(message.retriable_request_headers(), place, "retriable_request_headers");
  return out;
}

}  // namespace postern::proxy
