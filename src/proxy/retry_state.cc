#include "proxy/retry_state.h"

#include "base/strings.h"

#include <algorithm>

namespace postern::proxy {

namespace {

bool has(const std::vector<std::uint32_t>& codes, int status) {
  return std::find(codes.begin(), codes.end(), static_cast<std::uint32_t>(status)) != codes.end();
}

std::uint32_t grpcBit(int status) {
  switch (status) {
    case 1:
      return RetryPolicy::kGrpcCancelled;
    case 4:
      return RetryPolicy::kGrpcDeadlineExceeded;
    case 8:
      return RetryPolicy::kGrpcResourceExhausted;
    case 13:
      return RetryPolicy::kGrpcInternal;
    case 14:
      return RetryPolicy::kGrpcUnavailable;
    default:
      return 0;
  }
}

}  // namespace

void RetryState::start(const RetryPolicy* policy, const http::HeaderMap& request,
                       bool envoy_headers) {
  policy_ = policy;
  if (policy != nullptr) {
    on_ = policy->on;
    retries_max_ = policy->retries_max;
    backoff_ = policy->backoff_base;
    backoff_max_ = policy->backoff_max;
    const auto& wanted = policy->request_headers;
    if (!wanted.empty() && std::none_of(wanted.begin(), wanted.end(),
                                        [&](const auto& each) { return each.matches(request); })) {
      on_ = 0;
    }
  }
  if (!envoy_headers) return;
  const std::uint32_t before = on_;
  on_ |= parseRetryOn(request.value("x-envoy-retry-on"));
  on_ |= parseRetryOn(request.value("x-envoy-retry-grpc-on"));
  if (before == 0 && on_ != 0 && policy == nullptr) retries_max_ = 1;
  if (auto most = base::parseInteger<std::uint32_t>(request.value("x-envoy-max-retries")))
    retries_max_ = *most;
  for (std::string_view each : base::split(request.value("x-envoy-retriable-status-codes"), ',')) {
    if (auto code = base::parseInteger<std::uint32_t>(base::trim(each)))
      more_codes_.push_back(*code);
  }
  for (std::string_view each : base::split(request.value("x-envoy-retriable-header-names"), ',')) {
    if (std::string name = base::toLower(base::trim(each)); !name.empty())
      more_headers_.push_back(std::move(name));
  }
}

bool RetryState::wantsStatus(int status, const http::HeaderMap& response) const {
  if ((on_ & RetryPolicy::k5xx) != 0 && status >= 500 && status < 600) return true;
  if ((on_ & RetryPolicy::kGatewayError) != 0 && status >= 502 && status <= 504) return true;
  if ((on_ & RetryPolicy::kRetriable4xx) != 0 && status == 409) return true;
  if ((on_ & RetryPolicy::kRetriableStatusCodes) != 0) {
    if (policy_ != nullptr && has(policy_->status_codes, status)) return true;
    if (has(more_codes_, status)) return true;
  }
  if ((on_ & RetryPolicy::kRetriableHeaders) == 0) return false;
  if (policy_ != nullptr) {
    for (const HeaderMatcher& each : policy_->response_headers) {
      if (each.matches(response)) return true;
    }
  }
  return std::any_of(more_headers_.begin(), more_headers_.end(),
                     [&](const std::string& each) { return response.has(each); });
}

bool RetryState::wantsRetry(const http::HeaderMap& response) const {
  if (on_ == 0) return false;
  if (response.has("x-envoy-ratelimited")) return (on_ & RetryPolicy::kEnvoyRatelimited) != 0;
  if (wantsStatus(response.status(), response)) return true;
  constexpr std::uint32_t kGrpc = RetryPolicy::kGrpcCancelled | RetryPolicy::kGrpcDeadlineExceeded |
                                  RetryPolicy::kGrpcInternal | RetryPolicy::kGrpcResourceExhausted |
                                  RetryPolicy::kGrpcUnavailable;
  if ((on_ & kGrpc) == 0) return false;
  const auto status = base::parseInteger<int>(response.value("grpc-status"));
  return status && (on_ & grpcBit(*status)) != 0;
}

bool RetryState::wantsRetry(UpstreamFailure failure, bool request_sent) const {
  if (on_ == 0 || failure == UpstreamFailure::kOverflow) return false;
  if ((on_ & (RetryPolicy::k5xx | RetryPolicy::kGatewayError)) != 0) return true;
  // A try that took too long was reset by us: a reset like another.
  if ((on_ & RetryPolicy::kReset) != 0) return true;
  if ((on_ & RetryPolicy::kResetBeforeRequest) != 0 && !request_sent) return true;
  if ((on_ & RetryPolicy::kConnectFailure) != 0 && (failure == UpstreamFailure::kConnectFailure ||
                                                    failure == UpstreamFailure::kConnectTimeout)) {
    return true;
  }
  return (on_ & RetryPolicy::kRefusedStream) != 0 && failure == UpstreamFailure::kRemoteRefused;
}

std::chrono::milliseconds RetryState::next(base::Random& random) {
  ++retries_;
  const auto bound = static_cast<std::uint64_t>(std::max<std::int64_t>(1, backoff_.count()));
  const std::chrono::milliseconds wait(static_cast<std::int64_t>(random.below(bound)));
  backoff_ = std::min(backoff_ * 2, backoff_max_);
  return wait;
}

}  // namespace postern::proxy
