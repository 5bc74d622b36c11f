#include "schema/kinds.h"
#include "schema/structural.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::schema {
namespace {

const json::Json kSchema = json::Json::parse(R"({"type":"object","properties":{"spec":{
  "type":"object","required":["type"],"properties":{
    "type":{"type":"string","enum":["ingress","egress"]},
    "replicas":{"type":"integer","minimum":1,"default":1},
    "labels":{"type":"object","additionalProperties":{"type":"string"}},
    "raw":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
    "ports":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],
      "items":{"type":"object","properties":{"name":{"type":"string","pattern":"^[a-z]+$"}}}}}}}})");

TEST(Structural, PrunesUnknownFieldsButKeepsFreeOnes) {
  auto object = json::Json::parse(R"({"kind":"X","metadata":{"name":"a"},"zork":1,
    "spec":{"type":"ingress","bad":1,"labels":{"k":"v"},"raw":{"any":{"thing":1}}}})");
  auto removed = prune(object, kSchema);
  EXPECT_EQ(removed, (std::vector<std::string>{"spec.bad", "zork"}));
  EXPECT_TRUE(object["spec"]["raw"]["any"].contains("thing"));
  EXPECT_TRUE(object.contains("metadata"));
}

TEST(Structural, FillsDefaultsAndValidates) {
  auto object = json::Json::parse(R"({"spec":{"type":"other","labels":{"k":1},
    "ports":[{"name":"a"},{"name":"a"},{"name":"B"}]}})");
  applyDefaults(object, kSchema);
  EXPECT_EQ(object["spec"]["replicas"], 1);
  auto causes = validate(object, kSchema);
  ASSERT_EQ(causes.size(), 4u);
  EXPECT_EQ(causes[0].field, "spec.labels.k");
  EXPECT_EQ(causes[1].message, "Duplicate value: {\"name\":\"a\"}");
  EXPECT_EQ(causes[3].message,
            "Unsupported value: \"other\": supported values: \"ingress\", \"egress\"");
}

TEST(Structural, ANodeWithoutTypeIsRefused) {
  auto bad = json::Json::parse(R"({"type":"object","properties":{"spec":{}}})");
  auto causes = checkStructural(bad, "spec.validation.openAPIV3Schema");
  ASSERT_EQ(causes.size(), 1u);
  EXPECT_EQ(causes[0].field, "spec.validation.openAPIV3Schema.properties[spec].type");
}

TEST(Kinds, ExtensionsDeploymentsAreTheSameObjects) {
  const Kind* alias = nullptr;
  for (const Kind& kind : builtinKinds()) {
    if (kind.group == "extensions") alias = &kind;
  }
  ASSERT_NE(alias, nullptr);
  EXPECT_EQ(alias->storage, "apps/deployments");
  EXPECT_TRUE(alias->short_names.empty());
}

}  // namespace
}  // namespace postern::schema
