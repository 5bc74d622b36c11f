#include "proxy/exchange.h"

#include "base/prefetch.h"
#include "base/strings.h"
#include "http/h1_message.h"
#include "http/request_text.h"
#include "proxy/forwarding.h"
#include "proxy/path_normalize.h"

#include <algorithm>
#include <new>

namespace postern::proxy {

namespace {

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

}  // namespace

void* Exchange::operator new(std::size_t size) {
  std::vector<void*>& free = freeExchanges();
  if (free.empty()) return ::operator new(size);
  void* memory = free.back();
  free.pop_back();
  if (!free.empty()) base::prefetch(free.back(), sizeof(Exchange));  // the next one's
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
  if (down.httpVersion() == 2) record_.protocol = "HTTP/2";  // also of a request without headers
  idle_timeout_ = config_.stream_idle_timeout;
}

Exchange::~Exchange() = default;

// ---- the request ----

void Exchange::begin() {
  const int version = down_->httpVersion();
  record_.protocol = version == 2 ? "HTTP/2" : version == 0 ? "HTTP/1.0" : "HTTP/1.1";
  (version == 2 ? conn_.stats.rq_http2_total : conn_.stats.rq_http1_total).add();
}

/// The codec cannot take this request: it is answered and logged like any other. Bodies are the
/// status's own words.
bool Exchange::onRefused(int status, std::string_view details) {
  if (down_ == nullptr || response_started_) return false;
  if (record_.protocol.empty()) begin();
  conn_.stats.rq_rx_reset.add();
  request_ended_ = false;
  const bool slow = status == 408;
  if (slow) {
    conn_.stats.rq_header_timeout.add();
  } else {
    if (down_->httpVersion() != 2) conn_.countProtocolError();  // HTTP/2 says itself what it counts
    record_.flags.set(formatter::Flag::kDownstreamProtocolError);
  }
  reply({.status = status,
         .body = slow ? "request header timeout" : http::reasonPhrase(status),
         .flag = std::nullopt,
         .details = details});
  return true;
}

void Exchange::onHeaders(HeaderMap headers, End end) {
  request_ = std::move(headers);
  request_ended_ = end == End::kYes;
  begin();
  head_ = request_.method() == "HEAD";
  random_ = base::threadRandom().next();
  if (config_.request_timeout.count() > 0 && !request_ended_)
    setDeadline(Deadline::kRequest, config_.request_timeout);
  if (config_.stream_duration_max.count() > 0)
    setDeadline(Deadline::kStream, config_.stream_duration_max);
  touch();
  if (request_ended_) record_.at.request_end = now();
  if (shedRequest() || !checkRequest()) return;
  // The layers above know one form of an upgrade, that of HTTP/1 (RFC 8441 5).
  if (const auto protocol = request_.get(":protocol")) {
    request_.add("upgrade", std::string(*protocol));
    request_.add("connection", "upgrade");
    request_.remove(":protocol");
    request_.set(":method", "GET");
  }
  upgrade_ = upgradeType(request_);
  const bool ignored = std::any_of(
      config_.ignored_upgrades.begin(), config_.ignored_upgrades.end(),
      [&](const StringMatcher& each) { return each.matches(request_.value("upgrade")); });
  if (upgrade_ == "h2c") upgrade_.clear();
  if (ignored && down_->httpVersion() != 2) {
    upgrade_.clear();
    request_.remove("upgrade");
  }
  mutate();
}

/// Answers without looking at the request while there is too much to do.
bool Exchange::shedRequest() {
  if (!conn_.overloaded(OverloadAction::kStopAcceptingRequests)) return false;
  conn_.stats.rq_overload_close.add();
  reply({.status = 503,
         .body = "envoy overloaded",
         .flag = formatter::Flag::kOverloadManager,
         .details = "overload"});
  return true;
}

/// What no route and no filter may see. Answers and returns false.
bool Exchange::checkRequest() {
  if (!checkUnderscores()) return false;
  if (!request_.has(":authority") && down_->httpVersion() == 0 &&
      !config_.default_host_for_http_10.empty()) {
    request_.add(":authority", config_.default_host_for_http_10);
  }
  if (!request_.has(":authority")) {
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

bool Exchange::checkUnderscores() {
  if (config_.underscore_headers == UnderscoreHeaders::kAllow) return true;
  const std::size_t found = applyUnderscores(config_.underscore_headers, request_);
  if (found == 0) return true;
  const bool http2 = down_->httpVersion() == 2;
  stats::Scope& codec = conn_.worker.stats().scope(http2 ? "http2." : "http1.");
  if (config_.underscore_headers == UnderscoreHeaders::kDrop) {
    codec.counter("dropped_headers_with_underscores").add(found);
    return true;
  }
  codec.counter("requests_rejected_with_underscores_in_headers").add();
  request_ = HeaderMap();  // refused as a head that cannot be read
  if (http2) {             // the API promises a reset; the connection and its other streams live on
    record_.flags.set(formatter::Flag::kDownstreamProtocolError);
    record_.details = "http2.unexpected_underscore";
    finish();
    return false;
  }
  conn_.countProtocolError();
  reply({.status = 400,
         .body = "Bad Request",
         .flag = formatter::Flag::kDownstreamProtocolError,
         .details = "http1.unexpected_underscore"});
  return false;
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
      if (http::isGrpc(request_)) {
        request_.set(":path", path);
        return true;
      }
      conn_.stats.rq_redirected_with_normalized_path.add();
      request_.set(":path", path);
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
  if (stripped.size() == host.size()) return;
  // HTTP/2 says every upgrade by CONNECT.
  const bool connect = upgrade_ == "connect" || (!upgrade_.empty() && down_->httpVersion() == 2);
  if (connect && http::withoutPort(stripped).size() == stripped.size())
    connect_port_ = host.substr(http::withoutPort(host).size());
  request_.set(":authority", std::string(stripped));
}

void Exchange::mutate() {
  cleanHost();
  if (!config_.early_mutations.empty()) mutateEarly(config_, record_, request_);
  if (config_.routes != nullptr) {
    table_ = config_.routes.get();
  } else {
    table_kept_ = conn_.worker.routes(config_.rds_name);
    table_ = table_kept_.get();
  }
  const RequestSource source{conn_.peer,
                             conn_.peer_ip,
                             conn_.local_ip,
                             conn_.facts.destination.port(),
                             down_->transport().peer(),
                             conn_.worker.options().service_cluster,
                             conn_.worker.options().service_node,
                             down_->httpVersion() == 2};
  const ForwardingResult result =
      mutateRequest(config_, table_, source, base::threadRandom(), request_);
  if (result.reject_status != 0) {
    conn_.stats.rq_rejected_via_ip_detection.add();
    return reply({.status = result.reject_status,
                  .body = "",
                  .flag = std::nullopt,
                  .details = "rejecting_because_detection_failed"});
  }
  if (result.close && down_->httpVersion() != 2) conn_.closeSoon();
  internal_ = result.internal;
  envoy_headers_ = result.envoy_headers;
  if (!result.trusted_ip.empty()) {
    const auto trusted = net::Address::fromIp(result.trusted_ip, 0);
    if (trusted) record_.downstream_remote = record_.keep(trusted->toString());
  }
  grpc_ = http::isGrpc(request_);
  if (!config_.proxy_100_continue && request_.has("expect") && !request_ended_ &&
      base::equalsIgnoreCase(request_.value("expect"), "100-continue")) {
    request_.remove("expect");
    if (down_->httpVersion() != 0) {
      down_->sendHeaders({{":status", "100"}}, End::kNo);
      conn_.stats.completed(100);
    }
  }
  if (config_.log_interval.count() > 0) setDeadline(Deadline::kLog, config_.log_interval);
  chooseRoute();
}

void Exchange::logNow(std::string_view type) {
  record_.log_type = type;
  if (response_started_) record_.response = &response_;
  conn_.worker.log(config_.logs, record_);
  record_.log_type = {};
}

void Exchange::onData(base::Buffer& data, End end) {
  downPiece(data.size(), end);
  http::Flow flow = http::Flow::kFull;
  if (up_ == nullptr) {
    body_.append(data);
  } else {
    keepBody(data);
    flow = up_->sendData(data, end);
  }
  downSent(flow);
}

/// Asked for only when the body is not kept for another attempt.
void Exchange::onPiped(net::PipedBytes& piece, End end) {
  downPiece(piece.size(), end);
  http::Flow flow = http::Flow::kFull;
  if (up_ == nullptr) {
    piece.copyTo(body_);
  } else {
    flow = up_->sendPiped(piece, end);
  }
  downSent(flow);
}

void Exchange::downPiece(std::size_t bytes, End end) {
  record_.bytes_received += bytes;
  touch();
  if (end == End::kYes) request_ended_ = true;
}

void Exchange::downSent(http::Flow flow) {
  if (flow == http::Flow::kOpen && !request_ended_) readDownstream();
  if (request_ended_ && tunnel_) setDeadline(Deadline::kTunnelEnd, kTunnelEndAfter);
  if (request_ended_) requestComplete();
}

void Exchange::onTrailers(HeaderMap trailers) {
  request_ended_ = true;
  touch();
  has_trailers_ = true;
  request_trailers_ = std::move(trailers);
  if (up_ != nullptr) up_->sendTrailers(request_trailers_);
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
  if (down_ == nullptr || request_ended_) return;
  if (!body_kept_ && up_ != nullptr && up_->takesPipes()) down_->acceptPipes(conn_.worker.pipes());
  down_->read();
}

void Exchange::onReset(http::ResetReason reason) {
  const bool http2 = down_ != nullptr && down_->httpVersion() == 2;
  down_ = nullptr;
  if (reason == http::ResetReason::kProtocol || reason == http::ResetReason::kInvalidField) {
    record_.flags.set(formatter::Flag::kDownstreamProtocolError);
    record_.details = !http2 ? "http1.codec_error"
                      : reason == http::ResetReason::kInvalidField
                          ? "http2.invalid.header.field"
                          : "http2.violation.of.messaging.rule";
    if (!response_started_ && !http2) record_.response_code = 400;
    if (!http2 || !config_.limits.h2.invalid_message_ends_stream) conn_.countProtocolError();
  } else if (http2 && reason == http::ResetReason::kOverflow) {
    record_.flags.set(formatter::Flag::kDownstreamProtocolError);
    record_.details = "http2.header_list_size_too_large";
  } else if (http2 && reason == http::ResetReason::kCancel) {
    record_.flags.set(formatter::Flag::kDownstreamRemoteReset);
    record_.details = "http2.remote_reset";
    conn_.stats.rq_rx_reset.add();
  } else {
    record_.flags.set(formatter::Flag::kDownstreamConnectionTermination);
    record_.details = reason == http::ResetReason::kLocal ? "downstream_local_disconnect"
                                                          : "downstream_remote_disconnect";
  }
  finish();
}

void Exchange::noteClientLeft() {
  record_.flags.set(formatter::Flag::kDownstreamConnectionTermination);
  record_.details = "downstream_remote_disconnect";
}

// ---- the end ----

void Exchange::finish() {
  if (done_) return;
  done_ = true;
  base::ListHook<HttpConnection>::unlink();
  conn_.onExchangeEnd();
  cancelWait();
  resetUpstream();
  endAttempt();
  if (fault_active_) endFault();
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
  stats::HttpStats& stats = conn_.stats;
  stats.rq_active.sub();
  if (record_.response_code != 0) stats.completed(record_.response_code);
  const auto took = record_.at.response_end - record_.at.request_begin;
  stats.rq_time.record(std::chrono::duration<double, std::milli>(took).count());
}

}  // namespace postern::proxy
