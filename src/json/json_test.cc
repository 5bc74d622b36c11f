#include "json/json.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::json {
namespace {

TEST(Json, RefusesDeepNesting) {
  EXPECT_TRUE(parse(std::string(kDepthMax, '[') + std::string(kDepthMax, ']')));
  EXPECT_FALSE(parse(std::string(kDepthMax + 1, '[') + std::string(kDepthMax + 1, ']')));
}

TEST(Json, NamesTheErrorPosition) {
  auto bad = parse("{\"a\": }");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().text.find("column"), std::string::npos);
}

TEST(Yaml, KeepsQuotedScalarsAsText) {
  auto value = parseYaml("a: \"1\"\nb: 1\nc: yes\nd: 1.5\ne: ~\n");
  ASSERT_TRUE(value);
  EXPECT_EQ(dump(*value), R"({"a":"1","b":1,"c":"yes","d":1.5,"e":null})");
}

TEST(Yaml, DumpsTextThatLooksLikeANumberInQuotes) {
  Json value = {{"a", "1"}, {"b", 1}, {"c", Json::array()}};
  auto again = parseYaml(dumpYaml(value));
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, value);
}

}  // namespace
}  // namespace postern::json
