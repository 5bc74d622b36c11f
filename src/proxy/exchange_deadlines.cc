// What an exchange does when it takes too long, or when the proxy is overloaded.
#include "proxy/exchange.h"

#include <algorithm>

namespace postern::proxy {

namespace {

constexpr int kGrpcDeadlineExceeded = 4;

}  // namespace

void Exchange::setDeadline(Deadline which, base::MonotonicTime when) {
  deadlines_[static_cast<std::size_t>(which)] = when;
  conn_.wantDeadline(when);
}

void Exchange::touch() {
  if (idle_timeout_.count() > 0) setDeadline(Deadline::kIdle, now() + idle_timeout_);
}

base::MonotonicTime Exchange::nextDeadline() const {
  base::MonotonicTime next = base::MonotonicTime::max();
  for (const base::MonotonicTime each : deadlines_) {
    if (each != base::MonotonicTime{}) next = std::min(next, each);
  }
  return next;
}

void Exchange::onDeadline(base::MonotonicTime at) {
  if (done_) return;
  for (std::size_t i = 0; i < deadlines_.size(); ++i) {
    if (deadlines_[i] == base::MonotonicTime{} || deadlines_[i] > at) continue;
    deadlines_[i] = {};
    switch (static_cast<Deadline>(i)) {
      case Deadline::kRequest:
        conn_.stats.rq_timeout.add();
        return requestTimeout("request_overall_timeout");
      case Deadline::kIdle:
        return idleTimeout();
      case Deadline::kStream:
        conn_.stats.rq_max_duration_reached.add();
        return durationTimeout();
      case Deadline::kResponse:
        return responseTimeout();
      case Deadline::kPerTry:
        return perTryTimeout(PerTry::kWhole);
      case Deadline::kPerTryIdle:
        return perTryTimeout(PerTry::kIdle);
      case Deadline::kAttempt:
        return attemptTooLong();
      case Deadline::kBackOff:
        return tryUpstream();
      case Deadline::kDelay:
        return abortByFault();
      case Deadline::kTunnelEnd:
        noteClientLeft();
        return finish();
      case Deadline::kLog:
        logNow("DownstreamPeriodic");
        setDeadline(Deadline::kLog, config_.log_interval);
        break;
      case Deadline::kCount:
        return;
    }
  }
}

void Exchange::reduceIdle(const TimerScale& scale, double strength) {
  const base::MonotonicTime deadline = deadlines_[static_cast<std::size_t>(Deadline::kIdle)];
  if (done_ || deadline == base::MonotonicTime{}) return;
  if (now() >= deadline - idle_timeout_ + scale.apply(idle_timeout_, strength)) idleTimeout();
}

std::size_t Exchange::bytesHeld() const {
  return body_.size() + (down_ != nullptr ? down_->bytesHeld() : 0) +
         (up_ != nullptr ? up_->bytesHeld() : 0);
}

void Exchange::resetForOverload() {
  if (done_) return;
  record_.flags.set(formatter::Flag::kOverloadManager);
  record_.details = "overload";
  finish();
}

void Exchange::idleTimeout() {
  conn_.stats.rq_idle_timeout.add();
  record_.flags.set(formatter::Flag::kStreamIdleTimeout);
  record_.details = "stream_idle_timeout";
  if (response_started_) return finish();
  reply({.status = request_ended_ ? 504 : 408,
         .body = "stream timeout",
         .flag = std::nullopt,
         .details = "stream_idle_timeout"});
}

void Exchange::requestTimeout(const char* details) {
  reply({.status = 408, .body = "request timeout", .flag = std::nullopt, .details = details});
}

/// max_stream_duration, or what a gRPC caller has allowed.
void Exchange::durationTimeout() {
  record_.details = "max_duration_timeout";
  if (response_started_) return finish();
  reply({.status = request_ended_ ? 504 : 408,
         .body = "downstream duration timeout",
         .flag = std::nullopt,
         .details = "max_duration_timeout",
         .grpc_status = kGrpcDeadlineExceeded});
}

}  // namespace postern::proxy
