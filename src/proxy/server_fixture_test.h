// For tests of the whole proxy against a control plane over real sockets, in both variants of ADS.
#pragma once

#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "http/client.h"
#include "proxy/server.h"
#include "xds/server.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace postern::proxy {
using nlohmann::json;

struct Source : xds::ResourceSource {
  std::expected<ProxyId, http::GrpcStatus> connected(const xds::NodeInfo& info,
                                                     const xds::Caller&) override {
    node = info;
    ++connections;
    return 1;
  }
  void disconnected(ProxyId) override {}
  void resources(ProxyId, std::string_view type_url, const Visit& visit) override {
    for (const auto& [name, bytes] : by_type[std::string(type_url)])
      visit(name, std::to_string(std::hash<std::string>()(bytes)), bytes);
  }
  void sent(ProxyId, std::string_view) override {}
  void acknowledged(ProxyId, std::string_view, std::string_view error) override {
    if (!error.empty()) last_error = error;
  }
  template <class T>
  void put(std::string_view type_url, const std::string& name, const json& value) {
    T message;
    const auto read = api::fromJson(value, message);
    ASSERT_TRUE(read) << read.error().message();
    by_type[std::string(type_url)][name] = api::serialize(message);
  }
  std::map<std::string, std::map<std::string, std::string>> by_type;
  xds::NodeInfo node;
  int connections = 0;
  std::string last_error;
};

inline json socketAddress(std::uint16_t port) {
  return {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}};
}

inline json ads() {
  return {{"ads", json::object()}, {"initial_fetch_timeout", "0s"}, {"resource_api_version", "V3"}};
}

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
    control_.registerAt(*grpc_,
                        [this](const http::HeaderMap& headers, xds::Server::Verdict verdict) {
                          authority_ = headers.value(":authority");
                          token_ = headers.value("x-token");
                          verdict(xds::Caller());
                        });
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

  /// `more`: pointers into the bootstrap, and what stands there.
  void start(const std::vector<std::pair<const char*, json>>& more = {}) {
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
    for (const auto& [pointer, value] : more) all[json::json_pointer(pointer)] = value;
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
  std::string authority_;  // of the last call of the proxy
  std::string token_;
};

}  // namespace postern::proxy
