#include "proxy/config_store.h"

#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "proxy/listener_state.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::proxy {
namespace {

using nlohmann::json;

json ads(const char* timeout = "0s") {
  return {
      {"ads", json::object()}, {"initial_fetch_timeout", timeout}, {"resource_api_version", "V3"}};
}

json edsCluster(const std::string& name, const char* timeout = "0s") {
  return {{"name", name}, {"type", "EDS"}, {"eds_cluster_config", {{"eds_config", ads(timeout)}}}};
}

json endpoints(const std::string& name, int port) {
  json endpoint = {
      {"endpoint",
       {{"address", {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}}}}}};
  return {{"cluster_name", name}, {"endpoints", {{{"lb_endpoints", {endpoint}}}}}};
}

json tcpChain(const std::string& name, int port, const std::string& cluster) {
  json filter = {
      {"name", "tcp"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"},
        {"stat_prefix", name},
        {"cluster", cluster}}}};
  return {
      {"name", name}, {"filter_chain_match", {{"destination_port", port}}}, {"filters", {filter}}};
}

json rdsChain(const std::string& route) {
  json router = {
      {"name", "router"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}};
  json filter = {
      {"name", "http"},
      {"typed_config",
       {{"@type",
         "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
         "HttpConnectionManager"},
        {"stat_prefix", "web"},
        {"rds", {{"route_config_name", route}, {"config_source", ads()}}},
        {"http_filters", {router}}}}};
  return {{"filters", {filter}}};
}

json listenerNamed(const std::string& name, json chains, int port = 0) {
  return {{"name", name},
          {"address", {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}}},
          {"filter_chains", std::move(chains)}};
}

json routes(const std::string& name) {
  json route = {{"match", {{"prefix", "/"}}}, {"direct_response", {{"status", 200}}}};
  json host = {{"name", "v"}, {"domains", {"*"}}, {"routes", {route}}};
  return {{"name", name}, {"virtual_hosts", {host}}};
}

class ConfigStoreTest : public ::testing::Test {
 protected:
  ConfigStoreTest() {
    store_ = std::make_unique<ConfigStore>(
        loop_, stats_.makeStore(), ConfigStore::Options{},
        [this](std::shared_ptr<const Snapshot> snapshot) {
          snapshot_ = std::move(snapshot);
          ++published_;
        },
        [this](std::string_view type_url, const std::set<std::string>& names) {
          wanted_[std::string(type_url)] = names;
        });
  }

  /// The error, or "".
  template <class T>
  std::string give(std::string_view type_url, const std::vector<json>& values,
                   std::vector<std::string> removed = {}) {
    std::vector<google::protobuf::Any> any(values.size());
    std::vector<xds::Update> updates;
    for (std::size_t i = 0; i < values.size(); ++i) {
      T message;
      const auto read = api::fromJson(values[i], message);
      EXPECT_TRUE(read) << read.error().message();
      api::pack(message, any[i]);
      const std::string name = values[i].value("name", values[i].value("cluster_name", ""));
      updates.push_back({name, std::to_string(++version_), &any[i]});
    }
    const auto taken = store_->update(type_url, updates, removed);
    return taken ? "" : taken.error().message();
  }
  std::string clusters(const std::vector<json>& values, std::vector<std::string> removed = {}) {
    return give<envoy::config::cluster::v3::Cluster>(api::kClusterType, values, std::move(removed));
  }
  std::string listeners(const std::vector<json>& values, std::vector<std::string> removed = {}) {
    return give<envoy::config::listener::v3::Listener>(api::kListenerType, values,
                                                       std::move(removed));
  }
  std::string assign(const std::vector<json>& values, std::vector<std::string> removed = {}) {
    return give<envoy::config::endpoint::v3::ClusterLoadAssignment>(api::kEndpointType, values,
                                                                    std::move(removed));
  }
  std::string route(const std::vector<json>& values) {
    return give<envoy::config::route::v3::RouteConfiguration>(api::kRouteType, values);
  }
  const LoadAssignment* assignment(const std::string& name) const {
    const auto it = snapshot_->clusters.find(name);
    return it == snapshot_->clusters.end() ? nullptr : it->second.assignment.get();
  }

