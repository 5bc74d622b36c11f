// Idle HTTP/1 connections of one worker by cluster and host, taken last in, first out so that
// unused ones grow old. Loop thread.
#pragma once

#include "http/client.h"
#include "proxy/cluster.h"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace postern::proxy {

class UpstreamPool {
 public:
  class Waiter {
   public:
    virtual ~Waiter() = default;
    virtual void onReady(http::ClientConnection& connection) = 0;
    virtual void onFailed(base::Error error) = 0;
  };
  class Connection;

  explicit UpstreamPool(event::Loop& loop) : loop_(loop) {}
  ~UpstreamPool();
  /// Tells the waiter once, perhaps before returning.
  void acquire(ClusterState& cluster, const HostPtr& host, Waiter& waiter);
  void cancel(Waiter& waiter);

 private:
  friend class Connection;
  event::Loop& loop_;
  std::map<std::string, std::vector<Connection*>> idle_;
  std::set<Connection*> all_;
};

}  // namespace postern::proxy
