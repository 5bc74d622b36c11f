// The datagrams of one UDP listener in one worker: each client has a session with a host of a
// cluster, and a socket of its own towards it, until nothing came either way for a while. Sessions
// are bounded by the cluster's limit of connections. Loop thread.
#pragma once

#include "base/fd.h"
#include "event/loop.h"
#include "net/address.h"
#include "proxy/cluster.h"
#include "proxy/config.h"
#include "proxy/stats.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace postern::proxy {

class Worker;

struct UdpStats {
  explicit UdpStats(StatsScope& scope);
  Counter& no_route;
  Counter& rx_bytes;
  Counter& rx_datagrams;
  Counter& rx_errors;
  Counter& total;
  Counter& tx_bytes;
  Counter& tx_datagrams;
  Counter& tx_errors;
  Counter& idle_timeout;
  Gauge& active;
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
  Counter& too_large_;
  std::unordered_map<std::string, std::unique_ptr<Session>> sessions_;
  event::Timer again_;
  event::FdWatch watch_;
};

}  // namespace postern::proxy
