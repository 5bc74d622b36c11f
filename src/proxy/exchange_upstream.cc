#include "base/prefetch.h"
#include "base/strings.h"
#include "proxy/exchange.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace postern::proxy {

namespace {

constexpr std::uint32_t kSilentRetriesMax = 3;
constexpr std::size_t kKeptAlwaysBytes = 16 * 1024;

bool idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE" ||
         method == "PUT" || method == "DELETE";
}

UpstreamFailure failureOf(http::ResetReason reason) {
  switch (reason) {
    case http::ResetReason::kRefused:
      return UpstreamFailure::kRemoteRefused;
    case http::ResetReason::kCancel:
      return UpstreamFailure::kRemoteReset;
    case http::ResetReason::kConnectFailure:
      return UpstreamFailure::kConnectFailure;
    case http::ResetReason::kProtocol:
    case http::ResetReason::kInvalidField:
      return UpstreamFailure::kProtocolError;
    case http::ResetReason::kOverflow:
      return UpstreamFailure::kOverflow;
    case http::ResetReason::kLocal:
    case http::ResetReason::kTimeout:
      return UpstreamFailure::kLocalReset;
    default:
      return UpstreamFailure::kConnectionTermination;
  }
}

http::Protocol protocolFor(UpstreamCodec codec, const http::Stream& down) {
  switch (codec) {
    case UpstreamCodec::kHttp1:
      return http::Protocol::kHttp1;
    case UpstreamCodec::kHttp2:
      return http::Protocol::kHttp2;
    case UpstreamCodec::kAsDownstream:
      return down.httpVersion() == 2 ? http::Protocol::kHttp2 : http::Protocol::kHttp1;
    case UpstreamCodec::kByAlpn:
      break;
  }
  return http::Protocol::kAuto;
}

/// An answer that nobody gets is counted apart.
void countRetried(stats::Scope& scope, int status) {
  const std::string code = std::to_string(status);
  scope.counter("retry.upstream_rq_completed").add();
  scope.counter("retry.upstream_rq_" + code).add();
  scope.counter("retry.upstream_rq_" + code.substr(0, 1) + "xx").add();
}

}  // namespace

std::chrono::milliseconds Exchange::routeTimeout() const {
  const std::chrono::milliseconds timeout = action_->timeout;
  if (!upgrade_.empty()) return std::chrono::milliseconds(0);
  if (!envoy_headers_) return timeout;
  auto number = [&](const char* name) {
    return base::parseInteger<std::uint32_t>(request_.value(name));
  };
  if (config_.respect_expected_timeout) {
    if (auto expected = number("x-envoy-expected-rq-timeout-ms"))
      return std::chrono::milliseconds(*expected);
  }
  if (auto wanted = number("x-envoy-upstream-rq-timeout-ms"))
    return std::chrono::milliseconds(*wanted);
  return timeout;
}

/// Tells the upstream how long an answer is waited for: what is left of it, at least 1 ms (0 would
/// mean that there is no limit).
void Exchange::announceTimeout(base::Duration used) {
  if (config_.suppress_envoy_headers) return;
  std::chrono::milliseconds expected = per_try_timeout_.count() > 0 ? per_try_timeout_ : timeout_;
  if (expected.count() == 0) return;
  if (timeout_.count() > 0) {
    const auto left = timeout_ - std::chrono::duration_cast<std::chrono::milliseconds>(used);
    expected = std::clamp(left, std::chrono::milliseconds(1), expected);
  }
  request_.set("x-envoy-expected-rq-timeout-ms", std::to_string(expected.count()));
}

/// The limits that run from the end of the request; that of a tunnel never comes.
void Exchange::startTimeouts() {
  if (!request_ended_ || cluster_ == nullptr || done_ || !upgrade_.empty()) return;
  if (timeout_.count() > 0 &&
      deadlines_[static_cast<std::size_t>(Deadline::kResponse)] == base::MonotonicTime{}) {
    setDeadline(Deadline::kResponse, timeout_);
  }
  if (up_ != nullptr && per_try_timeout_.count() > 0 && !response_started_)
    setDeadline(Deadline::kPerTry, per_try_timeout_);
}

