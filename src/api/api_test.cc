#include "api/message.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::api {
namespace {

using json::Json;

TEST(FromJson, ListenerWithAnyRoundTrips) {
  const Json in = Json::parse(R"({"name":"l","address":{"socket_address":{"address":"0.0.0.0",
    "port_value":80}},"filter_chains":[{"filters":[{"name":"tcp","typed_config":{"@type":
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","stat_prefix":"x",
    "cluster":"c","idle_timeout":"90s"}}]}]})");
  envoy::config::listener::v3::Listener listener;
  const auto read = fromJson(in, listener);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(listener.address().socket_address().port_value(), 80U);
  EXPECT_EQ(toJson(listener), in);
}

TEST(FromJson, DurationsAndErrorsWithPaths) {
  envoy::config::cluster::v3::Cluster cluster;
  ASSERT_TRUE(fromJson(Json{{"name", "c"}, {"connectTimeout", "1m30s"}}, cluster));
  EXPECT_EQ(cluster.connect_timeout().seconds(), 90);

  auto bad = fromJson(Json{{"name", "c"}, {"eds_cluster_config", {{"servicename", "x"}}}}, cluster);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().path, "eds_cluster_config.servicename");

  bad = fromJson(Json{{"transport_socket_matches", Json::array({{{"name", 4}}})}}, cluster);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().path, "transport_socket_matches[0].name");
  EXPECT_EQ(bad.error().text, "must be text, is number");

  EXPECT_FALSE(fromJson(Json{{"connect_timeout", "5"}}, cluster));
  EXPECT_FALSE(fromJson(Json{{"type", "NO_SUCH"}}, cluster));
}

TEST(Any, UnknownTypeStaysReadable) {
  google::protobuf::Any any;
  any.set_type_url("type.googleapis.com/no.such.Type");
  any.set_value("ab");
  EXPECT_EQ(toJson(any), (Json{{"@type", any.type_url()}, {"value", "YWI="}}));
  EXPECT_FALSE(unpack(any));
}

}  // namespace
}  // namespace postern::api
