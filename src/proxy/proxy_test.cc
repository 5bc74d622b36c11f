#include "http/client.h"
#include "http/server.h"
#include "proxy/access_log.h"
#include "proxy/config.h"
#include "proxy/route_match.h"
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

json bootstrap(const char* filter, json config, std::uint16_t upstream) {
  config["@type"] = fmt::format("type.googleapis.com/envoy.{}", filter);
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

  event::Loop loop_;
  std::unique_ptr<http::Server> app_;
  std::uint16_t upstream_port_ = 0;
};

TEST_F(ProxyTest, RoutesHttpRequests) {
  auto config = buildConfig(bootstrap("HttpConnectionManager", httpConfig(), upstream_port_));
  ASSERT_TRUE(config) << config.error().message();
  Worker worker(loop_, *config);
  ASSERT_TRUE(worker.start());
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
  auto config = buildConfig(bootstrap("HttpConnectionManager", httpConfig(), 1));
  ASSERT_TRUE(config);
  Worker worker(loop_, *config);
  ASSERT_TRUE(worker.start());
  http::ClientResponse answer = get(worker, "/api/x");
  EXPECT_EQ(answer.status, 503);
  EXPECT_TRUE(answer.body.starts_with("upstream connect error")) << answer.body;
}

TEST_F(ProxyTest, PipesTcp) {
  auto config = buildConfig(bootstrap("TcpProxy", {{"cluster", "app"}}, upstream_port_));
  ASSERT_TRUE(config);
  Worker worker(loop_, *config);
  ASSERT_TRUE(worker.start());
  EXPECT_EQ(get(worker, "/raw").body, "/raw body");
}

TEST(ProxyConfig, RefusesUnknownFieldsWithTheirPath) {
  json all = bootstrap("TcpProxy", {{"cluster", "app"}, {"tunneling_config", json::object()}}, 1);
  auto config = buildConfig(all);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().message(),
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config."
            "tunneling_config: is not supported");
}

}  // namespace
}  // namespace postern::proxy
