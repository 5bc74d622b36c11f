#include "network/external.h"

#include <gtest/gtest.h>

namespace postern::network {
namespace {

TEST(External, ParsesAndPrintsAgain) {
  const auto external = External::parse("HttpBin.org:80=127.0.0.1:8080");
  ASSERT_TRUE(external);
  EXPECT_EQ(external->toString(), "httpbin.org:80=127.0.0.1:8080");
  EXPECT_TRUE(External::parse("a.example:443=[::1]:8443"));
}

TEST(External, NamesWhatIsWrong) {
  for (const char* text :
       {"", "a=b", "a.example=127.0.0.1:1", "a.example:0=127.0.0.1:1",
        "a.example:70000=127.0.0.1:1", "a.example:80=localhost:1", "a.example:80=127.0.0.1",
        "a..b:80=127.0.0.1:1", "1.2.3.4:80=1.1.1.1:1", "-a:80=127.0.0.1:1", ":80=127.0.0.1:1"}) {
    const auto external = External::parse(text);
    EXPECT_FALSE(external) << text;
    if (external) continue;
    EXPECT_EQ(external.error().path, "--external");
  }
}

TEST(External, GivesEachHostOneAddressForAllItsPorts) {
  const auto targets = externalTargets({*External::parse("a.example:80=127.0.0.1:1"),
                                        *External::parse("a.example:443=127.0.0.1:2"),
                                        *External::parse("b.example:80=127.0.0.1:3")});
  ASSERT_EQ(targets.size(), 3U);
  std::vector<std::string> ips;
  for (const auto& [from, to] : targets) ips.push_back(from.substr(0, from.find(':')));
  std::sort(ips.begin(), ips.end());
  EXPECT_EQ(std::unique(ips.begin(), ips.end()) - ips.begin(), 2);
}

}  // namespace
}  // namespace postern::network
