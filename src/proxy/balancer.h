// Chooses a host: priority by health, then locality where weights ask for it, then round robin,
// least request or random inside. Rebuilt when the hosts change. One worker; knows nothing of
// clusters' names or sockets.
#pragma once

#include "base/random.h"
#include "proxy/cluster.h"

#include <cstdint>
#include <vector>

namespace postern::proxy {

struct BalancerOptions {
  Cluster::Balancer policy = Cluster::Balancer::kRoundRobin;
  std::uint32_t choice_count = 2;
  std::uint32_t panic_percent = 50;
  std::uint32_t overprovisioning_percent = 140;
  bool locality_weighted = false;
};

/// Earliest deadline first: each entry comes up in proportion to its weight, evenly spread.
class WeightedQueue {
 public:
  void add(std::size_t value, double weight);
  bool empty() const { return heap_.empty(); }
  /// The next value; its next turn is 1/weight later.
  std::size_t next();

 private:
  struct Entry {
    double deadline;
    double step;
    std::uint64_t order;
    std::size_t value;
  };
  static bool later(const Entry& a, const Entry& b);
  std::vector<Entry> heap_;
  double now_ = 0;
  std::uint64_t order_ = 0;
};

class Balancer {
 public:
  /// `locality_weights`: of the locality of each host, in the order of `hosts`; 0: not given.
  Balancer(BalancerOptions options, base::Random& random, const std::vector<HostPtr>& hosts,
           const std::vector<std::uint32_t>& locality_weights);
  HostPtr pick();
  /// The last pick ignored health because too few hosts are healthy.
  bool panicked() const { return panicked_; }
  std::size_t healthy() const { return healthy_; }
  std::size_t degraded() const { return degraded_; }

 private:
  /// Hosts that are equal before the policy: of one locality, or of all.
  struct Group {
    std::vector<HostPtr> hosts;
    bool equal_weights = true;
    WeightedQueue queue;  // when weights differ
    std::size_t next = 0;
  };
  struct HostSet {
    std::vector<Group> groups;
    WeightedQueue localities;  // empty: one group
    bool empty() const { return groups.empty(); }
  };
  struct Level {
    HostSet healthy;
    HostSet degraded;
    HostSet all;
    std::uint32_t healthy_load = 0;   // of 100
    std::uint32_t degraded_load = 0;  // of 100
    bool panic = false;
  };
  void add(HostSet& set, const std::vector<std::size_t>& members, const std::vector<HostPtr>& hosts,
           const std::vector<std::uint32_t>& locality_weights);
  void distribute(const std::vector<std::uint32_t>& healthy,
                  const std::vector<std::uint32_t>& degraded);
  HostPtr pickFrom(HostSet& set);
  HostPtr pickFrom(Group& group);
  HostPtr leastRequest(Group& group);

  const BalancerOptions options_;
  base::Random& random_;
  std::vector<Level> levels_;
  std::size_t healthy_ = 0;
  std::size_t degraded_ = 0;
  bool panicked_ = false;
};

}  // namespace postern::proxy
