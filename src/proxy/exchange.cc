#include "proxy/exchange.h"

#include "base/strings.h"
#include "proxy/forwarding.h"
#include "proxy/path_normalize.h"

#include <algorithm>
#include <new>

namespace postern::proxy {

namespace {

constexpr base::Duration kTunnelEndAfter = std::chrono::seconds(1);
constexpr int kGrpcDeadlineExceeded = 4;
constexpr std::size_t kKeptExchanges = 256;  // free ones of a thread

std::vector<void*>& freeExchanges() {
  struct Free {
    std::vector<void*> all;
    ~Free() {
      for (void* each : all) ::operator delete(each);
    }
  };
  thread_local Free free;
  return free.all;
}

base::Random& threadRandom() {
  thread_local base::Random random;
  return random;
}

}  // namespace

void* Exchange::operator new(std::size_t size) {
  std::vector<void*>& free = freeExchanges();
  if (free.empty()) return ::operator new(size);
  void* memory = free.back();
  free.pop_back();
  return memory;
}

void Exchange::operator delete(void* memory) {
  std::vector<void*>& free = freeExchanges();
  if (free.size() < kKeptExchanges) {
    free.push_back(memory);
  } else {
    ::operator delete(memory);
  }
}

Exchange::Exchange(HttpConnection& connection, http::Stream& down)
    : conn_(connection), config_(connection.config), down_(&down) {
  conn_.add(*this);
  conn_.stats.rq_total.add();
  conn_.stats.rq_active.add();
  record_.start = conn_.worker.loop().clock().wall();
  record_.at.request_begin = now();
  record_.downstream_local = conn_.local_text;
  record_.downstream_remote = conn_.peer_text;
  record_.downstream_direct_remote = conn_.direct_text;
  record_.server_name = conn_.facts.server_name;
  record_.filter_chain = conn_.chain_name;
  record_.connection_id = conn_.id;
  record_.downstream_peer = &down.transport().peer();
  record_.request = &request_;
  idle_timeout_ = config_.stream_idle_timeout;
}

Exchange::~Exchange() = default;

// ---- the request ----

void Exchange::onHeaders(HeaderMap headers, End end) {
  request_ = std::move(headers);
  request_ended_ = end == End::kYes;
  const int version = down_->httpVersion();
  record_.protocol = version == 2 ? "HTTP/2" : version == 0 ? "HTTP/1.0" : "HTTP/1.1";
  (version == 2 ? conn_.stats.rq_http2_total : conn_.stats.rq_http1_total).add();
  head_ = request_.method() == "HEAD";
  random_ = threadRandom().next();
  if (config_.request_timeout.count() > 0 && !request_ended_)
    setDeadline(Deadline::kRequest, config_.request_timeout);
  if (config_.stream_duration_max.count() > 0)
    setDeadline(Deadline::kStream, config_.stream_duration_max);
  touch();
  if (request_ended_) record_.at.request_end = now();
  if (!checkRequest()) return;
  upgrade_ = upgradeType(request_);
  if (upgrade_ == "h2c") upgrade_.clear();
  mutate();
}

/// What no route and no filter may see. Answers and returns false.
bool Exchange::checkRequest() {
  const int version = down_->httpVersion();
  if (version == 0) {
    if (!config_.accept_http_10) {
      reply({.status = 426,
             .body = "",
             .flag = std::nullopt,
             .details = "low_version",
             .close = true});
      return false;
    }
    if (!request_.has(":authority") && !config_.default_host_for_http_10.empty())
      request_.add(":authority", config_.default_host_for_http_10);
  }
  if (request_.authority().empty()) {
    reply({.status = 400, .body = "", .flag = std::nullopt, .details = "missing_host_header"});
    return false;
  }
  const std::string_view path = request_.path();
  if (path.empty()) {
    if (request_.method() == "CONNECT") return true;
    reply({.status = 404, .body = "", .flag = std::nullopt, .details = "missing_path_rejected"});
    return false;
  }
  if (path.front() != '/') {
    conn_.stats.rq_non_relative_path.add();
    reply({.status = 404, .body = "", .flag = std::nullopt, .details = "absolute_path_rejected"});
    return false;
  }
  return cleanPath();
}

bool Exchange::cleanPath() {
  std::string path;
  switch (normalizePath(config_, request_.path(), path)) {
    case PathVerdict::kUnchanged:
      return true;
    case PathVerdict::kChanged:
      request_.set(":path", path);
      return true;
    case PathVerdict::kRedirect:
      if (isGrpc(request_)) {
        request_.set(":path", path);
        return true;
      }
      conn_.stats.rq_redirected_with_normalized_path.add();
      reply({.status = 307,
             .body = "",
             .flag = std::nullopt,
             .details = "path_normalization_failed",
             .location = path});
      return false;
    case PathVerdict::kRejected:
      break;
  }
  conn_.stats.rq_failed_path_normalization.add();
  reply({.status = 400, .body = "", .flag = std::nullopt, .details = "path_normalization_failed"});
  return false;
}

void Exchange::cleanHost() {
  if (!config_.strip_any_port && !config_.strip_matching_port && !config_.strip_trailing_dot)
    return;
  std::string storage;
  const std::string_view host = request_.authority();
  const std::string_view stripped =
      stripHost(config_, host, conn_.facts.destination.port(), storage);
  if (stripped.size() != host.size()) request_.set(":authority", std::string(stripped));
}

void Exchange::mutate() {
  cleanHost();
  if (config_.routes != nullptr) {
    table_ = config_.routes.get();
  } else {
    table_kept_ = conn_.worker.routes(config_.rds_name);
    table_ = table_kept_.get();
  }
  const RequestSource source{conn_.peer, conn_.peer_ip, conn_.local_ip,
                             conn_.facts.destination.port(), down_->transport().peer()};
  const ForwardingResult result = mutateRequest(config_, table_, source, threadRandom(), request_);
  if (result.bad_underscore) {
    return reply({.status = 400,
                  .body = "",
                  .flag = std::nullopt,
                  .details = "http1.unexpected_underscore"});
  }
  internal_ = result.internal;
  envoy_headers_ = result.envoy_headers;
  if (!result.trusted_ip.empty()) {
    const auto trusted = net::Address::fromIp(result.trusted_ip, 0);
    if (trusted) record_.downstream_remote = trusted->toString();
  }
  grpc_ = isGrpc(request_);
  if (!config_.proxy_100_continue && request_.has("expect") && !request_ended_ &&
      base::equalsIgnoreCase(request_.value("expect"), "100-continue")) {
    request_.remove("expect");
    if (down_->httpVersion() != 0) down_->sendHeaders({{":status", "100"}}, End::kNo);
  }
  chooseRoute();
}

void Exchange::onData(base::Buffer& data, End end) {
  record_.bytes_received += data.size();
  touch();
  if (end == End::kYes) request_ended_ = true;
  if (up_ == nullptr) {
    body_.append(data);
  } else {
    keepBody(data);
    const http::Flow flow = up_->sendData(data, end);
    if (flow == http::Flow::kOpen && !request_ended_) readDownstream();
  }
  if (request_ended_ && tunnel_) setDeadline(Deadline::kTunnelEnd, kTunnelEndAfter);
  if (request_ended_) requestComplete();
}

void Exchange::onTrailers(HeaderMap trailers) {
  request_ended_ = true;
  touch();
  if (down_->httpVersion() == 2 || config_.http1_trailers) {
    has_trailers_ = true;
    request_trailers_ = std::move(trailers);
    if (up_ != nullptr) up_->sendTrailers(request_trailers_);
  } else if (up_ != nullptr) {
    base::Buffer nothing;
    up_->sendData(nothing, End::kYes);
  }
  requestComplete();
}

/// All of the request is here: its time limit ends, those of the answer begin.
void Exchange::requestComplete() {
  if (done_) return;
  record_.at.request_end = now();
  if (up_ != nullptr) record_.at.upstream_tx_end = now();
  clear(Deadline::kRequest);
  startTimeouts();
}

void Exchange::onWritable() {
  touch();
  if (up_ != nullptr && response_started_) up_->read();
}

void Exchange::readDownstream() {
  if (down_ != nullptr && !request_ended_) down_->read();
}

void Exchange::onReset(http::ResetReason reason) {
  const bool http2 = down_ != nullptr && down_->httpVersion() == 2;
  down_ = nullptr;
  if (reason == http::ResetReason::kProtocol) {
    record_.flags.set(Flag::kDownstreamProtocolError);
    record_.details = http2 ? "http2.violation.of.messaging.rule" : "http1.codec_error";
    if (!response_started_ && !http2) record_.response_code = 400;
    conn_.countProtocolError();
  } else if (http2 && reason == http::ResetReason::kCancel) {
    record_.flags.set(Flag::kDownstreamRemoteReset);
    record_.details = "http2.remote_reset";
    conn_.stats.rq_rx_reset.add();
  } else {
    record_.flags.set(Flag::kDownstreamConnectionTermination);
    record_.details = reason == http::ResetReason::kLocal ? "downstream_local_disconnect"
                                                          : "downstream_remote_disconnect";
  }
  finish();
}

// ---- deadlines ----

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
        record_.flags.set(Flag::kDurationTimeout);
        return requestTimeout("max_duration_timeout");
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
        record_.flags.set(Flag::kDownstreamConnectionTermination);
        return finish();
      case Deadline::kCount:
        return;
    }
  }
}

