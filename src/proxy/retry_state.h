// Whether and when a failed attempt is made again. Pure decisions; the exchange acts on them.
#pragma once

#include "base/random.h"
#include "proxy/route_config.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace postern::proxy {

/// How an attempt ended without an answer.
enum class UpstreamFailure : unsigned char {
  kConnectFailure,
  kConnectTimeout,
  kOverflow,
  kConnectionTermination,
  kLocalReset,
  kRemoteReset,
  kRemoteRefused,
  kProtocolError,
  kPerTryTimeout,
};

class RetryState {
 public:
  /// Of the route's policy (null: none) and, from callers that are trusted, x-envoy-* headers.
  void start(const RetryPolicy* policy, const http::HeaderMap& request, bool envoy_headers);
  bool enabled() const { return on_ != 0 && retries_max_ > 0; }
  const RetryPolicy* policy() const { return policy_; }

  bool wantsRetry(const http::HeaderMap& response) const;
  bool wantsRetry(UpstreamFailure failure, bool request_sent) const;
  bool exhausted() const { return retries_ >= retries_max_; }
  /// Counts a retry and says how long to wait: full jitter, doubling.
  std::chrono::milliseconds next(base::Random& random);
  std::uint32_t retries() const { return retries_; }

 private:
  bool wantsStatus(int status, const http::HeaderMap& response) const;
  const RetryPolicy* policy_ = nullptr;
  std::uint32_t on_ = 0;
  std::uint32_t retries_max_ = 0;
  std::uint32_t retries_ = 0;
  std::vector<std::uint32_t> more_codes_;  // x-envoy-retriable-status-codes
  std::vector<std::string> more_headers_;  // x-envoy-retriable-header-names
  std::chrono::milliseconds backoff_{25};
  std::chrono::milliseconds backoff_max_{250};
};

}  // namespace postern::proxy
