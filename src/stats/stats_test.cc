#include "stats/stats.h"

#include <gtest/gtest.h>

namespace postern::stats {
namespace {

TEST(Stats, AddsUpTheStores) {
  Stats stats;
  Store& one = stats.makeStore();
  Store& two = stats.makeStore();
  one.scope("cluster.a.").counter("upstream_rq_total").add(2);
  two.scope("cluster.a.").counter("upstream_rq_total").add();
  one.scope("cluster.a.").gauge("upstream_cx_active").add(5);
  two.scope("cluster.a.").gauge("upstream_cx_active").sub(2);
  EXPECT_EQ(stats.value("cluster.a.upstream_rq_total"), 3);
  EXPECT_EQ(stats.value("cluster.a.upstream_cx_active"), 3);
  EXPECT_EQ(stats.value("cluster.b.upstream_rq_total"), 0);
}

TEST(Stats, TellsWhatWasNeverWritten) {
  Stats stats;
  Scope& scope = stats.makeStore().scope("x.");
  scope.counter("idle");
  scope.gauge("zero").set(0);
  EXPECT_FALSE(stats.read()["x.idle"].used);
  EXPECT_TRUE(stats.read()["x.zero"].used);
}

TEST(Stats, HidesAScopeAndShowsItAgain) {
  Stats stats;
  Store& store = stats.makeStore();
  Counter& counter = store.scope("cluster.a.").counter("n");
  store.hide("cluster.a.");
  counter.add();
  EXPECT_TRUE(stats.read().empty());
  EXPECT_EQ(&store.scope("cluster.a.").counter("n"), &counter);
  EXPECT_EQ(stats.value("cluster.a.n"), 1);
}

TEST(Stats, HistogramsHaveEnvoysBuckets) {
  Stats stats;
  Histogram& one = stats.makeStore().scope("h.").histogram("time");
  Histogram& two = stats.makeStore().scope("h.").histogram("time");
  one.record(0.5);
  one.record(1e9);
  two.record(7);
  const auto values = stats.read()["h.time"].histogram;
  EXPECT_EQ(values.count, 3U);
  EXPECT_EQ(values.buckets[0], 1U);
  EXPECT_EQ(values.buckets[3], 1U);  // 5 < 7 <= 10
  EXPECT_EQ(values.buckets.back(), 1U);
  EXPECT_GT(values.quantile(0.5), 5);
  EXPECT_LE(values.quantile(0.5), 10);
}

}  // namespace
}  // namespace postern::stats
