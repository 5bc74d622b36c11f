// One downstream HTTP connection: hands its requests to exchanges and keeps what they share (texts
// of addresses, statistics, one timer for all their deadlines). Owns itself until the connection
// closes; loop thread. Internal to the connection manager.
#pragma once

#include "base/intrusive_list.h"
#include "event/loop.h"
#include "http/server.h"
#include "proxy/connection_facts.h"
#include "proxy/worker.h"
#include "stats/http_stats.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace postern::proxy {

class Exchange;

class HttpConnection final : public http::ServerObserver,
                             public DownstreamConnection,
                             public event::Deferred {
 public:
  HttpConnection(Worker& worker, const HttpManager& config, stats::HttpStats& stats,
                 ConnectionFacts facts, std::unique_ptr<net::Transport> client);
  void start();

  // ---- DownstreamConnection ----
  void close() override;
  void drain() override;
  void reduceTimeouts(const TimerScales& scales, double strength) override;
  std::size_t resetStreams(std::size_t bytes_min, std::size_t most) override;

  // ---- http::ServerObserver ----
  http::StreamObserver* onStream(http::ServerConnection& connection, http::Stream& stream) override;
  http::StreamObserver* onInvalidRequest(http::ServerConnection& connection,
                                         http::Stream& stream) override {
    return onStream(connection, stream);  // counted and logged as a request without headers
  }
  void onProtocol(http::ServerConnection&, http::ServerConnection& now) override {
    connection_ = &now;
  }
  void onEvent(http::ServerConnection& connection, Event event) override;
  void onClosed(http::ServerConnection& connection) override;
  bool onHeldHeaders(std::ptrdiff_t change) override { return worker.holdHeaders(change); }
  void onH2Event(http::H2Event event) override {
    if (event == http::H2Event::kProtocolError) return countProtocolError();
    worker.http2().add(event);
  }

  // ---- for exchanges ----
  void add(Exchange& exchange) { exchanges_.pushBack(exchange); }
  /// Calls Exchange::onDeadline at `when` or a little later. The timer is not moved for a later
  /// deadline, so that a busy connection hardly ever touches it.
  void wantDeadline(base::MonotonicTime when);
  bool closing() const { return closing_; }
  /// The client broke the protocol: counts the connection, once.
  void countProtocolError() {
    if (!std::exchange(protocol_error_, true)) stats.cx_protocol_error.add();
  }
  /// No further request: `connection: close` with the next answer.
  void closeSoon();
  /// Just before the head of an answer: the drain may want it to be the last.
  void onAnswer() {
    if (closing_) return;
    if (overloaded(OverloadAction::kDisableHttpKeepalive)) {
      stats.cx_overload_disable_keepalive.add();
      return closeSoon();
    }
    if (worker.endsWithAnswer(*this)) drain();
  }
  /// Draws whether an action against overload concerns it now.
  bool overloaded(OverloadAction action) {
    return worker.overloaded(action) && !bypasses_overload_;
  }
  /// One of its exchanges is over.
  void onExchangeEnd() {
    idle_since_ = worker.loop().now();
    countBytes();
  }

  Worker& worker;
  const HttpManager& config;  // kept alive by facts.chain
  stats::HttpStats& stats;
  const ConnectionFacts facts;
  std::string local_text;
  std::string peer_text;
  std::string direct_text;  // of the socket: differs after a PROXY header
  const net::Address& peer;
  std::string_view peer_ip;  // of peer_text
  std::string_view local_ip;
  std::string_view chain_name;
  std::uint64_t id = 0;

 private:
  void onTimer();
  void countBytes();
  void log();
  std::unique_ptr<net::Transport> client_;
  http::ServerConnection* connection_ = nullptr;
  base::IntrusiveList<Exchange, HttpConnection> exchanges_;
  event::Timer timer_;
  base::MonotonicTime timer_at_{};
  base::MonotonicTime started_{};
  base::MonotonicTime ends_at_ = base::MonotonicTime::max();
  base::MonotonicTime idle_since_{};
  net::Transport::Moved counted_;  // in the statistics
  std::uint64_t requests_ = 0;
  bool bypasses_overload_ = false;
  bool counted_protocol_ = false;
  bool http2_ = false;
  bool closing_ = false;
  bool protocol_error_ = false;
};

}  // namespace postern::proxy
