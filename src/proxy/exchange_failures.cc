// What an exchange answers when an attempt at an upstream failed and none follows.
#include "proxy/exchange.h"

namespace postern::proxy {

FailureText failureText(UpstreamFailure failure) {
  switch (failure) {
    case UpstreamFailure::kConnectFailure:
      return {"remote connection failure", formatter::Flag::kUpstreamConnectionFailure};
    case UpstreamFailure::kConnectTimeout:
      return {"connection timeout", formatter::Flag::kUpstreamConnectionFailure};
    case UpstreamFailure::kOverflow:
      return {"overflow", formatter::Flag::kUpstreamOverflow};
    case UpstreamFailure::kLocalReset:
      return {"local reset", formatter::Flag::kLocalReset};
    case UpstreamFailure::kRemoteReset:
      return {"remote reset", formatter::Flag::kUpstreamRemoteReset};
    case UpstreamFailure::kRemoteRefused:
      return {"remote refused stream reset", formatter::Flag::kUpstreamRemoteReset};
    case UpstreamFailure::kProtocolError:
      return {"protocol error", formatter::Flag::kUpstreamProtocolError};
    default:
      return {"connection termination", formatter::Flag::kUpstreamConnectionTermination};
  }
}

void Exchange::attemptFailed(UpstreamFailure failure, std::string_view transport_error) {
  const bool sent = attempt_sent_;
  if (host_ != nullptr) ++host_->rq_error;
  if (!transport_error.empty()) record_.failure = record_.keep(std::string(transport_error));
  if (retry_.wantsRetry(failure, sent) && retryLater(false)) return;
  const FailureText text = failureText(failure);
  std::string body = "upstream connect error or disconnect/reset before headers. ";
  if (record_.attempts > 1) body += "retried and the latest ";
  body.append("reset reason: ").append(text.text);
  std::string details = "upstream_reset_before_response_started{";
  details += text.text;
  // Why is for the log: the client must not learn how the inside is built.
  if (!transport_error.empty()) details.append("|").append(transport_error);
  details += '}';
  const int status = failure == UpstreamFailure::kProtocolError ? 502 : 503;
  cluster_->stats().response_codes.count(status);
  reply({.status = status,
         .body = body,
         .flag = text.flag,
         .details = record_.keep(std::move(details)),
         .by = By::kRouter,
         .overloaded = failure == UpstreamFailure::kOverflow});
}

void Exchange::responseTimeout() {
  cluster_->stats().upstream_rq_timeout.add();
  if (host_ != nullptr) ++host_->rq_timeout;
  record_.flags.set(formatter::Flag::kUpstreamRequestTimeout);
  record_.details = "response_timeout";
  if (response_started_) return finish();
  replyTimeout("response_timeout");
}

/// max_stream_duration of the cluster.
void Exchange::attemptTooLong() {
  cluster_->stats().scope.counter("upstream_rq_max_duration_reached").add();
  if (!response_started_ && retry_.wantsRetry(UpstreamFailure::kLocalReset, true) &&
      retryLater(false)) {
    return;
  }
  record_.flags.set(formatter::Flag::kUpstreamMaxStreamDurationReached);
  record_.details = "upstream_max_stream_duration_reached";
  if (response_started_) return finish();
  cluster_->stats().response_codes.count(504);
  reply({.status = 504,
         .body = "upstream max stream duration reached",
         .flag = std::nullopt,
         .details = "upstream_max_stream_duration_reached",
         .by = By::kRouter});
}

/// 504, or what the caller asked for instead.
void Exchange::replyTimeout(const char* details) {
  const int status = timeout_is_no_content_ ? 204 : 504;
  cluster_->stats().response_codes.count(status);
  reply({.status = status,
         .body = timeout_is_no_content_ ? "" : "upstream request timeout",
         .flag = formatter::Flag::kUpstreamRequestTimeout,
         .details = details,
         .by = By::kRouter});
}

void Exchange::perTryTimeout(PerTry which) {
  const char* details =
      which == PerTry::kIdle ? "upstream_per_try_idle_timeout" : "upstream_per_try_timeout";
  if (response_started_ && which == PerTry::kWhole) return;
  cluster_->stats()
      .scope
      .counter(which == PerTry::kIdle ? "upstream_rq_per_try_idle_timeout"
                                      : "upstream_rq_per_try_timeout")
      .add();
  if (response_started_) {
    record_.flags.set(formatter::Flag::kUpstreamRequestTimeout);
    record_.details = details;
    conn_.stats.rq_reset_after_response_started.add();
    return finish();
  }
  if (host_ != nullptr) ++host_->rq_timeout;
  timed_out_retry_ = true;
  if (retry_.wantsRetry(UpstreamFailure::kPerTryTimeout, true) && retryLater(false)) return;
  replyTimeout(details);
}

}  // namespace postern::proxy
