// The clusters of one worker: picks hosts round robin and opens connections. Loop thread; all
// addresses of a STRICT_DNS cluster are looked up again every five seconds.
#pragma once

#include "net/resolver.h"
#include "net/socket.h"
#include "proxy/config.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postern::proxy {

class ClusterState {
 public:
  ClusterState(event::Loop& loop, net::Resolver& resolver, const Cluster& config);
  const Cluster& config() const { return config_; }
  /// The next host, or nothing when there is none. `original` is the destination the client had.
  std::optional<net::Address> pick(const std::optional<net::Address>& original);
  std::unique_ptr<net::Transport> connect(const net::Address& to);

 private:
  void lookUp();
  event::Loop& loop_;
  net::Resolver& resolver_;
  const Cluster& config_;
  std::vector<std::vector<net::Address>> addresses_;  // per configured endpoint
  std::vector<std::unique_ptr<net::Resolver::Query>> queries_;
  std::size_t next_ = 0;
  event::Timer refresh_;
};

class ClusterManager {
 public:
  ClusterManager(event::Loop& loop, const Config& config);
  ClusterState* find(const std::string& name);
  /// One of the weighted clusters, by chance.
  const std::string& choose(const std::vector<WeightedCluster>& clusters);

 private:
  std::unique_ptr<net::Resolver> resolver_;
  std::map<std::string, std::unique_ptr<ClusterState>, std::less<>> clusters_;
};

}  // namespace postern::proxy