void Exchange::tryUpstream() {
  PickRequest pick;
  // Only a destination that was restored is somewhere else than here.
  if (conn_.facts.restored) pick.original = &conn_.facts.destination;
  if (!tried_.empty() && retry_.policy() != nullptr && retry_.policy()->avoid_previous_hosts) {
    pick.avoid = &tried_;
    pick.attempts_max = retry_.policy()->host_attempts_max;
  }
  ++record_.attempts;
  record_.upstream_connection_id = 0;
  HostPtr host = cluster_->pick(pick);
  if (host == nullptr) {
    cluster_->stats().response_codes.count(503);
    return reply({.status = 503,
                  .body = "no healthy upstream",
                  .flag = formatter::Flag::kNoHealthyUpstream,
                  .details = "no_healthy_upstream",
                  .by = By::kRouter});
  }
  host_ = std::move(host);
  if (host_->text.empty()) host_->text = host_->address.toString();
  record_.upstream_host = host_->text;
  record_.upstream_host_name = host_->hostname;
  // Of the attempt before.
  record_.upstream_local = formatter::AddressText();
  record_.upstream_protocol = {};
  record_.upstream_tls = nullptr;
  record_.failure = {};
  if (action_->auto_host_rewrite && host_->hostname != request_.authority())
    setHost(host_->hostname);
  attempt_open_ = true;
  ++host_->rq_active;
  ++host_->rq_total;
  waiting_ = true;
  startTimeouts();
  using Idle = UpstreamPool::Idle;
  const bool repeatable = request_ended_ && idempotent(request_.method()) && replayable();
  const bool tunnel = upgrade_ == "connect" && action_->ends_connect;
  const http::Protocol protocol =
      tunnel ? http::Protocol::kTunnel : protocolFor(cluster_->config().codec, *down_);
  conn_.worker.pool().acquire(cluster_, host_, protocol,
                              static_cast<RoutingPriority>(action_->high_priority),
                              repeatable ? Idle::kTrusted : Idle::kProbed, conn_.facts, *this);
}

void Exchange::endAttempt() {
  clear(Deadline::kPerTry);
  clear(Deadline::kPerTryIdle);
  clear(Deadline::kAttempt);
  if (attempt_open_) {
    attempt_open_ = false;
    --host_->rq_active;
    if (std::exchange(attempt_sent_, false)) {
      cluster_->give(Resource::kRequests, static_cast<RoutingPriority>(action_->high_priority));
      cluster_->stats().upstream_rq_active.sub();
    }
  }
  if (retry_slot_) {
    retry_slot_ = false;
    cluster_->give(Resource::kRetries, static_cast<RoutingPriority>(action_->high_priority));
  }
}

/// Waits for no connection any more.
void Exchange::cancelWait() {
  if (!std::exchange(waiting_, false)) return;
  conn_.worker.pool().cancel(*this);
  cluster_->stats().upstream_rq_cancelled.add();
}

void Exchange::resetUpstream() {
  if (up_ != nullptr) std::exchange(up_, nullptr)->reset(http::ResetReason::kCancel);
}

void Exchange::onReady(const PooledConnection& connection) {
  waiting_ = false;
  record_.at.connect_end = now();
  record_.upstream_local = connection.local;
  if (connection.tls != record_.upstream_tls) record_.upstream_tls = connection.tls;
  record_.upstream_connection_id = conn_.worker.uniqueId(connection.id);
  attempt_sent_ = true;
  record_.upstream_protocol = connection.http2 ? "HTTP/2" : "HTTP/1.1";
  if (upgrade_ == "connect" && action_->ends_connect) record_.upstream_protocol = {};
  cluster_->stats().upstream_rq_total.add();
  cluster_->stats().upstream_rq_active.add();
  cluster_->take(Resource::kRequests, static_cast<RoutingPriority>(action_->high_priority));
  if (cluster_->config().stream_duration_max.count() > 0)
    setDeadline(Deadline::kAttempt, cluster_->config().stream_duration_max);
  up_ = &connection.client.open(up_side_);
  up_->warm(std::as_bytes(std::span(this, 1)));
  touchAttempt();
  sendRequest(connection);
}

/// The upstream was heard of: its idle time begins anew.
void Exchange::touchAttempt() {
  if (action_->retry && action_->retry->per_try_idle_timeout.count() > 0)
    setDeadline(Deadline::kPerTryIdle, action_->retry->per_try_idle_timeout);
}

void Exchange::onFailed(PoolFailure failure, base::Error error) {
  waiting_ = false;
  if (failure == PoolFailure::kPendingOverflow)
    record_.upstream_host = std::string_view();  // no connection to it was wanted
  if (failure == PoolFailure::kPendingOverflow || failure == PoolFailure::kRequestOverflow)
    return attemptFailed(UpstreamFailure::kOverflow, "");
  if (failure == PoolFailure::kConnectTimeout)
    return attemptFailed(UpstreamFailure::kConnectTimeout, "");
  const bool tls = std::string_view(error.text).starts_with("TLS");
  std::string text = tls ? "" : "delayed connect error: ";
  text += error.sys != 0 ? std::strerror(error.sys) : error.text;
  attemptFailed(UpstreamFailure::kConnectFailure, text);
}

