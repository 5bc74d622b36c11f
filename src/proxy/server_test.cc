// The whole proxy against a control plane: taking its configuration, the admin port, draining.
#include "proxy/server_fixture_test.h"

namespace postern::proxy {
namespace {

TEST_P(ServerTest, TakesItsConfigurationByAds) {
  grpc_.reset();
  start();
  EXPECT_EQ(admin("/ready").status, 503);
  EXPECT_EQ(admin("/ready").body, "INITIALIZING\n");
  startControlPlane();
  put("one");
  ASSERT_TRUE(live());
  EXPECT_EQ(source_.node.id, "sidecar~1");
  EXPECT_EQ(admin("/ready").body, "LIVE\n");
  EXPECT_EQ(ask(web(), "/direct").body, "one");
  EXPECT_EQ(ask(web(), "/x").body, "app");
  put("two");
  EXPECT_TRUE(until([&] { return ask(web(), "/direct").body == "two"; }));
  const json dump = json::parse(admin("/config_dump?resource=dynamic_active_clusters").body);
  EXPECT_EQ(dump["configs"].size(), 1U);
  EXPECT_NE(admin("/clusters").body.find("app::127.0.0.1:"), std::string::npos);
  EXPECT_NE(admin("/stats/prometheus")
                .body.find("envoy_cluster_upstream_cx_total{envoy_cluster_name=\"app\"}"),
            std::string::npos);
}

TEST_P(ServerTest, KeepsServingWithoutTheControlPlane) {
  put("one");
  start();
  ASSERT_TRUE(live());
  grpc_.reset();
  EXPECT_EQ(ask(web(), "/direct").body, "one");
  startControlPlane();
  ASSERT_TRUE(until([&] { return source_.connections == 2; }));
  put("two");
  EXPECT_TRUE(until([&] { return ask(web(), "/direct").body == "two"; }));
}

TEST_P(ServerTest, RefusesWithThePathAndKeepsTheOld) {
  put("one");
  start();
  ASSERT_TRUE(live());
  json bad = listener();
  bad["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = "other";
  bad["udp_listener_config"] = json::object();
  bad.erase("udp_listener_config");
  bad["enable_mptcp"] = true;
  source_.put<envoy::config::listener::v3::Listener>(api::kListenerType, "web", bad);
  control_.changed(1);
  ASSERT_TRUE(until([&] { return !source_.last_error.empty(); }));
  EXPECT_EQ(source_.last_error, "web: enable_mptcp: is not supported");
  EXPECT_EQ(ask(web(), "/direct").body, "one");
  EXPECT_EQ(server_->stats().value("listener_manager.lds.update_rejected"), 1);
}

TEST_P(ServerTest, RemovedListenerRefusesConnections) {
  put("one");
  start();
  ASSERT_TRUE(live());
  const net::Address address = web();
  source_.by_type[std::string(api::kListenerType)].clear();
  control_.changed(1);
  ASSERT_TRUE(until([&] { return server_->store().snapshot().listeners.empty(); }));
  EXPECT_TRUE(until([&] { return ask(address, "/direct").status == 0; }));
}

TEST_P(ServerTest, AdminChangesOnlyByPost) {
  put("one");
  start();
  ASSERT_TRUE(live());
  for (const char* path : {"/quitquitquit", "/healthcheck/fail", "/drain_listeners", "/logging"})
    EXPECT_EQ(admin(path).status, 405) << path;
  EXPECT_EQ(admin("/nowhere").status, 404);
  EXPECT_EQ(admin("/healthcheck/fail", "POST").status, 200);
  EXPECT_EQ(admin("/ready").body, "DRAINING\n");
  EXPECT_EQ(admin("/healthcheck/ok", "POST").status, 200);
  EXPECT_EQ(admin("/ready").status, 200);
  EXPECT_EQ(admin("/logging?nobody=debug", "POST").status, 400);
  EXPECT_EQ(admin("/logging?level=info", "POST").status, 200);
  EXPECT_EQ(admin("/stats?filter=%28").status, 400);
  const json stats = json::parse(admin("/stats?format=json&filter=^server.live$").body);
  EXPECT_EQ(stats["stats"][0]["value"], 1);
  EXPECT_EQ(json::parse(admin("/listeners?format=json").body)["listener_statuses"].size(), 1U);
  EXPECT_EQ(json::parse(admin("/server_info").body)["state"], "LIVE");
  for (const char* path : {"/help", "/", "/memory", "/certs", "/clusters?format=json"})
    EXPECT_EQ(admin(path).status, 200) << path;
}

TEST_P(ServerTest, DrainedListenersRefuseConnections) {
  put("one");
  start();
  ASSERT_TRUE(live());
  const net::Address address = web();
  EXPECT_EQ(admin("/drain_listeners?graceful&skip_exit", "POST").status, 200);
  EXPECT_EQ(ask(address, "/direct").status, 200);  // goes on accepting
  EXPECT_EQ(admin("/drain_listeners?inboundonly", "POST").status, 200);
  EXPECT_EQ(ask(address, "/direct").status, 200);  // it is not an inbound one
  EXPECT_EQ(admin("/drain_listeners", "POST").status, 200);
  EXPECT_TRUE(until([&] { return ask(address, "/direct").status == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Variants, ServerTest, ::testing::Values("DELTA_GRPC", "GRPC"),
                         [](const auto& variant) { return std::string(variant.param); });

}  // namespace
}  // namespace postern::proxy
