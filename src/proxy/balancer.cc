#include "proxy/balancer.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

namespace postern::proxy {

// ---- WeightedQueue ----

bool WeightedQueue::later(const Entry& a, const Entry& b) {
  return std::tie(a.deadline, a.order) > std::tie(b.deadline, b.order);
}

void WeightedQueue::add(std::size_t value, double weight) {
  const double step = 1.0 / weight;
  heap_.push_back({now_ + step, step, order_++, value});
  std::push_heap(heap_.begin(), heap_.end(), later);
}

std::size_t WeightedQueue::next() {
  std::pop_heap(heap_.begin(), heap_.end(), later);
  Entry& entry = heap_.back();
  const std::size_t value = entry.value;
  now_ = entry.deadline;
  entry.deadline += entry.step;
  entry.order = order_++;
  std::push_heap(heap_.begin(), heap_.end(), later);
  return value;
}

// ---- Balancer ----

Balancer::Balancer(BalancerOptions options, base::Random& random, const std::vector<HostPtr>& hosts,
                   const std::vector<std::uint32_t>& locality_weights)
    : options_(options), random_(random) {
  std::uint32_t levels = 0;
  for (const HostPtr& host : hosts) levels = std::max(levels, host->priority + 1);
  levels_.resize(levels);
  std::vector<std::uint32_t> healthy_share(levels);
  std::vector<std::uint32_t> degraded_share(levels);
  for (std::uint32_t level = 0; level < levels; ++level) {
    std::vector<std::size_t> healthy;
    std::vector<std::size_t> degraded;
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < hosts.size(); ++i) {
      if (hosts[i]->priority != level) continue;
      all.push_back(i);
      if (hosts[i]->health == Health::kHealthy) healthy.push_back(i);
      if (hosts[i]->health == Health::kDegraded) degraded.push_back(i);
    }
    healthy_ += healthy.size();
    degraded_ += degraded.size();
    if (all.empty()) continue;
    const auto share = [&](std::size_t count) {
      return static_cast<std::uint32_t>(
          std::min<std::size_t>(100, options_.overprovisioning_percent * count / all.size()));
    };
    healthy_share[level] = share(healthy.size());
    degraded_share[level] = std::min(share(degraded.size()), 100 - healthy_share[level]);
    add(levels_[level].healthy, healthy, hosts, locality_weights);
    add(levels_[level].degraded, degraded, hosts, locality_weights);
    add(levels_[level].all, all, hosts, {});  // in panic a host is a host
    const std::size_t available = (healthy.size() + degraded.size()) * 100;
    levels_[level].panic = available < options_.panic_percent * all.size();
  }
  distribute(healthy_share, degraded_share);
}

void Balancer::add(HostSet& set, const std::vector<std::size_t>& members,
                   const std::vector<HostPtr>& hosts,
                   const std::vector<std::uint32_t>& locality_weights) {
  using Key = std::tuple<std::string, std::string, std::string>;
  std::map<Key, std::size_t> index;
  std::vector<std::uint32_t> weights;
  // If no locality of theirs has a weight, they are all alike.
  const bool weighted = options_.locality_weighted && !locality_weights.empty() &&
                        std::any_of(members.begin(), members.end(),
                                    [&](const std::size_t i) { return locality_weights[i] != 0; });
  for (const std::size_t i : members) {
    const HostPtr& host = hosts[i];
    Key key;
    if (weighted) {
      if (locality_weights[i] == 0) continue;  // a locality without a weight gets nothing
      key = {host->locality.region, host->locality.zone, host->locality.sub_zone};
    }
    const auto [at, added] = index.try_emplace(key, set.groups.size());
    if (added) {
      set.groups.emplace_back();
      weights.push_back(weighted ? locality_weights[i] : 1);
    }
    set.groups[at->second].hosts.push_back(host);
  }
  for (std::size_t g = 0; g < set.groups.size(); ++g) {
    Group& group = set.groups[g];
    group.equal_weights = std::all_of(
        group.hosts.begin(), group.hosts.end(),
        [&](const HostPtr& host) { return host->weight == group.hosts.front()->weight; });
    // Workers that start at the same host would load it together.
    group.next = random_.below(group.hosts.size());
    if (!group.equal_weights) {
      for (std::size_t i = 0; i < group.hosts.size(); ++i) {
        group.queue.add(i, std::max<std::uint32_t>(1, group.hosts[i]->weight));
      }
      for (std::uint64_t skip = random_.below(group.hosts.size()); skip > 0; --skip) {
        group.queue.next();
      }
    }
    if (!weighted) continue;
    const auto total = std::count_if(hosts.begin(), hosts.end(), [&](const HostPtr& host) {
      return host->priority == group.hosts.front()->priority &&
             host->locality == group.hosts.front()->locality;
    });
    const double available =
        std::min(100.0, static_cast<double>(options_.overprovisioning_percent) *
                            static_cast<double>(group.hosts.size()) / static_cast<double>(total));
    set.localities.add(g, weights[g] * available);
  }
}

