// One thread of the proxy: its loop, clusters, logs and listeners. Workers share only the
// immutable configuration.
#pragma once

#include "event/loop.h"
#include "proxy/access_log.h"
#include "proxy/cluster.h"
#include "proxy/config.h"
#include "proxy/route_match.h"
#include "proxy/upstream_pool.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace postern::proxy {

/// A downstream connection, known to its worker until it is over.
class DownstreamConnection {
 public:
  virtual ~DownstreamConnection() = default;
  /// Ends it now; it forgets itself at the worker before this returns.
  virtual void close() = 0;
};

class Worker {
 public:
  Worker(event::Loop& loop, std::shared_ptr<const Config> config);
  /// Closes the connections that are left.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  /// Binds the listeners; the error names the listener.
  base::ConfigResult<void> start();
  /// Stops accepting; connections go on.
  void stopListening() { acceptors_.clear(); }
  std::vector<net::Address> addresses() const;

  event::Loop& loop() { return loop_; }
  ClusterManager& clusters() { return clusters_; }
  UpstreamPool& pool() { return pool_; }
  void log(const std::vector<AccessLogConfig>& logs, const AccessRecord& record) {
    log_writer_.log(logs, record);
  }
  void remember(DownstreamConnection& connection) { connections_.insert(&connection); }
  void forget(DownstreamConnection& connection) { connections_.erase(&connection); }
  std::size_t connections() const { return connections_.size(); }

 private:
  void accept(const Listener& listener, base::Fd fd, const net::Address& peer);
  const Listener& redirect(const Listener& listener, const net::Address& destination) const;

  event::Loop& loop_;
  std::shared_ptr<const Config> config_;
  ClusterManager clusters_;
  UpstreamPool pool_;
  AccessLogWriter log_writer_;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors_;
  std::set<DownstreamConnection*> connections_;
};

}  // namespace postern::proxy