void Exchange::sendRequest(const PooledConnection& connection) {
  if (vhost_->attempt_count_in_request)
    request_.set("x-envoy-attempt-count", std::to_string(record_.attempts));
  if (record_.attempts > 1 && request_ended_) announceTimeout(now() - record_.at.request_end);
  if (vhost_->timeout_retry_header && timed_out_retry_)
    request_.set("x-envoy-is-timeout-retry", "true");
  if (config_.scheme_of_upstream) {
    const bool tls = connection.client.transport().peer().tls;
    request_.set(":scheme", tls ? "https" : "http");
  }
  if (record_.at.upstream_tx_begin == base::MonotonicTime{}) record_.at.upstream_tx_begin = now();
  http::Flow flow = http::Flow::kOpen;
  if (upgrade_.empty()) {
    const bool whole = request_ended_ && body_.empty() && !has_trailers_;
    flow = up_->sendHeaders(request_, whole ? End::kYes : End::kNo);
    if (!whole && (!body_.empty() || request_ended_)) return sendBody();
    if (request_ended_) record_.at.upstream_tx_end = now();
    startTimeouts();
    if (flow == http::Flow::kOpen) readDownstream();
    return;
  }
  sendUpgrade(connection);
}

/// RFC 8441: Upgrade on HTTP/1 is an extended CONNECT on HTTP/2. What follows waits until the
/// upstream has agreed.
void Exchange::sendUpgrade(const PooledConnection& connection) {
  const bool extended = upgrade_ != "connect";
  if (extended && connection.http2 &&
      (!cluster_->config().h2.extended_connect ||
       !connection.client.takesExtendedConnect().value_or(true))) {
    std::exchange(up_, nullptr)->reset(http::ResetReason::kCancel);
    return attemptFailed(UpstreamFailure::kProtocolError, "extended CONNECT is not supported");
  }
  HeaderMap converted = request_;
  if (extended && connection.http2) {
    converted.set(":method", "CONNECT");
    converted.add(":protocol", upgrade_);
    converted.remove("upgrade");
    // Go says so in every upgrade; what follows would be malformed.
    if (converted.value("content-length") == "0") converted.remove("content-length");
  } else if (extended) {
    // HTTP/2 needs no key, an HTTP/1 origin does not answer without one.
    if (upgrade_ == "websocket" && !converted.has("sec-websocket-key")) {
      char bytes[16];
      for (int i = 0; i < 2; ++i) {
        const std::uint64_t part = base::threadRandom().next();
        std::memcpy(bytes + i * 8, &part, sizeof part);
      }
      converted.add("sec-websocket-key", base::base64Encode(std::string_view(bytes, sizeof bytes)));
    }
  }
  up_->sendHeaders(converted, End::kNo);
}

/// Sends what came before there was somebody to send it to, or sends it again.
void Exchange::sendBody() {
  const End end = request_ended_ && !has_trailers_ ? End::kYes : End::kNo;
  http::Flow flow = http::Flow::kOpen;
  if (replayable() && body_.size() <= keptBodyMax()) {
    base::Buffer copy;
    body_.copyTo(copy);
    flow = up_->sendData(copy, end);
  } else {
    body_kept_ = body_.empty();
    flow = up_->sendData(body_, end);
  }
  if (has_trailers_) flow = up_->sendTrailers(request_trailers_);
  if (request_ended_) record_.at.upstream_tx_end = now();
  startTimeouts();
  if (flow == http::Flow::kOpen) readDownstream();
}

/// What of the body is kept for another attempt. A small one always: a connection that ends at the
/// wrong moment, or a stream that was refused, costs no request then.
std::size_t Exchange::keptBodyMax() const {
  if (!upgrade_.empty()) return 0;
  if (!retry_.enabled() && !idempotent(request_.method())) return kKeptAlwaysBytes;
  return conn_.facts.listener->buffer_bytes_max;
}

/// Keeps a copy of a piece of the body if it may be needed for another attempt.
void Exchange::keepBody(const base::Buffer& data) {
  if (!body_kept_) return;
  if (!response_started_ && body_.size() + data.size() <= keptBodyMax()) return data.copyTo(body_);
  if (retry_.enabled() && !response_started_ && upgrade_.empty())
    cluster_->stats().scope.counter("retry_or_shadow_abandoned").add();
  body_kept_ = data.empty() && body_.empty();
  body_.clear();
}

bool Exchange::replayable() const { return body_kept_ && upgrade_.empty(); }

// ---- the answer ----

void Exchange::upInformational(HeaderMap& headers) {
  if (done_ || down_ == nullptr || down_->httpVersion() == 0) return;
  if (!config_.proxy_100_continue) return;  // of the others too, as in Envoy
  conn_.stats.completed(headers.status());
  down_->sendHeaders(headers, End::kNo);
}

