#include "proxy/http_manager.h"

#include "proxy/connection_log.h"
#include "proxy/exchange.h"
#include "proxy/http_connection.h"

#include <algorithm>
#include <vector>

namespace postern::proxy {

static_assert(sizeof(HttpConnection) <= http::kServerObserverBytes);

namespace {

/// Address::ip() as a part of its Address::toString().
std::string_view ipOf(const net::Address& address, std::string_view text) {
  if (!address.isIp()) return text;
  if (address.family() == AF_INET6) return text.substr(1, text.rfind(']') - 1);
  return text.substr(0, text.rfind(':'));
}

}  // namespace

HttpConnection::HttpConnection(Worker& owner, const HttpManager& manager,
                               stats::HttpStats& statistics, ConnectionFacts given,
                               std::unique_ptr<net::Transport> client)
    : worker(owner),
      config(manager),
      stats(statistics),
      facts(std::move(given)),
      peer(facts.source),
      client_(std::move(client)),
      timer_(owner.loop(), [this] { onTimer(); }),
      started_(owner.loop().now()) {
  local_text = facts.destination.toString();
  peer_text = peer.toString();
  direct_text = facts.direct_source.toString();
  peer_ip = ipOf(peer, peer_text);
  local_ip = ipOf(facts.destination, local_text);
  bypasses_overload_ = facts.listener != nullptr && facts.listener->bypass_overload;
  idle_since_ = started_;
  if (facts.chain != nullptr) chain_name = facts.chain->name;
  thread_local std::uint64_t last_id = 0;
  id = worker.uniqueId(++last_id);
  worker.remember(*this, facts);
  stats.cx_total.add();
  stats.cx_active.add();
}

void HttpConnection::start() {
  if (config.connection_duration_max.count() > 0) {
    ends_at_ = worker.loop().now() + config.connection_duration_max;
    wantDeadline(ends_at_);
  }
  const http::SharedLimits limits(
      std::shared_ptr<const http::ServerLimits>(facts.chain, &config.limits));
  connection_ =
      http::ServerConnection::start(worker.loop(), std::move(client_), config.codec, limits, *this);
}

void HttpConnection::close() { connection_->close(); }

void HttpConnection::drain() {
  if (closing_) return;
  stats.cx_drain_close.add();
  closeSoon();
}

void HttpConnection::reduceTimeouts(const TimerScales& scales, double strength) {
  using Milliseconds = std::chrono::milliseconds;
  const base::MonotonicTime now = worker.loop().now();
  const auto over = [&](const std::optional<TimerScale>& scale, Milliseconds timeout,
                        base::MonotonicTime since) {
    return scale && timeout.count() != 0 && now >= since + scale->apply(timeout, strength);
  };
  if (over(scales.connection_max, config.connection_duration_max, started_)) closeSoon();
  if (exchanges_.empty()) {
    if (over(scales.connection_idle, config.limits.idle_timeout, idle_since_)) closeSoon();
    return;
  }
  std::vector<Exchange*> all;  // an exchange may end, and unlink itself
  for (auto it = exchanges_.begin(); it != exchanges_.end(); ++it) all.push_back(&*it);
  if (!scales.stream_idle) return;
  for (Exchange* each : all) each->reduceIdle(*scales.stream_idle, strength);
}

std::size_t HttpConnection::resetStreams(std::size_t bytes_min, std::size_t most) {
  std::vector<Exchange*> large;
  for (auto it = exchanges_.begin(); it != exchanges_.end() && large.size() < most; ++it) {
    if ((*it).bytesHeld() >= bytes_min) large.push_back(&*it);
  }
  // Ending the only exchange of an HTTP/1 connection may end the connection: touch it no more.
  for (Exchange* each : large) each->resetForOverload();
  return large.size();
}

void HttpConnection::closeSoon() {
  if (closing_) return;
  closing_ = true;
  connection_->drain();
}

http::StreamObserver* HttpConnection::onStream(http::ServerConnection&, http::Stream& stream) {
  if (!counted_protocol_) {
    counted_protocol_ = true;
    http2_ = stream.httpVersion() == 2;
    (http2_ ? stats.cx_http2_total : stats.cx_http1_total).add();
  }
  ++requests_;
  if (config.requests_per_connection_max > 0 && requests_ >= config.requests_per_connection_max &&
      !closing_) {
    stats.cx_max_requests_reached.add();
    closing_ = true;
    connection_->drain();
  }
  return new Exchange(*this, stream);  // destroys itself when finished
}

void HttpConnection::onEvent(http::ServerConnection&, Event event) {
  (event == Event::kIdleTimeout ? stats.cx_idle_timeout : stats.cx_delayed_close_timeout).add();
}

void HttpConnection::countBytes() {
  const net::Transport::Moved& moved = connection_->transport().moved();
  stats.cx_rx_bytes.add(moved.read - counted_.read);
  stats.cx_tx_bytes.add(moved.written - counted_.written);
  counted_ = moved;
}

/// The line of the listener. The protocol is known once bytes came that were not malformed.
void HttpConnection::log() {
  if (facts.listener == nullptr || facts.listener->logs.empty()) return;
  formatter::AccessRecord record = connectionRecord(worker, facts, started_);
  describeEnd(connection_->transport(), record);
  record.bytes_received = counted_.read;
  record.bytes_sent = counted_.written;
  record.connection_id = id;
  if (protocol_error_) record.flags.set(formatter::Flag::kDownstreamProtocolError);
  const bool understood = record.bytes_received > 0 && !(protocol_error_ && requests_ <= 1);
  if (understood) record.protocol = http2_ ? "HTTP/2" : "HTTP/1.1";
  worker.log(facts.listener->logs, record);
}

void HttpConnection::onClosed(http::ServerConnection&) {
  timer_.cancel();
  countBytes();
  log();
  worker.forget(*this);
  worker.pool().downstreamGone(facts);
  stats.cx_active.sub();
  stats.cx_destroy.add();
  stats.cx_length_ms.record(
      std::chrono::duration<double, std::milli>(worker.loop().now() - started_).count());
  worker.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
}

void HttpConnection::wantDeadline(base::MonotonicTime when) {
  if (timer_.armed() && timer_at_ <= when) return;
  timer_at_ = when;
  timer_.arm(std::max(base::Duration{}, base::Duration(when - worker.loop().now())));
}

void HttpConnection::onTimer() {
  const base::MonotonicTime now = worker.loop().now();
  if (now >= ends_at_) {
    ends_at_ = base::MonotonicTime::max();
    stats.cx_max_duration_reached.add();
    if (config.http1_safe_duration && counted_protocol_ && !http2_) {
      closing_ = true;  // told with the next answer
    } else {
      closeSoon();
    }
  }
  std::vector<Exchange*> all;  // an exchange may end, and unlink itself, in its deadline
  for (auto it = exchanges_.begin(); it != exchanges_.end(); ++it) all.push_back(&*it);
  for (Exchange* each : all) each->onDeadline(now);
  base::MonotonicTime next = ends_at_;
  for (auto it = exchanges_.begin(); it != exchanges_.end(); ++it)
    next = std::min(next, (*it).nextDeadline());
  if (next != base::MonotonicTime::max()) wantDeadline(next);
}

void startHttpManager(Worker& worker, const HttpManager& config,
                      std::unique_ptr<net::Transport> client, ConnectionFacts facts) {
  auto* connection =
      new HttpConnection(worker, config, worker.httpStats(config.stat_prefix), std::move(facts),
                         std::move(client));  // destroys itself when closed
  connection->start();
}

}  // namespace postern::proxy
