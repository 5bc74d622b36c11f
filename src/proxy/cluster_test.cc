// Clusters of a worker that come and go.
#include "proxy/cluster.h"

#include <gtest/gtest.h>

#include <chrono>

namespace postern::proxy {
namespace {

class ClusterManagerTest : public ::testing::Test {
 protected:
  static void add(Snapshot& snapshot, const std::string& name, const std::string& observed = "") {
    auto config = std::make_shared<Cluster>();
    config->name = name;
    config->observed_name = observed;
    config->stat_name = observed.empty() ? name : observed;
    config->assignment.localities.emplace_back();
    Endpoint endpoint;
    endpoint.address = net::Address::fromIp("127.0.0.1", 9);
    config->assignment.localities.back().endpoints.push_back(endpoint);
    snapshot.clusters[name] = {config, nullptr, std::make_shared<ClusterUse>()};
  }
  std::size_t told() {
    std::size_t out = 0;
    for (const auto& [name, value] : stats_.read()) out += name.starts_with("cluster.");
    return out;
  }
  /// Turns the loop until removed clusters were looked at once more.
  bool forgotten() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (manager_.retired() > 0 && std::chrono::steady_clock::now() < end)
      loop_.runOnce(std::chrono::milliseconds(50));
    return manager_.retired() == 0;
  }

  event::Loop loop_;
  stats::Stats stats_;
  stats::Store& store_ = stats_.makeStore();
  ClusterManager manager_{loop_, store_};
};

TEST_F(ClusterManagerTest, ClustersThatCameAndWentLeaveNothing) {
  Snapshot one;
  add(one, "stays");
  manager_.update(one);
  const std::size_t names = told();
  const std::size_t scopes = store_.scopes();
  for (int i = 0; i < 1000; ++i) {
    Snapshot two;
    add(two, "stays");
    add(two, "c" + std::to_string(i));
    manager_.update(two);
    ASSERT_EQ(told(), 2 * names) << i;
    ASSERT_EQ(store_.scopes(), 2 * scopes) << i;
  }
  manager_.update(one);
  EXPECT_EQ(manager_.retired(), 0u);
  EXPECT_EQ(told(), names);
  EXPECT_EQ(store_.scopes(), scopes);
}

TEST_F(ClusterManagerTest, AClusterThatIsUsedStaysUntilItIsNot) {
  Snapshot with;
  add(with, "app");
  manager_.update(with);
  ClusterPtr used = manager_.find("app");
  used->stats().upstream_rq_total.add(3);
  auto ticket = std::make_unique<UpstreamTicket>(used, used->pick());
  manager_.update({});
  EXPECT_EQ(manager_.find("app"), nullptr);
  EXPECT_EQ(manager_.retired(), 1u);
  EXPECT_EQ(told(), 0u);
  EXPECT_EQ(used->pick(), nullptr);
  manager_.update(with);  // it goes on
  EXPECT_EQ(manager_.find("app"), used);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_total"), 3);
  manager_.update({});
  used.reset();
  for (int i = 0; i < 30; ++i) loop_.runOnce(std::chrono::milliseconds(50));
  EXPECT_EQ(manager_.retired(), 1u);  // the ticket's
  ticket.reset();
  EXPECT_TRUE(forgotten());
  EXPECT_EQ(store_.scopes(), 0u);
  manager_.update(with);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_total"), 0);
}

TEST_F(ClusterManagerTest, TwoThatCountUnderOneNameDoNotEndEachOther) {
  Snapshot both;
  add(both, "a", "same");
  add(both, "b", "same");
  add(both, "c", "same.ssl");  // the scope of the other's TLS
  manager_.update(both);
  store_.scope("cluster.same.ssl.").counter("upstream_rq_total").add();
  Snapshot one;
  add(one, "b", "same");
  add(one, "c", "same.ssl");
  manager_.update(one);
  manager_.find("b")->stats().upstream_rq_total.add();
  EXPECT_EQ(stats_.value("cluster.same.upstream_rq_total"), 1);
  Snapshot last;
  add(last, "c", "same.ssl");
  manager_.update(last);
  manager_.find("c")->stats().upstream_rq_total.add();
  EXPECT_EQ(stats_.value("cluster.same.ssl.upstream_rq_total"), 2);
  EXPECT_EQ(stats_.read().count("cluster.same.upstream_rq_total"), 0u);
}

TEST_F(ClusterManagerTest, AnotherNameInTheStatisticsCountsAnew) {
  Snapshot before;
  add(before, "app", "old");
  manager_.update(before);
  manager_.find("app")->stats().upstream_rq_total.add();
  Snapshot after;
  add(after, "app", "new");
  manager_.update(after);
  manager_.find("app")->stats().upstream_rq_total.add(2);
  EXPECT_EQ(stats_.value("cluster.new.upstream_rq_total"), 2);
  EXPECT_EQ(stats_.read().count("cluster.old.upstream_rq_total"), 0u);
  EXPECT_EQ(manager_.find("app")->observedName(), "new");
}

}  // namespace
}  // namespace postern::proxy
