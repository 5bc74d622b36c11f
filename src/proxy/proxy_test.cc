#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "http/client.h"
#include "http/server.h"
#include "proxy/config_store.h"
#include "proxy/worker.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::proxy {
namespace {

using nlohmann::json;

json address(std::uint16_t port) {
  return {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}};
}

constexpr const char* kTcp = "tcp_proxy.v3.TcpProxy";
constexpr const char* kHttp = "http_connection_manager.v3.HttpConnectionManager";

json bootstrap(const char* filter, json config, std::uint16_t upstream) {
  config["@type"] = fmt::format("type.googleapis.com/envoy.extensions.filters.network.{}", filter);
  json listener = {{"name", "in"},
                   {"address", address(0)},
                   {"filter_chains", {{{"filters", {{{"name", "f"}, {"typed_config", config}}}}}}}};
  json endpoint = {{"lb_endpoints", {{{"endpoint", {{"address", address(upstream)}}}}}}};
  json cluster = {{"name", "app"},
                  {"type", "STATIC"},
                  {"connect_timeout", "1s"},
                  {"load_assignment", {{"cluster_name", "app"}, {"endpoints", {endpoint}}}}};
  return {{"static_resources", {{"listeners", {listener}}, {"clusters", {cluster}}}}};
}

json httpConfig() {
  json routes = {
      {{"match", {{"path", "/hello"}}}, {"direct_response", {{"status", 418}}}},
      {{"match", {{"prefix", "/lost"}}}, {"route", {{"cluster", "nowhere"}}}},
      {{"match", {{"prefix", "/api/"}}}, {"route", {{"cluster", "app"}, {"prefix_rewrite", "/"}}}}};
  json router = {
      {"name", "router"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}};
  json host = {{"name", "h"}, {"domains", {"*"}}, {"routes", routes}};
  return {{"stat_prefix", "in"},
          {"route_config", {{"virtual_hosts", {host}}}},
          {"http_filters", {router}}};
}

class ProxyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto socket = net::listenSocket(net::Address::loopback(0));
    ASSERT_TRUE(socket);
    upstream_port_ = net::localAddress(socket->get()).port();
    app_ = http::Server::make(
        loop_, {}, [](http::Request request, std::unique_ptr<http::Responder> responder) {
          responder->respond(200, {}, request.path + " " + request.body);
        });
    app_->listen(std::move(*socket));
  }
  Worker& start(const json& config) {
    envoy::config::bootstrap::v3::Bootstrap message;
    const auto read = api::fromJson(config, message);
    EXPECT_TRUE(read) << read.error().message();
    worker_ = std::make_unique<Worker>(loop_, stats_.makeStore());
    store_ = std::make_unique<ConfigStore>(
        loop_, stats_.makeStore(), ConfigStore::Options{},
        [this](std::shared_ptr<const Snapshot> snapshot) { worker_->update(std::move(snapshot)); },
        nullptr);
    const auto added = store_->addStatic(message);
    EXPECT_TRUE(added) << added.error().message();
    store_->expect({}, {});
    EXPECT_TRUE(store_->initialized());
    return *worker_;
  }
  http::ClientResponse get(Worker& worker, const std::string& path) {
    http::Client::Options options;
    options.address = worker.addresses().front();
    options.host = "test";
    auto client = http::Client::make(loop_, options);
    http::ClientRequest request;
    request.method = "POST";
    request.path = path;
    request.body = "body";
    http::ClientResponse answer;
    bool done = false;
    auto call = client->fetch(std::move(request), [&](base::Result<http::ClientResponse> result) {
      if (result) answer = std::move(*result);
      done = true;
    });
    for (int i = 0; i < 500 && !done; ++i) loop_.runOnce(std::chrono::milliseconds(10));
    return answer;
  }

  stats::Stats stats_;
  event::Loop loop_;
  std::unique_ptr<http::Server> app_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<ConfigStore> store_;
  std::uint16_t upstream_port_ = 0;
};

TEST_F(ProxyTest, RoutesHttpRequests) {
  Worker& worker = start(bootstrap(kHttp, httpConfig(), upstream_port_));
  for (int i = 0; i < 2; ++i) {  // the second uses the pooled connection
    http::ClientResponse answer = get(worker, "/api/x");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "/x body");
    EXPECT_TRUE(answer.headers.has("x-envoy-upstream-service-time"));
  }
  EXPECT_EQ(get(worker, "/hello").status, 418);
  EXPECT_EQ(get(worker, "/none").status, 404);
  EXPECT_EQ(get(worker, "/lost").status, 503);
}

TEST_F(ProxyTest, RefusedUpstreamIs503) {
  Worker& worker = start(bootstrap(kHttp, httpConfig(), 1));
  http::ClientResponse answer = get(worker, "/api/x");
  EXPECT_EQ(answer.status, 503);
  EXPECT_TRUE(answer.body.starts_with("upstream connect error")) << answer.body;
}

TEST_F(ProxyTest, PipesTcp) {
  Worker& worker =
      start(bootstrap(kTcp, {{"stat_prefix", "t"}, {"cluster", "app"}}, upstream_port_));
  EXPECT_EQ(get(worker, "/raw").body, "/raw body");
}

TEST(ProxyConfig, RefusesUnknownFieldsWithTheirPath) {
  json all = bootstrap(
      kTcp, {{"stat_prefix", "t"}, {"cluster", "app"}, {"tunneling_config", {{"hostname", "x"}}}},
      1);
  envoy::config::bootstrap::v3::Bootstrap message;
  ASSERT_TRUE(api::fromJson(all, message));
  event::Loop loop;
  stats::Stats stats;
  ConfigStore store(loop, stats.makeStore(), {}, nullptr, nullptr);
  const auto added = store.addStatic(message);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().message(),
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config."
            "tunneling_config: is not supported");
}

}  // namespace
}  // namespace postern::proxy
