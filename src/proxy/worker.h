// One thread of the proxy: its loop, clusters, logs and listeners. Workers share only the
// immutable configuration.
#pragma once

#include "event/loop.h"
#include "proxy/access_log.h"
#include "proxy/cluster.h"
#include "proxy/config.h"
#include "proxy/route_match.h"
#include "proxy/upstream_pool.h"

#include <memory>
#include <vector>

namespace postern::proxy {

class Worker {
 public:
  Worker(event::Loop& loop, std::shared_ptr<const Config> config);
  /// Binds the listeners; the error names the listener.
  base::ConfigResult<void> start();
  /// Stops accepting; connections go on.
  void stopListening() { acceptors_.clear(); }
  std::vector<net::Address> addresses() const;

  event::Loop& loop() { return loop_; }
  ClusterManager& clusters() { return clusters_; }
  UpstreamPool& pool() { return pool_; }
  void log(const std::vector<AccessLogConfig>& logs, const AccessRecord& record);
  std::size_t connections = 0;

 private:
  void accept(const Listener& listener, base::Fd fd, const net::Address& peer);
  const Listener& redirect(const Listener& listener, const net::Address& destination) const;

  event::Loop& loop_;
  std::shared_ptr<const Config> config_;
  ClusterManager clusters_;
  UpstreamPool pool_;
  AccessLogWriter log_writer_;
  std::map<std::string, LogFormat> formats_;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors_;
};

}  // namespace postern::proxy
