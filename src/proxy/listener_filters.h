// A connection from accept until its filter chain is known: runs the listener filters, which look
// at its first bytes (and take a PROXY header away). Owns itself; loop thread. What it holds of the
// peer's bytes is bounded per filter, how long it waits by listener_filters_timeout.
#pragma once

#include "event/loop.h"
#include "proxy/listener_state.h"
#include "proxy/protocol_detection.h"

#include <cstddef>
#include <string>

namespace postern::proxy {

class PendingConnection final : public event::Deferred {
 public:
  PendingConnection(Worker& worker, ListenerState& owner, base::Fd fd, ConnectionFacts facts,
                    Handed handed);
  /// May hand the connection on, or drop it, before it returns.
  void start();
  void drop();

 private:
  enum class Step : unsigned char { kDone, kWait, kDrop, kClosed };
  enum class Arrived : unsigned char { kBytes, kNothing, kEnd, kError };

  /// True while it has to wait for bytes.
  bool run();
  Step apply(ListenerFilter filter);
  Step restoreDestination();
  Step inspectTls();
  Step inspectHttp();
  Step takeProxyHeader();
  Step takeRest();
  Step endProxyHeader(const codec::ProxyRead& read, const codec::ProxyHeader& header);
  stats::Counter& proxyCounter(const codec::ProxyHeader& header, std::string_view name);
  /// Looks at what has arrived without taking it.
  Arrived peek(std::size_t bytes_max);
  void timedOut();
  void proceed();
  void finish();

  Worker& worker_;
  ListenerState& owner_;
  base::Fd fd_;
  ConnectionFacts facts_;
  const base::MonotonicTime started_;
  const Handed handed_;
  std::shared_ptr<ConnectionLimit> limit_;  // of the listener; null: none
  std::size_t next_ = 0;
  std::string bytes_;             // peeked
  std::string taken_;             // of a PROXY header of version 2
  std::size_t header_bytes_ = 0;  // its length, once known
  event::Timer timer_;
  event::FdWatch watch_;
};

}  // namespace postern::proxy