  stats::Stats stats_;
  base::ManualClock clock_;
  event::Loop loop_{clock_};
  std::unique_ptr<ConfigStore> store_;
  std::shared_ptr<const Snapshot> snapshot_ = std::make_shared<Snapshot>();
  std::map<std::string, std::set<std::string>> wanted_;
  int published_ = 0;
  int version_ = 0;
};

TEST_F(ConfigStoreTest, TwoOfOneNameInOneResponseAreRefused) {
  EXPECT_EQ(clusters({edsCluster("a"), edsCluster("b"), edsCluster("a")}),
            "a: duplicate resource a");
}

TEST_F(ConfigStoreTest, UnknownFieldsAreCountedOrRefused) {
  envoy::config::cluster::v3::Cluster message;
  ASSERT_TRUE(api::fromJson(edsCluster("a"), message));
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(9999, 1);
  google::protobuf::Any any;
  api::pack(message, any);
  const std::vector<xds::Update> updates = {{"a", "1", &any}};
  EXPECT_TRUE(store_->update(api::kClusterType, updates, {}));
  EXPECT_EQ(stats_.value("server.dynamic_unknown_fields"), 1);
  ConfigStore::Options options;
  options.reject_unknown_fields = true;
  ConfigStore strict(
      loop_, stats_.makeStore(), std::move(options), [](std::shared_ptr<const Snapshot>) {},
      [](std::string_view, const std::set<std::string>&) {});
  const auto taken = strict.update(api::kClusterType, updates, {});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().message(), "a: has 1 unknown fields");
}

TEST_F(ConfigStoreTest, ClusterWaitsForItsEndpoints) {
  store_->expect(std::chrono::milliseconds(0), {});
  EXPECT_EQ(clusters({edsCluster("a")}), "");
  EXPECT_EQ(wanted_[std::string(api::kEndpointType)], std::set<std::string>{"a"});
  EXPECT_FALSE(snapshot_->clusters.contains("a"));
  EXPECT_FALSE(store_->initialized());
  EXPECT_EQ(assign({endpoints("a", 80)}), "");
  ASSERT_NE(assignment("a"), nullptr);
  EXPECT_TRUE(store_->initialized());
  // A changed cluster keeps the endpoints it has.
  json changed = edsCluster("a");
  changed["connect_timeout"] = "3s";
  EXPECT_EQ(clusters({changed}), "");
  EXPECT_EQ(snapshot_->clusters.at("a").config->connect_timeout, std::chrono::seconds(3));
  EXPECT_EQ(assignment("a")->localities.size(), 1U);
  EXPECT_EQ(clusters({}, {"a"}), "");
  EXPECT_FALSE(snapshot_->clusters.contains("a"));
  EXPECT_TRUE(wanted_[std::string(api::kEndpointType)].empty());
}

TEST_F(ConfigStoreTest, ClusterDoesNotWaitForEverForWhatDoesNotExist) {
  EXPECT_EQ(clusters({edsCluster("a"), edsCluster("b", "5s")}), "");
  EXPECT_EQ(assign({}, {"a"}), "");
  ASSERT_NE(assignment("a"), nullptr);
  EXPECT_TRUE(assignment("a")->localities.empty());
  EXPECT_FALSE(snapshot_->clusters.contains("b"));
  clock_.advance(std::chrono::seconds(6));
  loop_.runOnce();
  EXPECT_TRUE(snapshot_->clusters.contains("b"));
}

