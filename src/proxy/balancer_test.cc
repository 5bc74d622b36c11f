#include "proxy/balancer.h"

#include <gtest/gtest.h>

#include <map>

namespace postern::proxy {
namespace {

HostPtr host(std::uint16_t port, std::uint32_t weight = 1, std::uint32_t priority = 0,
             Health health = Health::kHealthy, std::string zone = "") {
  auto out = std::make_shared<Host>();
  out->address = net::Address::loopback(port);
  out->weight = weight;
  out->priority = priority;
  out->health = health;
  out->locality.zone = std::move(zone);
  return out;
}

struct Run {
  std::map<std::uint16_t, int> picks;
  int none = 0;
};

Run run(const std::vector<HostPtr>& hosts, BalancerOptions options = {}, int count = 1000,
        std::vector<std::uint32_t> weights = {}) {
  base::Random random(42);
  weights.resize(hosts.size());
  Balancer balancer(options, random, hosts, weights);
  Run out;
  for (int i = 0; i < count; ++i) {
    const HostPtr picked = balancer.pick();
    if (picked == nullptr) {
      ++out.none;
    } else {
      ++out.picks[picked->address.port()];
    }
  }
  return out;
}

TEST(Balancer, RoundRobinIsEven) {
  const auto picks = run({host(1), host(2), host(3), host(4)}).picks;
  for (const auto& [port, count] : picks) EXPECT_EQ(count, 250) << port;
}

TEST(Balancer, WeightsAreProportions) {
  auto picks = run({host(1, 1), host(2, 3)}).picks;
  EXPECT_NEAR(picks[1], 250, 2);
  EXPECT_NEAR(picks[2], 750, 2);
  picks = run({host(1, 1), host(2, 3)}, {Cluster::Balancer::kLeastRequest}).picks;
  EXPECT_NEAR(picks[1], 250, 120);
}

TEST(Balancer, LeastRequestAvoidsTheBusy) {
  const HostPtr busy = host(1);
  busy->rq_active = 100;
  const auto picks = run({busy, host(2), host(3)}, {Cluster::Balancer::kLeastRequest}).picks;
  EXPECT_LT(picks.contains(1) ? picks.at(1) : 0, 200);  // only when both samples are it
}

TEST(Balancer, UnhealthyHostsAreLeftOutUntilPanic) {
  auto picks = run({host(1), host(2), host(3, 1, 0, Health::kUnhealthy)}).picks;
  EXPECT_FALSE(picks.contains(3));
  // One of three: below 50 %, everybody is tried.
  picks =
      run({host(1), host(2, 1, 0, Health::kUnhealthy), host(3, 1, 0, Health::kUnhealthy)}).picks;
  EXPECT_TRUE(picks.contains(3));
  BalancerOptions no_panic;
  no_panic.panic_percent = 0;
  picks =
      run({host(1), host(2, 1, 0, Health::kUnhealthy), host(3, 1, 0, Health::kUnhealthy)}, no_panic)
          .picks;
  EXPECT_EQ(picks[1], 1000);
  EXPECT_EQ(run({host(1, 1, 0, Health::kUnhealthy)}, no_panic).none, 1000);
}

TEST(Balancer, PrioritiesTakeOverByHealth) {
  auto picks = run({host(1), host(2, 1, 1)}).picks;
  EXPECT_EQ(picks[1], 1000);
  // 1 of 2 healthy: 70 % stay, 30 % move on.
  picks = run({host(1), host(2, 1, 0, Health::kUnhealthy), host(3, 1, 1)}, {}, 10000).picks;
  EXPECT_NEAR(picks[1], 7000, 300);
  EXPECT_NEAR(picks[3], 3000, 300);
  // Degraded hosts come after the healthy ones of all priorities.
  picks = run({host(1, 1, 0, Health::kDegraded), host(2, 1, 1)}).picks;
  EXPECT_EQ(picks[2], 1000);
}

TEST(Balancer, LocalitiesByWeight) {
  BalancerOptions options;
  options.locality_weighted = true;
  const auto picks =
      run({host(1, 1, 0, Health::kHealthy, "a"), host(2, 1, 0, Health::kHealthy, "b"),
           host(3, 1, 0, Health::kHealthy, "c")},
          options, 1000, {1, 4, 0})
          .picks;
  EXPECT_NEAR(picks.at(1), 200, 2);
  EXPECT_NEAR(picks.at(2), 800, 2);
  EXPECT_FALSE(picks.contains(3));
}

TEST(Balancer, WithoutWeightsOfLocalitiesAllAreAlike) {
  BalancerOptions options;
  options.locality_weighted = true;
  const auto a = host(1, 1, 0, Health::kHealthy, "a");
  const auto b = host(2, 1, 0, Health::kHealthy, "b");
  EXPECT_EQ(run({a, b}, options).picks, (std::map<std::uint16_t, int>{{1, 500}, {2, 500}}));
  // Of those that have one, nobody is healthy.
  const auto ill = host(3, 1, 0, Health::kUnhealthy, "c");
  const auto picks = run({a, b, ill}, options, 1000, {0, 0, 1}).picks;
  EXPECT_EQ(picks, (std::map<std::uint16_t, int>{{1, 500}, {2, 500}}));
}

TEST(Balancer, InPanicLocalitiesDoNotCount) {
  BalancerOptions options;
  options.locality_weighted = true;
  const auto run_panic =
      run({host(1, 1, 0, Health::kUnhealthy, "a"), host(2, 1, 0, Health::kUnhealthy, "b")}, options,
          1000, {0, 1});
  EXPECT_EQ(run_panic.picks, (std::map<std::uint16_t, int>{{1, 500}, {2, 500}}));
}

TEST(Balancer, WithoutHostsThereIsNone) { EXPECT_EQ(run({}).none, 1000); }

}  // namespace
}  // namespace postern::proxy
