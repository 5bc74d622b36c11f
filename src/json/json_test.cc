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

TEST(Yaml, EndsOnWhatIsNoDocument) {
  EXPECT_FALSE(parseYamlStream("[x, y], d [x, y]\n"));
  EXPECT_FALSE(parseYamlStream(", a"));
  EXPECT_FALSE(parseYamlStream("a: [1\n]: }\n"));
  const auto documents = parseYamlStream("---\n---\na: 1\n---\n# nothing\n---\n[b]\n");
  ASSERT_TRUE(documents);
  EXPECT_EQ(dump(Json(*documents)), R"([{"a":1},["b"]])");
}

TEST(Yaml, AliasesCopyUpToALimit) {
  const auto twice = parseYaml("a: &x {k: [1, ~]}\nb: *x\n&n name: *n\n");
  ASSERT_TRUE(twice);
  EXPECT_EQ(dump(*twice), R"({"a":{"k":[1,null]},"b":{"k":[1,null]},"name":"name"})");
  std::string bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int k = 0; k < 9; ++k) bomb += "," + before;
    bomb += "]\n";
  }
  const auto refused = parseYaml(bomb);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("too many values"), std::string::npos);
  EXPECT_FALSE(parseYaml("a: &a [*a]\n"));
  EXPECT_FALSE(parseYaml("[a]: 1\n"));
}

TEST(Yaml, DumpsTextThatLooksLikeANumberInQuotes) {
  Json value = {{"a", "1"}, {"b", 1}, {"c", Json::array()}};
  auto again = parseYaml(dumpYaml(value));
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, value);
}

}  // namespace
}  // namespace postern::json
