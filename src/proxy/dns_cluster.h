// The names of a STRICT_DNS or LOGICAL_DNS cluster, looked up again and again. One per cluster, on
// the main thread; workers get the addresses as an assignment.
#pragma once

#include "base/function.h"
#include "base/random.h"
#include "event/loop.h"
#include "net/resolver.h"
#include "proxy/config.h"
#include "stats/stats.h"

#include <memory>
#include <string>
#include <vector>

namespace postern::proxy {

class DnsCluster {
 public:
  /// `changed` is called when every name was answered (or failed) once, and whenever addresses
  /// changed after that.
  DnsCluster(event::Loop& loop, net::Resolver& resolver, base::Random& random, stats::Store& stats,
             std::shared_ptr<const Cluster> config, base::Function<void()> changed);
  ~DnsCluster();
  DnsCluster(const DnsCluster&) = delete;
  DnsCluster& operator=(const DnsCluster&) = delete;
  const std::shared_ptr<const Cluster>& config() const { return config_; }
  /// The endpoints with their addresses; null until every name was answered once.
  std::shared_ptr<const LoadAssignment> assignment() const { return assignment_; }

 private:
  struct Name;
  void lookUp(Name& name);
  void answered(Name& name, base::Result<net::DnsAnswer> answer);
  void publish();

  net::Resolver& resolver_;
  base::Random& random_;
  const std::shared_ptr<const Cluster> config_;
  stats::Scope& stats_;
  base::Function<void()> changed_;
  std::vector<std::unique_ptr<Name>> names_;  // in the order of the endpoints that have one
  std::size_t unanswered_ = 0;
  std::shared_ptr<const LoadAssignment> assignment_;
};

}  // namespace postern::proxy
