#include "control/monitoring.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

http::Request request(const char* path, const char* query = "") {
  http::Request out;
  out.method = "GET";
  out.path = path;
  out.query = query;
  out.remote = net::Address::loopback(1);
  return out;
}

struct MonitoringTest : ::testing::Test {
  MonitoringTest() {
    discovery::SnapshotBuilder builder;
    source.update(builder.build({}));
    auto proxy = source.connected({.id = "sidecar~10.0.0.1~a.default~default.svc.cluster.local"},
                                  xds::Caller{});
    EXPECT_TRUE(proxy);
    source.sent(*proxy, api::kClusterType);
    source.acknowledged(*proxy, api::kClusterType, "no such field");
  }
  discovery::XdsSource source;
};

TEST_F(MonitoringTest, ReadinessFollowsTheFirstSnapshot) {
  EXPECT_EQ(answerMonitoring(request("/ready"), source, false).status, 503);
  EXPECT_EQ(answerMonitoring(request("/ready"), source, true).status, 200);
}

TEST_F(MonitoringTest, ARefusalIsVisible) {
  const auto sync = json::parse(answerMonitoring(request("/debug/syncz"), source, true).body);
  ASSERT_TRUE(sync);
  EXPECT_EQ((*sync)[0]["proxy"], "a.default");
  EXPECT_EQ((*sync)[0]["types"]["cds"]["status"], "ERROR");
  EXPECT_EQ((*sync)[0]["types"]["cds"]["error"], "no such field");
  const std::string text = answerMonitoring(request("/metrics"), source, true).body;
  EXPECT_NE(text.find("pilot_total_xds_rejects{type=\"cds\"} 1\n"), std::string::npos);
  EXPECT_NE(text.find("\npilot_xds 1\n"), std::string::npos);
}

TEST_F(MonitoringTest, DumpsTheConfigurationOfOneProxy) {
  const auto ask = [&](const char* query) {
    return answerMonitoring(request("/debug/config_dump", query), source, true);
  };
  EXPECT_EQ(ask("").status, 400);
  EXPECT_EQ(ask("proxyID=b.default").status, 404);
  const auto dump = json::parse(ask("proxyID=a.default").body);
  ASSERT_TRUE(dump);
  EXPECT_EQ((*dump)["cds"].size(), 3U);  // black hole and the two pass-through clusters
}

TEST_F(MonitoringTest, DebugIsForTheOwnHost) {
  auto from_afar = request("/debug/syncz");
  from_afar.remote = *net::Address::fromIp("10.0.0.9", 1);
  EXPECT_EQ(answerMonitoring(from_afar, source, true).status, 403);
  from_afar.path = "/metrics";
  EXPECT_EQ(answerMonitoring(from_afar, source, true).status, 200);
  auto post = request("/ready");
  post.method = "POST";
  EXPECT_EQ(answerMonitoring(post, source, true).status, 405);
}

}  // namespace
}  // namespace postern::control
