#include "stats/carry.h"

#include <gtest/gtest.h>

namespace postern::stats {
namespace {

TEST(StatsCarry, AddsCountersAndSomeGauges) {
  Stats old;
  Scope& scope = old.makeStore().scope("http.web.");
  scope.counter("downstream_rq_total").add(5);
  scope.gauge("downstream_cx_active").set(2);
  scope.gauge("other").set(9);
  scope.histogram("downstream_rq_time").record(1);
  const std::string text = encodeStats(old.read());
  EXPECT_EQ(text, "g 2 http.web.downstream_cx_active\nc 5 http.web.downstream_rq_total\n");

  Stats next;
  Scope& own = next.makeStore().scope("http.web.");
  own.counter("downstream_rq_total").add(3);
  own.gauge("downstream_cx_active").set(1);
  next.setInherited(decodeStats(text));
  EXPECT_EQ(next.value("http.web.downstream_rq_total"), 8);
  EXPECT_EQ(next.value("http.web.downstream_cx_active"), 3);
  next.endInheritedGauges();
  EXPECT_EQ(next.value("http.web.downstream_rq_total"), 8);
  EXPECT_EQ(next.value("http.web.downstream_cx_active"), 1);
  next.resetInheritedCounters();
  own.counter("downstream_rq_total").reset();
  EXPECT_EQ(next.value("http.web.downstream_rq_total"), 0);
}

TEST(StatsCarry, LeavesOutNonsense) {
  EXPECT_TRUE(decodeStats("").empty());
  EXPECT_TRUE(
      decodeStats("c\nc \nc 1\nc x name\nh 1 name\nc 99999999999999999999 name\nc 1 \n").empty());
  EXPECT_EQ(decodeStats("c 1 a b").at("a b").number, 1);
  EXPECT_EQ(decodeStats("c 1 " + std::string(2000, 'x')).size(), 0U);
}

TEST(StatsCarry, WhatDescribesAProcessDoesNotAddUp) {
  EXPECT_TRUE(addsUp("cluster.a.upstream_rq_pending_active"));
  EXPECT_TRUE(addsUp("server.memory_allocated"));
  EXPECT_FALSE(addsUp("server.uptime"));
  EXPECT_FALSE(addsUp("listener_manager.total_listeners_active"));
}

}  // namespace
}  // namespace postern::stats
