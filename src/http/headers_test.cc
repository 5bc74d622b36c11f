#include "http/headers.h"

#include "http/h2_headers.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

namespace postern::http {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

Fields all(const HeaderMap& map) {
  Fields out;
  map.each([&](std::string_view name, std::string_view value) { out.emplace_back(name, value); });
  return out;
}

/// What HeaderMap promises, without any haste.
struct PlainMap {
  Fields fields;

  static bool pseudo(const std::string& name) { return name.starts_with(':'); }
  std::size_t find(const std::string& name) const {
    std::size_t i = 0;
    while (i < fields.size() && fields[i].first != name) ++i;
    return i;
  }
  void add(const std::string& name, const std::string& value) {
    std::size_t at = fields.size();
    if (pseudo(name)) {
      at = 0;
      while (at < fields.size() && pseudo(fields[at].first)) ++at;
    }
    fields.insert(fields.begin() + static_cast<std::ptrdiff_t>(at), {name, value});
  }
  std::size_t remove(const std::string& name, std::size_t from = 0) {
    std::size_t count = 0;
    for (std::size_t i = fields.size(); i > from; --i) {
      if (fields[i - 1].first != name) continue;
      fields.erase(fields.begin() + static_cast<std::ptrdiff_t>(i - 1));
      ++count;
    }
    return count;
  }
  void set(const std::string& name, const std::string& value) {
    const std::size_t at = find(name);
    if (at == fields.size()) return add(name, value);
    fields[at].second = value;
    remove(name, at + 1);
  }
};

TEST(HeaderMap, AgreesWithAPlainList) {
  // Names of all lengths that tags are made of, many of which share a bit.
  std::vector<std::string> names = {":method", ":path", ":status", "a", "b", "te", "via", "age"};
  for (std::size_t i = 0; i < 60; ++i)
    names.push_back("x-" + std::string(i % 19, 'n') + std::to_string(i));
  std::mt19937 random(7);
  const auto below = [&](std::size_t limit) { return random() % limit; };
  for (int round = 0; round < 60; ++round) {
    HeaderMap map;
    PlainMap plain;
    for (int step = 0; step < 300; ++step) {
      const std::string& name = names[below(names.size())];
      const std::string value(below(40), static_cast<char>('a' + below(26)));
      switch (below(6)) {
        case 0:
          map.set(name, value);
          plain.set(name, value);
          break;
        case 1:
          ASSERT_EQ(map.remove(name), plain.remove(name));
          break;
        case 2: {
          const HeaderMap copy = map;
          map = copy;
          break;
        }
        default:
          map.add(name, value);
          plain.add(name, value);
      }
      const std::string& asked = names[below(names.size())];
      const std::size_t at = plain.find(asked);
      ASSERT_EQ(map.has(asked), at != plain.fields.size());
      if (map.has(asked)) {
        ASSERT_EQ(map.value(asked), plain.fields[at].second);
      }
    }
    ASSERT_EQ(all(map), plain.fields);
    std::size_t bytes = 0;
    for (const auto& [name, value] : plain.fields) bytes += name.size() + value.size();
    ASSERT_EQ(map.bytes(), bytes);
  }
}

TEST(HeaderMap, FindsTheLastOfManyFields) {
  HeaderMap map;
  for (int i = 0; i < 1000; ++i) map.add("x-" + std::to_string(i), std::to_string(i));
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(map.value("x-" + std::to_string(i)), std::to_string(i));
  EXPECT_FALSE(map.has("x-1000"));
  map.add(":path", "/");
  EXPECT_EQ(map.remove("x-3"), 1u);
  EXPECT_EQ(map.value("x-999"), "999");
  EXPECT_EQ(map.at(0).name, ":path");
  EXPECT_FALSE(map.has("x-3"));
}

TEST(HeaderMap, TakesViewsOfItselfWhileItGrows) {
  HeaderMap map;
  map.add("first-name", std::string(300, 'v'));
  for (int i = 0; i < 50; ++i) map.add(map.at(0).name, map.at(0).value);
  for (std::size_t i = 0; i < map.size(); ++i) {
    EXPECT_EQ(map.at(i).name, "first-name");
    EXPECT_EQ(map.at(i).value, std::string(300, 'v'));
  }
  map.add("other", std::string(5000, 'o'));
  map.set(map.at(51).name, map.at(0).value);
  EXPECT_EQ(map.value("other"), std::string(300, 'v'));
  map.set("first-name", map.value("other"));
  EXPECT_EQ(map.size(), 2u);
}

TEST(H2Headers, NamesAreLowerCaseTokens) {
  const auto good = [](std::string_view name) {
    H2HeaderReader reader(H2Message::kTrailers);
    reader.onField(name, "v");
    return reader.finish() == nullptr;
  };
  for (const std::string before :
       {"", "a", "abc", "abcd", "abcdefg", "abcdefgh", "x-0123456789-"}) {
    for (const std::string after : {"", "z", "zyx", "zyxw", "zyxwvuts"}) {
      for (int byte = 0; byte < 256; ++byte) {
        const char c = static_cast<char>(byte);
        const bool token = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                           (c != 0 && std::string_view("!#$%&'*+-.^_`|~").contains(c));
        if (c == ':' && before.empty()) continue;
        EXPECT_EQ(good(before + c + after), token) << before << byte << after;
      }
    }
  }
}

}  // namespace
}  // namespace postern::http
