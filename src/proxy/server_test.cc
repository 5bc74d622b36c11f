// The whole proxy against a control plane over real sockets: ADS in both variants, the admin port,
// draining.
#include "proxy/server.h"

#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "http/client.h"
#include "proxy/server_fixture_test.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace postern::proxy {
namespace {

class ServerTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("postern_server_test_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    startControlPlane();
    auto socket = net::listenSocket(net::Address::loopback(0));
    ASSERT_TRUE(socket);
    app_port_ = net::localAddress(socket->get()).port();
    app_ = http::Server::make(loop_, {},
                              [](http::Request, std::unique_ptr<http::Responder> responder) {
                                responder->respond(200, {}, "app");
                              });
    app_->listen(std::move(*socket));
  }
  void TearDown() override {
    server_.reset();
    grpc_.reset();
    std::filesystem::remove_all(folder_);
  }

  void startControlPlane() {
    grpc_ = http::GrpcServer::make(loop_, {});
    control_.registerAt(*grpc_);
    auto socket = net::listenSocket(net::Address::unixPath((folder_ / "xds").string()));
    ASSERT_TRUE(socket);
    grpc_->listen(std::move(*socket));
  }

  void put(const std::string& body, const std::string& cluster = "app") {
    source_.put<envoy::config::cluster::v3::Cluster>(
        api::kClusterType, cluster,
        {{"name", cluster}, {"type", "EDS"}, {"eds_cluster_config", {{"eds_config", ads()}}}});
    json endpoint = {{"endpoint", {{"address", socketAddress(app_port_)}}}};
    source_.put<envoy::config::endpoint::v3::ClusterLoadAssignment>(
        api::kEndpointType, cluster,
        {{"cluster_name", cluster}, {"endpoints", {{{"lb_endpoints", {endpoint}}}}}});
    source_.put<envoy::config::listener::v3::Listener>(api::kListenerType, "web", listener());
    json direct = {{"match", {{"path", "/direct"}}},
                   {"direct_response", {{"status", 200}, {"body", {{"inline_string", body}}}}}};
    json forward = {{"match", {{"prefix", "/"}}}, {"route", {{"cluster", cluster}}}};
    json host = {{"name", "v"}, {"domains", {"*"}}, {"routes", {direct, forward}}};
    source_.put<envoy::config::route::v3::RouteConfiguration>(
        api::kRouteType, "r", {{"name", "r"}, {"virtual_hosts", {host}}});
    control_.changed(1);
  }

  static json listener() {
    const std::string prefix = "type.googleapis.com/envoy.extensions.filters.";
    json router = {{"name", "router"},
                   {"typed_config", {{"@type", prefix + "http.router.v3.Router"}}}};
    json manager = {{"@type", prefix + "network.http_connection_manager.v3.HttpConnectionManager"},
                    {"stat_prefix", "web"},
                    {"rds", {{"route_config_name", "r"}, {"config_source", ads()}}},
                    {"http_filters", {router}}};
    json filter = {{"name", "http"}, {"typed_config", manager}};
    json chain = {{"filters", {filter}}};
    return {{"name", "web"}, {"address", socketAddress(0)}, {"filter_chains", {chain}}};
  }

  void start() {
    json cluster = {
        {"name", "xds-grpc"},
        {"type", "STATIC"},
        {"typed_extension_protocol_options",
         {{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
           {{"@type", "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
            {"explicit_http_config", {{"http2_protocol_options", json::object()}}}}}}},
        {"load_assignment",
         {{"cluster_name", "xds-grpc"},
          {"endpoints",
           {{{"lb_endpoints",
              {{{"endpoint",
                 {{"address", {{"pipe", {{"path", (folder_ / "xds").string()}}}}}}}}}}}}}}}};
    json all = {{"node", {{"id", "sidecar~1"}, {"metadata", {{"A", "b"}}}}},
                {"admin", {{"address", socketAddress(0)}}},
                {"static_resources", {{"clusters", json::array({cluster})}}},
                {"dynamic_resources",
                 {{"lds_config", ads()},
                  {"cds_config", ads()},
                  {"ads_config",
                   {{"api_type", GetParam()},
                    {"transport_api_version", "V3"},
                    {"set_node_on_first_message_only", true},
                    {"grpc_services", {{{"envoy_grpc", {{"cluster_name", "xds-grpc"}}}}}}}}}}};
    auto bootstrap = std::make_shared<envoy::config::bootstrap::v3::Bootstrap>();
    const auto read = api::fromJson(all, *bootstrap);
    ASSERT_TRUE(read) << read.error().message();
    Options options;
    options.concurrency = 2;
    options.drain_time = std::chrono::seconds(1);
    auto server = Server::make(loop_, {bootstrap, {}}, options);
    ASSERT_TRUE(server) << server.error().message();
    server_ = std::move(*server);
  }

  bool until(const std::function<bool()>& what) {
    for (int i = 0; i < 1000; ++i) {
      if (what()) return true;
      loop_.runOnce(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool live() {
    return until([&] { return server_->state() == ServerState::kLive; });
  }

  http::ClientResponse ask(const net::Address& address, std::string path,
                           std::string method = "GET") {
    http::Client::Options options;
    options.address = address;
    options.host = "test";
    auto client = http::Client::make(loop_, options);
    http::ClientRequest request;
    request.method = std::move(method);
    request.path = std::move(path);
    http::ClientResponse answer;
    bool done = false;
    auto call = client->fetch(std::move(request), [&](base::Result<http::ClientResponse> result) {
      if (result) answer = std::move(*result);
      done = true;
    });
    until([&] { return done; });
    return answer;
  }
  http::ClientResponse admin(const std::string& path, const std::string& method = "GET") {
    return ask(*server_->adminAddress(), path, method);
  }
  net::Address web() { return server_->store().snapshot().listeners.at("web").config->address; }

  std::filesystem::path folder_;
  event::Loop loop_;
  Source source_;
  xds::Server control_{source_};
  std::unique_ptr<http::GrpcServer> grpc_;
  std::unique_ptr<http::Server> app_;
  std::uint16_t app_port_ = 0;
  std::unique_ptr<Server> server_;
};

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
