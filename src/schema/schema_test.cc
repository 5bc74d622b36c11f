#include "schema/kinds.h"
#include "schema/protobuf.h"
#include "schema/structural.h"
#include "schema/types.h"

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

TEST(Types, FindsUnknownFieldsAndRemovesThem) {
  json::Json object = *json::parse(R"({"apiVersion":"apps/v1","kind":"Deployment","foo":1,
      "metadata":{"name":"d","labels":{"any":"thing"}},
      "spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"c","imagee":"x"}],
              "volumes":[{"name":"v","emptyDir":{}}]}}}})");
  TypeCheck check = checkType(object, *builtinType("apps/v1", "Deployment"));
  EXPECT_FALSE(check.wrong);
  EXPECT_EQ(check.unknown,
            (std::vector<std::string>{"foo", "spec.template.spec.containers[0].imagee"}));
  EXPECT_FALSE(object.contains("foo"));
  EXPECT_TRUE(object["spec"]["template"]["spec"]["volumes"][0].contains("emptyDir"));
}

TEST(Types, NamesTheWrongTypeAsKubernetesDoes) {
  json::Json object = *json::parse(R"({"spec":{"replicas":"two"}})");
  EXPECT_EQ(checkType(object, *builtinType("apps/v1", "Deployment")).wrong,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of "
            "type int32");
  object = *json::parse(R"({"spec":{"ports":{"port":80}}})");
  EXPECT_TRUE(checkType(object, *builtinType("v1", "Service")).wrong);
  object = *json::parse(R"({"spec":{"replicas":3000000000}})");
  EXPECT_TRUE(checkType(object, *builtinType("apps/v1", "Deployment")).wrong);
}

TEST(Protobuf, ReadsAScaleSentByAClient) {
  // Envelope {1 {1 "autoscaling/v1" 2 "Scale"} 2 raw}, raw {1 {1 "d"} 2 {1 0}}: a zero that was a
  // value field.
  std::string raw(
      "\x0a\x03\x0a\x01"
      "d"
      "\x12\x02\x08\x03",
      9);
  std::string body = std::string(kProtobufMagic) +
                     "\x0a\x17\x0a\x0e"
                     "autoscaling/v1"
                     "\x12\x05Scale\x12" +
                     static_cast<char>(raw.size()) + raw;
  auto object = decodeProtobuf(body);
  ASSERT_TRUE(object) << object.error().message();
  EXPECT_EQ(
      json::dump(*object),
      R"({"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"d"},"spec":{"replicas":3}})");
}

TEST(Protobuf, RefusesWhatIsMalformed) {
  const std::string good = std::string(kProtobufMagic) +
                           "\x0a\x0f\x0a\x02v1\x12\x09"
                           "Namespace\x12\x00";
  ASSERT_TRUE(decodeProtobuf(std::string(good.data(), good.size()) + '\0'));
  for (const std::string& body : {std::string("{}"), std::string(kProtobufMagic) + "\x0a\xff",
                                  std::string(kProtobufMagic) + "\x0a\x05\x0a\x03v99"}) {
    EXPECT_FALSE(decodeProtobuf(body));
  }
  // A message nested in itself without end is cut off by its depth, not by the stack.
  std::string deep;
  for (int i = 0; i < 2000; ++i) {
    if (deep.size() > 100) break;
    deep = "\x0a" + std::string(1, static_cast<char>(deep.size())) + deep;
  }
  EXPECT_FALSE(decodeProtobuf(std::string(kProtobufMagic) + deep));
}

}  // namespace
}  // namespace postern::schema
