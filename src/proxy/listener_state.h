// A listener in one worker: its sockets, the connections that are still before their first filter,
// and its statistics. Loop thread. Configuration may be replaced while it stays; what was accepted
// before keeps what it was accepted under.
#pragma once

#include "event/loop.h"
#include "net/socket.h"
#include "proxy/bound_sockets.h"
#include "proxy/config.h"
#include "proxy/udp_proxy.h"
#include "stats/stats.h"

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

namespace postern::proxy {

class PendingConnection;
class Worker;

struct ListenerStats {
  explicit ListenerStats(stats::Scope& scope);
  stats::Counter& downstream_cx_total;
  stats::Counter& downstream_cx_destroy;
  stats::Counter& downstream_cx_overflow;
  stats::Counter& downstream_cx_overload_reject;
  stats::Counter& downstream_global_cx_overflow;
  stats::Counter& downstream_pre_cx_timeout;
  stats::Counter& downstream_listener_filter_remote_close;
  stats::Counter& downstream_listener_filter_error;
  stats::Counter& no_filter_chain_match;
  stats::Gauge& downstream_cx_active;
  stats::Gauge& downstream_pre_cx_active;
  stats::Histogram& downstream_cx_length_ms;
};

/// Whether another listener passed a connection on.
enum class Handed : bool { kNo, kYes };

class ListenerState {
 public:
  ListenerState(Worker& worker, ListenerEntry entry);
  ~ListenerState();
  ListenerState(const ListenerState&) = delete;
  ListenerState& operator=(const ListenerState&) = delete;

  void update(ListenerEntry entry);
  /// Also lets go of the sockets: as long as anybody holds them, the kernel takes connections.
  void stopAccepting() {
    acceptors_.clear();
    datagrams_.clear();
    entry_.sockets.reset();
  }
  /// Takes the connections that wait in the kernel.
  void acceptQueued();
  /// Lets connections wait in the kernel, unless the listener bypasses overload.
  void pauseAccepting(bool pause);
  bool accepting() const { return !acceptors_.empty() || !datagrams_.empty(); }
  /// Connections in the listener filters.
  std::size_t pending() const { return pending_.size(); }
  const std::shared_ptr<const Listener>& config() const { return entry_.config; }
  const ListenerEntry& entry() const { return entry_; }
  ListenerStats& stats() { return stats_; }
  /// The bound address; none when it is not bound.
  const net::Address* address() const {
    if (!datagrams_.empty()) return &datagrams_.front()->local();
    return acceptors_.empty() ? nullptr : &acceptors_.front()->local();
  }

  /// Takes a connection, also one that another listener handed over by its original destination.
  void accept(base::Fd fd, ConnectionFacts facts, Handed handed);
  /// After the listener filters: hands over, or starts the first filter.
  void proceed(base::Fd fd, ConnectionFacts facts, Handed handed);
  /// Those in the listener filters tell of themselves.
  void remember(PendingConnection& pending) { pending_.insert(&pending); }
  void forget(PendingConnection& pending) { pending_.erase(&pending); }

 private:
  struct Delayed : event::Deferred {
    base::Fd fd;
    std::unique_ptr<event::Timer> timer;
    ConnectionFacts facts;
    base::MonotonicTime since{};
    base::MonotonicTime until{};
  };
  void open();
  /// Null when the chain's secrets are not there.
  std::unique_ptr<net::Transport> secure(std::unique_ptr<net::Transport> plain,
                                         const FilterChain& chain);
  void showStats();
  bool admit(const ConnectionLimitFilter& limit, ConnectionFacts& facts);
  void refuse(const ConnectionLimitFilter& limit, base::Fd fd, ConnectionFacts facts);
  void closeDelayed();

  Worker& worker_;
  ListenerEntry entry_;
  ListenerStats stats_;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors_;
  std::vector<std::unique_ptr<UdpListener>> datagrams_;  // instead, of a UDP listener
  std::set<PendingConnection*> pending_;
  std::vector<std::unique_ptr<Delayed>> delayed_;  // above a connection limit
};

}  // namespace postern::proxy
