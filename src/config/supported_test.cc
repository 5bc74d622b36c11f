#include "config/supported.h"

#include "api/message.h"
#include "envoy/config/cluster/v3/cluster.pb.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::config {
namespace {

envoy::config::cluster::v3::Cluster cluster(const char* text) {
  envoy::config::cluster::v3::Cluster out;
  const auto read = api::fromJson(*json::parse(text), out);
  EXPECT_TRUE(read) << read.error().message();
  return out;
}

const SupportedFields& fields() {
  static const SupportedFields instance{
      {"envoy.config.cluster.v3.Cluster",
       {"name", "connect_timeout", "load_assignment", "metadata",
        "typed_extension_protocol_options"}},
      {"envoy.config.endpoint.v3.ClusterLoadAssignment", {"endpoints"}},
      {"envoy.config.endpoint.v3.LocalityLbEndpoints", {"lb_endpoints"}},
      {"envoy.config.endpoint.v3.LbEndpoint", {"load_balancing_weight"}},
      {"envoy.config.core.v3.Metadata", {"*"}}};
  return instance;
}

TEST(SupportedFields, AcceptsWhatIsListed) {
  EXPECT_TRUE(fields().check(
      cluster(R"({"name":"a","connect_timeout":"1s","metadata":{"filter_metadata":{"x":{"y":1}}},
                  "load_assignment":{"endpoints":[{"lb_endpoints":[{"load_balancing_weight":3}]}]}})"),
      ""));
}

TEST(SupportedFields, RefusesTheRestByItsFullPath) {
  const auto at = [](const char* text, const char* path) {
    const auto checked = fields().check(cluster(text), path);
    return checked ? std::string() : checked.error().message();
  };
  EXPECT_EQ(at(R"({"name":"a","lb_policy":"RANDOM"})", "clusters[1]"),
            "clusters[1].lb_policy: is not supported");
  EXPECT_EQ(
      at(R"({"load_assignment":{"endpoints":[{},{"lb_endpoints":[{},{"endpoint":{}}]}]}})", ""),
      "load_assignment.endpoints[1].lb_endpoints[1].endpoint: is not supported");
  // A message type nobody named has no honoured field, even where its field is listed.
  EXPECT_EQ(at(R"({"load_assignment":{"policy":{}}})", ""),
            "load_assignment.policy: is not supported");
}

TEST(SupportedFields, CountsFieldsOfUnknownNumbers) {
  auto message = cluster(R"({"load_assignment":{"cluster_name":"x"}})");
  EXPECT_EQ(countUnknownFields(message), 0U);
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(5000, 1);
  auto& inner = *message.mutable_load_assignment();
  inner.GetReflection()->MutableUnknownFields(&inner)->AddVarint(5000, 1);
  EXPECT_EQ(countUnknownFields(message), 2U);
}

TEST(SupportedFields, NotesInsteadOfRefusingWhileTolerant) {
  const auto message =
      cluster(R"({"name":"a","lb_policy":"RANDOM","load_assignment":{"policy":{}}})");
  {
    const Tolerance tolerant;
    EXPECT_TRUE(fields().check(message, "c"));
    EXPECT_EQ(tolerant.paths(),
              (std::vector<std::string>{"c.lb_policy", "c.load_assignment.policy"}));
  }
  EXPECT_FALSE(fields().check(message, "c"));
}

}  // namespace
}  // namespace postern::config