void Balancer::distribute(const std::vector<std::uint32_t>& healthy,
                          const std::vector<std::uint32_t>& degraded) {
  const std::uint32_t sum = std::accumulate(healthy.begin(), healthy.end(), 0U) +
                            std::accumulate(degraded.begin(), degraded.end(), 0U);
  const std::uint32_t total = std::min(100U, sum);
  // With enough healthy hosts over all levels no level needs the unhealthy ones.
  if (total == 100) {
    for (Level& level : levels_) level.panic = false;
  }
  if (levels_.empty()) return;
  if (total == 0) {
    // Nothing is available anywhere: by the number of hosts if panic allows it, else the first.
    std::size_t hosts = 0;
    std::vector<std::size_t> counts;
    for (Level& level : levels_) {
      std::size_t count = 0;
      for (const Group& group : level.all.groups) count += group.hosts.size();
      counts.push_back(count);
      hosts += count;
    }
    std::uint32_t left = 100;
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      const bool last = i + 1 == levels_.size();
      const auto load =
          last ? left : static_cast<std::uint32_t>(hosts == 0 ? 0 : 100 * counts[i] / hosts);
      levels_[i].healthy_load = load;
      left -= load;
    }
    return;
  }
  std::uint32_t left = 100;
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    levels_[i].healthy_load = std::min(left, healthy[i] * 100 / total);
    left -= levels_[i].healthy_load;
  }
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    levels_[i].degraded_load = std::min(left, degraded[i] * 100 / total);
    left -= levels_[i].degraded_load;
  }
  for (std::size_t i = 0; i < levels_.size() && left > 0; ++i) {  // the rest of rounding
    if (healthy[i] == 0 && degraded[i] == 0) continue;
    (healthy[i] != 0 ? levels_[i].healthy_load : levels_[i].degraded_load) += left;
    left = 0;
  }
}

HostPtr Balancer::pick() {
  panicked_ = false;
  std::uint64_t at = random_.below(100);
  for (Level& level : levels_) {
    if (at < level.healthy_load) {
      panicked_ = level.panic;
      return pickFrom(level.panic ? level.all : level.healthy);
    }
    at -= level.healthy_load;
  }
  for (Level& level : levels_) {
    if (at < level.degraded_load) {
      panicked_ = level.panic;
      return pickFrom(level.panic ? level.all : level.degraded);
    }
    at -= level.degraded_load;
  }
  return nullptr;
}

HostPtr Balancer::pickFrom(HostSet& set) {
  if (set.empty()) return nullptr;
  return pickFrom(set.localities.empty() ? set.groups.front() : set.groups[set.localities.next()]);
}

HostPtr Balancer::pickFrom(Group& group) {
  switch (options_.policy) {
    case Cluster::Balancer::kRandom:
      return group.hosts[random_.below(group.hosts.size())];
    case Cluster::Balancer::kLeastRequest:
      return leastRequest(group);
    case Cluster::Balancer::kRoundRobin:
    case Cluster::Balancer::kProvided:
      break;
  }
  if (!group.equal_weights) return group.hosts[group.queue.next()];
  group.next = (group.next + 1) % group.hosts.size();
  return group.hosts[group.next];
}

/// The best of a few samples. With unequal weights a sample is drawn by weight and compared by load
/// per weight, which needs no queue whose weights change with every request; idle hosts tie, and
/// the first drawn wins.
HostPtr Balancer::leastRequest(Group& group) {
  const HostPtr* best = nullptr;
  double best_load = 0;
  for (std::uint32_t i = 0; i < options_.choice_count; ++i) {
    const std::size_t at =
        group.equal_weights ? random_.below(group.hosts.size()) : group.queue.next();
    const HostPtr& host = group.hosts[at];
    const double load =
        static_cast<double>(host->rq_active) / std::max<std::uint32_t>(1, host->weight);
    if (best == nullptr || load < best_load) {
      best = &host;
      best_load = load;
    }
  }
  return best == nullptr ? nullptr : *best;
}

}  // namespace postern::proxy
