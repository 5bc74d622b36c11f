// The datagrams of one UDP listener in one worker: each client has a session with a host of a
// cluster, and a socket of its own towards it, until nothing came either way for a while. Sessions
// are bounded by the cluster's limit of connections. Loop thread.
#pragma once

#include "base/fd.h"
#include "event/loop.h"
#include "net/address.h"
#include "proxy/cluster.h"
#include "proxy/config.h"
#include "stats/stats.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace postern::proxy {

class Worker;

struct UdpStats {
  explicit UdpStats(stats::Scope& scope);
  stats::Counter& no_route;
  stats::Counter& rx_bytes;
  stats::Counter& rx_datagrams;
  stats::Counter& rx_errors;
  stats::Counter& total;
  stats::Counter& tx_bytes;
  stats::Counter& tx_datagrams;
  stats::Counter& tx_errors;
  stats::Counter& idle_timeout;
  stats::Gauge& active;
};

class UdpListener {
 public:
  UdpListener(Worker& worker, base::Fd socket, std::shared_ptr<const Listener> config);
  ~UdpListener();
  UdpListener(const UdpListener&) = delete;
  UdpListener& operator=(const UdpListener&) = delete;
  const net::Address& local() const { return local_; }

 private:
  class Session;
  friend class Session;
  void receive();
  void take(std::string_view datagram, const net::Address& peer, const net::Address& local);
  /// The session of a client, made if there is none; null: the datagram goes nowhere.
  Session* sessionFor(const net::Address& peer, const net::Address& local);
  Session* find(const std::string& key);
  void end(Session& session);

  Worker& worker_;
  const base::Fd socket_;
  const std::shared_ptr<const Listener> config_;
  const net::Address local_;
  UdpStats stats_;
  stats::Counter& too_large_;
  std::unordered_map<std::string, std::unique_ptr<Session>> sessions_;
  event::Timer again_;
  event::FdWatch watch_;
};

}  // namespace postern::proxy