TEST_F(ConfigStoreTest, WhatIsRefusedIsNotWaitedFor) {
  store_->expect(std::chrono::milliseconds(0), std::chrono::milliseconds(0));
  EXPECT_EQ(clusters({edsCluster("a"), edsCluster("b")}), "");
  json named = endpoints("a", 80);
  named["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] =
      "not.an.address";
  EXPECT_NE(assign({named, endpoints("b", 80)}), "");
  ASSERT_TRUE(snapshot_->clusters.contains("a"));
  EXPECT_EQ(assignment("a"), nullptr);
  ASSERT_NE(assignment("b"), nullptr);
  EXPECT_EQ(listeners({listenerNamed("web", json::array({rdsChain("r")}))}), "");
  json table = routes("r");
  table["virtual_hosts"][0]["domains"] = json::array();
  EXPECT_NE(route({table}), "");
  EXPECT_TRUE(snapshot_->listeners.contains("web"));
  EXPECT_TRUE(store_->initialized());
  // Good ones still come.
  EXPECT_EQ(assign({endpoints("a", 80)}), "");
  EXPECT_NE(assignment("a"), nullptr);
  EXPECT_EQ(route({routes("r")}), "");
  EXPECT_TRUE(snapshot_->routes.contains("r"));
}

TEST_F(ConfigStoreTest, AClusterThatComesBackCountsWhatStillRunsOnIt) {
  EXPECT_EQ(clusters({edsCluster("a", "1s")}), "");
  EXPECT_EQ(assign({endpoints("a", 80)}), "");
  const std::shared_ptr<ClusterUse> runs = snapshot_->clusters.at("a").use;
  EXPECT_EQ(clusters({}, {"a"}), "");
  EXPECT_EQ(clusters({edsCluster("b", "1s")}), "");  // the store forgets nothing meanwhile
  EXPECT_EQ(clusters({edsCluster("a", "1s")}), "");
  EXPECT_EQ(assign({endpoints("a", 80)}), "");
  EXPECT_EQ(snapshot_->clusters.at("a").use, runs);
}

TEST_F(ConfigStoreTest, ASavedClusterThatCannotWarmKeepsNoListenerAway) {
  std::vector<DynamicResources> saved(2);
  const auto add = [](DynamicResources& to, std::string_view type_url, const std::string& name,
                      const google::protobuf::Message& message) {
    to.type_url = type_url;
    ResourceText text;
    text.version = "1";
    api::pack(message, text.message);
    to.resources.emplace_back(name, std::move(text));
  };
  envoy::config::cluster::v3::Cluster cluster;
  ASSERT_TRUE(api::fromJson(edsCluster("a"), cluster));
  add(saved[0], api::kClusterType, "a", cluster);
  envoy::config::listener::v3::Listener listener;
  ASSERT_TRUE(api::fromJson(listenerNamed("web", json::array({tcpChain("t", 1, "a")})), listener));
  add(saved[1], api::kListenerType, "web", listener);
  store_->expect(std::chrono::milliseconds(0), std::chrono::milliseconds(0));
  store_->restore(saved);
  EXPECT_FALSE(snapshot_->clusters.contains("a"));
  EXPECT_TRUE(snapshot_->listeners.contains("web"));
  EXPECT_TRUE(store_->initialized());
  EXPECT_EQ(assign({endpoints("a", 80)}), "");
  EXPECT_TRUE(snapshot_->clusters.contains("a"));
}

TEST_F(ConfigStoreTest, ListenerWaitsForClustersAndRoutes) {
  store_->expect(std::chrono::milliseconds(0), std::chrono::milliseconds(0));
  EXPECT_EQ(listeners({listenerNamed("web", json::array({rdsChain("r")}))}), "");
  EXPECT_EQ(wanted_[std::string(api::kRouteType)], std::set<std::string>{"r"});
  EXPECT_EQ(route({routes("r")}), "");
  EXPECT_FALSE(snapshot_->listeners.contains("web"));  // the first clusters are not there
  EXPECT_EQ(clusters({}), "");
  ASSERT_TRUE(snapshot_->listeners.contains("web"));
  EXPECT_NE(snapshot_->listeners.at("web").sockets, nullptr);
  EXPECT_TRUE(snapshot_->routes.contains("r"));
  EXPECT_TRUE(store_->initialized());
  // Another version with another table: the old one serves until that is there.
  EXPECT_EQ(listeners({listenerNamed("web", json::array({rdsChain("other")}))}), "");
  EXPECT_EQ(snapshot_->listeners.at("web").config->route_names, std::vector<std::string>{"r"});
  EXPECT_EQ(wanted_[std::string(api::kRouteType)], (std::set<std::string>{"r", "other"}));
  EXPECT_EQ(route({routes("other")}), "");
  EXPECT_EQ(snapshot_->listeners.at("web").config->route_names, std::vector<std::string>{"other"});
  EXPECT_EQ(wanted_[std::string(api::kRouteType)], std::set<std::string>{"other"});
}

TEST_F(ConfigStoreTest, AListenerDoesNotWaitForEverForItsRoutes) {
  store_->expect({}, {});
  const auto with = [&](const char* name, const char* timeout) {
    json chain = rdsChain(name);
    chain["filters"][0]["typed_config"]["rds"]["config_source"]["initial_fetch_timeout"] = timeout;
    return listenerNamed(name, json::array({chain}));
  };
  EXPECT_EQ(listeners({with("soon", "5s"), with("never", "0s")}), "");
  EXPECT_FALSE(snapshot_->listeners.contains("soon"));
  clock_.advance(std::chrono::seconds(6));
  loop_.runOnce();
  EXPECT_TRUE(snapshot_->listeners.contains("soon"));
  clock_.advance(std::chrono::hours(6));
  loop_.runOnce();
  EXPECT_FALSE(snapshot_->listeners.contains("never"));
}

TEST_F(ConfigStoreTest, RefusedResourceLeavesTheLastGoodOne) {
  store_->expect({}, {});
  json good = {{"name", "a"}, {"type", "STATIC"}};
  EXPECT_EQ(clusters({good}), "");
  const auto before = snapshot_->clusters.at("a").config;
  json bad = good;
  bad["track_cluster_stats"] = {{"timeout_budgets", true}};
  json other = {{"name", "b"}, {"type", "STATIC"}};
  EXPECT_EQ(clusters({bad, other}), "a: track_cluster_stats: is not supported");
  EXPECT_EQ(snapshot_->clusters.at("a").config, before);
  EXPECT_TRUE(snapshot_->clusters.contains("b"));  // the good part of the response counts
  ASSERT_TRUE(store_->clusters().at("a").error);
  EXPECT_EQ(store_->clusters().at("a").error->details, "track_cluster_stats: is not supported");
  EXPECT_EQ(stats_.value("cluster_manager.cds.update_rejected"), 1);
  EXPECT_EQ(clusters({good}), "");
  EXPECT_FALSE(store_->clusters().at("a").error);
}

TEST_F(ConfigStoreTest, UnchangedResourcesPublishNothing) {
  store_->expect({}, {});
  EXPECT_EQ(clusters({{{"name", "a"}, {"type", "STATIC"}}}), "");
  const int before = published_;
  EXPECT_EQ(clusters({{{"name", "a"}, {"type", "STATIC"}}}), "");
  EXPECT_EQ(published_, before);
}

TEST_F(ConfigStoreTest, EqualChainsStayTheSameObjects) {
  store_->expect({}, {});
  EXPECT_EQ(listeners({listenerNamed("l", {tcpChain("x", 1, "a"), tcpChain("y", 2, "a")})}), "");
  const auto before = snapshot_->listeners.at("l");
  EXPECT_EQ(listeners({listenerNamed("l", {tcpChain("x", 1, "b"), tcpChain("y", 2, "a")})}), "");
  const auto& after = snapshot_->listeners.at("l");
  EXPECT_EQ(after.sockets, before.sockets);
  EXPECT_NE(after.config->chains[0], before.config->chains[0]);
  EXPECT_EQ(after.config->chains[1], before.config->chains[1]);
}

TEST_F(ConfigStoreTest, AnAddressHasOneListener) {
  store_->expect({}, {});
  EXPECT_EQ(listeners({listenerNamed("l", json::array({rdsChain("r")}))}), "");
  EXPECT_EQ(route({routes("r")}), "");
  const int port = snapshot_->listeners.at("l").config->address.port();
  const std::string error = listeners({listenerNamed("m", json::array({rdsChain("r")}), port)});
  EXPECT_NE(error.find("has duplicate address"), std::string::npos) << error;
  // What one leaves in the same response is free.
  EXPECT_EQ(listeners({listenerNamed("m", json::array({rdsChain("r")}), port)}, {"l"}), "");
}

TEST_F(ConfigStoreTest, ErrorsNameTheField) {
  store_->expect({}, {});
  const auto refused = [&](const char* path, const json& value) {
    json all = listenerNamed("l", json::array({tcpChain("x", 1, "a")}));
    all[json::json_pointer(path)] = value;
    return listeners({all});
  };
  EXPECT_EQ(refused("/address/socket_address/port_value", 70000),
            "l: address.socket_address.port_value: must be at most 65535");
  EXPECT_EQ(refused("/address/socket_address/address", "nowhere"),
            "l: address.socket_address.address: malformed IP address: nowhere");
  EXPECT_EQ(refused("/filter_chains/0/filters/0/typed_config/max_connect_attempts", 0),
            "l: filter_chains[0].filters[0].typed_config.max_connect_attempts: must be at least 1");
  EXPECT_EQ(refused("/filter_chains/0/use_proxy_proto", true),
            "l: filter_chains[0].use_proxy_proto: is not supported");
  EXPECT_EQ(refused("/filter_chains/1", tcpChain("z", 1, "b")),
            "l: filter_chains[1].filter_chain_match: error adding listener '127.0.0.1:0': filter "
            "chain 'z' has the same matching rules defined as 'x'");
  json overlapping = tcpChain("z", 1, "b");
  overlapping["filter_chain_match"]["application_protocols"] = {"h2c"};
  EXPECT_EQ(refused("/filter_chains/1", overlapping), "");
  overlapping["filter_chain_match"] = {{"destination_port", 1}, {"source_type", "ANY"}};
  overlapping["filter_chain_match"]["server_names"] = {"*b.example"};
  EXPECT_EQ(refused("/filter_chains/1", overlapping),
            "l: filter_chains[1].filter_chain_match.server_names[0]: partial wildcards are not "
            "supported in \"server_names\"");
  overlapping["filter_chain_match"]["server_names"] = json::array();
  overlapping["filter_chain_match"]["address_suffix"] = "10.0.0.1";
  EXPECT_EQ(refused("/filter_chains/1", overlapping),
            "l: filter_chains[1].filter_chain_match.address_suffix: is not supported");
  EXPECT_EQ(
      refused(
          "/listener_filters/0",
          {{"name", "x"},
           {"typed_config",
            {{"@type", "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}}),
      "l: listener_filters[0].typed_config: "
      "envoy.extensions.filters.http.router.v3.Router is not a supported listener filter");
  json name = {{"name", "c"}, {"type", "STATIC"}, {"load_assignment", endpoints("c", 1)}};
  name["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
      ["socket_address"]["address"] = "a.example";
  EXPECT_EQ(clusters({name}),
            "c: load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address."
            "address: malformed IP address: a.example");
  EXPECT_EQ(clusters({{{"name", "c"}, {"lb_policy", "MAGLEV"}}}),
            "c: lb_policy: MAGLEV is not supported");
}

}  // namespace
}  // namespace postern::proxy
