// A listener in one worker: its sockets, the connections that are still before their first filter,
// and its statistics. Loop thread. Configuration may be replaced while it stays; what was accepted
// before keeps what it was accepted under.
#pragma once

#include "event/loop.h"
#include "net/socket.h"
#include "proxy/config.h"
#include "proxy/stats.h"
#include "proxy/udp_proxy.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

namespace postern::proxy {

class PendingConnection;
class Worker;

/// The listening sockets of one address: one per worker where the kernel spreads connections over
/// them (SO_REUSEPORT), else one for all. Made on the main thread, so that a port that is taken is
/// an error of the configuration; shared by the versions of a listener, so that no connection is
/// refused while they change.
class BoundSockets {
 public:
  static base::ConfigResult<std::shared_ptr<const BoundSockets>> bind(const Listener& listener,
                                                                      std::uint32_t workers);
  /// Begins to listen; harmless again, and without effect after stop().
  base::Result<void> listen(int backlog) const;
  /// Refuses connections from now on, whoever still holds the sockets.
  void stop() const;
  /// With the port the kernel chose.
  const net::Address& address() const { return address_; }
  /// As the configuration has it, perhaps with port 0.
  const net::Address& requested() const { return requested_; }
  /// True when `listener` asks for what these are.
  bool fit(const Listener& listener) const;
  /// A descriptor of one's own.
  base::Result<base::Fd> take(std::uint32_t worker) const;

 private:
  net::Address requested_;
  bool reuse_port_ = false;
  bool datagrams_ = false;
  std::vector<net::SocketOption> options_;
  net::Address address_;
  std::vector<base::Fd> sockets_;
  mutable std::atomic<bool> stopped_{false};
};

struct ListenerStats {
  explicit ListenerStats(StatsScope& scope);
  Counter& downstream_cx_total;
  Counter& downstream_cx_destroy;
  Counter& downstream_cx_overflow;
  Counter& downstream_global_cx_overflow;
  Counter& downstream_pre_cx_timeout;
  Counter& downstream_listener_filter_remote_close;
  Counter& downstream_listener_filter_error;
  Counter& no_filter_chain_match;
  Gauge& downstream_cx_active;
  Gauge& downstream_pre_cx_active;
  Histogram& downstream_cx_length_ms;
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
    acceptor_.reset();
    datagrams_.reset();
    entry_.sockets.reset();
  }
  bool accepting() const { return acceptor_ != nullptr || datagrams_ != nullptr; }
  const std::shared_ptr<const Listener>& config() const { return entry_.config; }
  const ListenerEntry& entry() const { return entry_; }
  ListenerStats& stats() { return stats_; }
  /// The bound address; none when it is not bound.
  const net::Address* address() const {
    if (datagrams_ != nullptr) return &datagrams_->local();
    return acceptor_ != nullptr ? &acceptor_->local() : nullptr;
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
    base::MonotonicTime until{};
  };
  void open();
  /// Null when the chain's secrets are not there.
  std::unique_ptr<net::Transport> secure(std::unique_ptr<net::Transport> plain,
                                         const FilterChain& chain);
  void showStats();
  bool admit(const ConnectionLimitFilter& limit, ConnectionFacts& facts);
  void refuse(const ConnectionLimitFilter& limit, base::Fd fd);
  void closeDelayed();

  Worker& worker_;
  ListenerEntry entry_;
  ListenerStats stats_;
  std::unique_ptr<net::Acceptor> acceptor_;
  std::unique_ptr<UdpListener> datagrams_;  // instead, of a UDP listener
  std::set<PendingConnection*> pending_;
  std::vector<std::unique_ptr<Delayed>> delayed_;  // above a connection limit
};

}  // namespace postern::proxy