void Exchange::idleTimeout() {
  conn_.stats.rq_idle_timeout.add();
  record_.flags.set(Flag::kStreamIdleTimeout);
  record_.details = "stream_idle_timeout";
  if (response_started_) return finish();
  reply({.status = request_ended_ ? 504 : 408,
         .body = "stream timeout",
         .flag = std::nullopt,
         .details = "stream_idle_timeout"});
}

void Exchange::requestTimeout(const char* details) {
  record_.details = details;
  if (response_started_) return finish();
  const bool duration = record_.flags.has(Flag::kDurationTimeout);
  reply({.status = duration && request_ended_ ? 504 : 408,
         .body = duration ? "downstream duration timeout" : "request timeout",
         .flag = std::nullopt,
         .details = details,
         .grpc_status = duration ? kGrpcDeadlineExceeded : -1});
}

// ---- the end ----

void Exchange::finish() {
  if (done_) return;
  done_ = true;
  base::ListHook<HttpConnection>::unlink();
  if (waiting_) {
    waiting_ = false;
    conn_.worker.pool().cancel(*this);
    cluster_->stats().upstream_rq_cancelled.add();
  }
  resetUpstream();
  endAttempt();
  if (fault_active_) conn_.stats.faults_active.sub();
  if (tunnel_) conn_.stats.cx_upgrades_active.sub();
  record_.at.response_end = now();
  if (down_ != nullptr && !response_ended_) {
    down_->setObserver(nullptr);
    conn_.stats.rq_tx_reset.add();
    std::exchange(down_, nullptr)->reset(http::ResetReason::kConnectionLost);
  }
  count();
  if (response_started_) record_.response = &response_;
  conn_.worker.log(config_.logs, record_);
  conn_.worker.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
}

void Exchange::count() {
  HttpStats& stats = conn_.stats;
  stats.rq_active.sub();
  if (record_.response_code != 0) stats.completed(record_.response_code);
  const auto took = record_.at.response_end - record_.at.request_begin;
  stats.rq_time.record(std::chrono::duration<double, std::milli>(took).count());
}

}  // namespace postern::proxy
