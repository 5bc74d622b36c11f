#include "config/supported.h"

#include "api/message.h"
#include "envoy/config/cluster/v3/cluster.pb.h"

#include <google/protobuf/unknown_field_set.h>
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
  static constexpr HonouredLine kLines[] = {
      {"envoy.config.cluster.v3.Cluster", {}},
      {{}, "name"},
      {{}, "connect_timeout"},
      {{}, "load_assignment"},
      {{}, "metadata"},
      {{}, "typed_extension_protocol_options"},
      {"envoy.config.endpoint.v3.ClusterLoadAssignment", {}},
      {{}, "endpoints"},
      {"envoy.config.endpoint.v3.LbEndpoint", {}},
      {{}, "load_balancing_weight"},
      {"envoy.config.core.v3.Metadata", {}},
      {{}, kCheckedElsewhere},
      {"envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", {}}};
  static constexpr HonouredLine kMore[] = {{"envoy.config.endpoint.v3.LocalityLbEndpoints", {}},
                                           {{}, "lb_endpoints"}};
  static const SupportedFields instance{kLines, kMore};
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

TEST(SupportedFields, LooksIntoAnysOfKnownTypes) {
  const auto with = [](const char* type, const char* field, const char* value) {
    const std::string text =
        std::string(
            R"({"typed_extension_protocol_options":{"a.b":{"@type":"type.googleapis.com/)") +
        "envoy." + type + "\",\"" + field + "\":" + value + "}}}";
    const auto checked = fields().check(cluster(text.c_str()), "c");
    return checked ? std::string() : checked.error().message();
  };
  EXPECT_EQ(with("config.cluster.v3.Cluster", "name", "\"x\""), "");
  EXPECT_EQ(with("config.cluster.v3.Cluster", "alt_stat_name", "\"x\""),
            "c.typed_extension_protocol_options[a.b].alt_stat_name: is not supported");
  EXPECT_EQ(with("extensions.access_loggers.stream.v3.StdoutAccessLog", "log_format", "{}"),
            "c.typed_extension_protocol_options[a.b].log_format: is not supported");
  // Whoever unpacks it knows whether he takes such a thing at all.
  EXPECT_EQ(with("extensions.access_loggers.file.v3.FileAccessLog", "path", "\"x\""), "");

  auto message = cluster("{}");
  auto& any = (*message.mutable_typed_extension_protocol_options())["x"];
  any.set_type_url("type.googleapis.com/envoy.config.cluster.v3.Cluster");
  any.set_value("\x0a\xff");
  EXPECT_EQ(fields().check(message, "c").error().message(),
            "c.typed_extension_protocol_options[x]: is malformed");
}

TEST(SupportedFields, CountsFieldsOfUnknownNumbers) {
  auto message = cluster(R"({"load_assignment":{"cluster_name":"x"}})");
  EXPECT_EQ(countUnknownFields(message), 0U);
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(5000, 1);
  auto& inner = *message.mutable_load_assignment();
  inner.GetReflection()->MutableUnknownFields(&inner)->AddVarint(5000, 1);
  EXPECT_EQ(countUnknownFields(message), 2U);
}

TEST(SupportedFields, LooksAtFieldsOfItsTypeOnly) {
  auto message = cluster(R"({"name":"a"})");
  auto& unknown = *message.GetReflection()->MutableUnknownFields(&message);
  unknown.AddVarint(5000, 1);
  // Numbers of fields that are texts and messages here, in another encoding.
  unknown.AddVarint(envoy::config::cluster::v3::Cluster::kAltStatNameFieldNumber, 1);
  unknown.AddVarint(envoy::config::cluster::v3::Cluster::kLoadAssignmentFieldNumber, 300);
  EXPECT_TRUE(fields().check(message, "c"));
  message.set_alt_stat_name("b");
  EXPECT_EQ(fields().check(message, "c").error().message(), "c.alt_stat_name: is not supported");
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