void Exchange::upHeaders(HeaderMap headers, End end) {
  response_ = std::move(headers);
  base::prefetch(down_, http::kStreamBytes);
  base::prefetch(&conn_, http::kServerObserverBytes);
  request_.prefetch();
  record_.at.upstream_rx_begin = now();
  clear(Deadline::kPerTry);
  touch();
  touchAttempt();
  if (end == End::kYes) {
    up_ = nullptr;
    record_.at.upstream_rx_end = now();
  }
  const int status = response_.status();
  (status < 500 ? host_->rq_success : host_->rq_error) += 1;
  if (retry_.wantsRetry(response_)) {
    if (retryLater(false)) return countRetried(cluster_->stats().scope, status);
  } else if (record_.attempts > 1) {
    cluster_->stats().upstream_rq_retry_success.add();
  }
  cluster_->stats().response_codes.count(status);
  forwardResponse(end);
}

void Exchange::upData(base::Buffer& data, End end) {
  upPiece(data.size(), end);
  upSent(down_->sendData(data, end), end);
}

void Exchange::upPiped(net::PipedBytes& piece, End end) {
  upPiece(piece.size(), end);
  upSent(down_->sendPiped(piece, end), end);
}

void Exchange::upPiece(std::size_t bytes, End end) {
  record_.bytes_sent += bytes;
  touch();
  touchAttempt();
  if (end == End::kNo) {
    // The client has ended its direction; what still comes for it is no end.
    if (tunnel_ && request_ended_) setDeadline(Deadline::kTunnelEnd, kTunnelEndAfter);
    return;
  }
  up_ = nullptr;
  record_.at.upstream_rx_end = now();
}

void Exchange::upSent(http::Flow flow, End end) {
  if (end == End::kYes) return responseComplete();
  if (flow == http::Flow::kOpen && up_ != nullptr) up_->read();
}

void Exchange::upTrailers(HeaderMap trailers) {
  up_ = nullptr;
  record_.at.upstream_rx_end = now();
  response_trailers_ = std::move(trailers);
  record_.trailers = &response_trailers_;
  down_->sendTrailers(response_trailers_);
  responseComplete();
}

void Exchange::upReset(http::ResetReason reason) {
  up_ = nullptr;
  if (response_started_) {
    const FailureText text = failureText(failureOf(reason));
    record_.flags.set(text.flag);
    std::string details = "upstream_reset_after_response_started{";
    details.append(text.text).append("}");
    record_.details = record_.keep(std::move(details));
    ++host_->rq_error;
    cluster_->stats().scope.counter("upstream_rq_rx_reset").add();
    conn_.stats.rq_reset_after_response_started.add();
    return finish();
  }
  // Nobody was told, nothing was done: the next connection takes it. A policy that asks for a retry
  // comes first.
  const UpstreamFailure failure = failureOf(reason);
  const bool asked = retry_.wantsRetry(failure, true) && !retry_.exhausted();
  const bool safe =
      reason == http::ResetReason::kRefused || reason == http::ResetReason::kNotSent ||
      (reason == http::ResetReason::kLostBeforeReply && idempotent(request_.method()));
  if (safe && !asked && retryLater(true)) return;
  if (reason == http::ResetReason::kCancel || reason == http::ResetReason::kRefused)
    cluster_->stats().scope.counter("upstream_rq_rx_reset").add();
  attemptFailed(failure, "");
}

// ---- failures ----

/// True when another attempt follows. `silent`: not asked for by a policy, not counted as one.
bool Exchange::retryLater(bool silent) {
  if (!replayable() || down_ == nullptr) return false;
  ClusterStats& stats = cluster_->stats();
  if (silent) {
    if (silent_retries_ >= kSilentRetriesMax) return false;
    ++silent_retries_;
  } else {
    if (retry_.exhausted()) {
      record_.flags.set(formatter::Flag::kUpstreamRetryLimitExceeded);
      stats.scope.counter("upstream_rq_retry_limit_exceeded").add();
      return false;
    }
    if (!retry_slot_ && !cluster_->available(Resource::kRetries, static_cast<RoutingPriority>(
                                                                     action_->high_priority))) {
      stats.upstream_rq_retry_overflow.add();
      record_.flags.set(formatter::Flag::kUpstreamOverflow);
      return false;
    }
  }
  resetUpstream();
  endAttempt();
  if (host_ != nullptr) tried_.push_back(host_.get());
  if (silent) {
    --record_.attempts;  // for the client and the upstream it is the same attempt
    setDeadline(Deadline::kBackOff, now());
    return true;
  }
  stats.upstream_rq_retry.add();
  stats.scope.counter("upstream_rq_retry_backoff_exponential").add();
  cluster_->take(Resource::kRetries, static_cast<RoutingPriority>(action_->high_priority));
  retry_slot_ = true;
  setDeadline(Deadline::kBackOff, retry_.next(base::threadRandom()));
  return true;
}

}  // namespace postern::proxy
