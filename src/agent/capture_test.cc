#include "agent/capture.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::agent {
namespace {

base::ConfigResult<CaptureOptions> parse(std::vector<std::string_view> arguments) {
  return parseCaptureOptions(arguments);
}

TEST(Capture, ReadsTheInjectorsArguments) {
  auto options = parse({"-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*",
                        "-x", "", "-b", "*", "-d", "15090,15021,15020", "-o", "9999"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->outbound_include_cidrs, std::vector<std::string>{"*"});
  EXPECT_TRUE(options->inbound_all_ports);
  EXPECT_EQ(options->inbound_exclude_ports, (std::vector<std::uint16_t>{15090, 15021, 15020}));
  EXPECT_EQ(options->outbound_exclude_ports, std::vector<std::uint16_t>{9999});
}

TEST(Capture, LongFlagsTakeValuesWithEquals) {
  auto options = parse({"--envoy-port=15101", "--proxy-uid=42"});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->outbound_port, 15101);
  EXPECT_EQ(options->proxy_uid, 42U);
}

TEST(Capture, RefusesWhatItCannotDoByFlag) {
  const std::pair<std::vector<std::string_view>, std::string> cases[] = {
      {{"-p", "0"}, "-p: \"0\" is not a port (1-65535)"},
      {{"-d", "80,x"}, "-d: \"x\" is not a port (1-65535)"},
      {{"-i", "10.0.0.0/40"}, "-i: \"10.0.0.0/40\" is not an address range"},
      {{"-m", "TPROXY"}, "-m: \"TPROXY\": only REDIRECT is supported"},
      {{"-y", "1"}, "-y: unknown flag"},
      {{"-p"}, "-p: needs a value"}};
  for (const auto& [arguments, text] : cases) {
    auto options = parse(arguments);
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().message(), text);
  }
}

TEST(Capture, LimitsTheLists) {
  std::string many = "1";
  for (std::size_t i = 0; i < kCaptureListMax; ++i) many += ",1";
  EXPECT_FALSE(parse({"-d", many}));
}

TEST(Capture, IncludesOnlyTheRangesAsked) {
  auto options = parse({"-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.0.0/16", "-b", "80"});
  ASSERT_TRUE(options);
  const std::string rules = captureRuleset(*options);
  EXPECT_NE(rules.find("ip daddr { 10.1.0.0/16 } return"), std::string::npos);
  EXPECT_NE(rules.find("ip daddr { 10.0.0.0/8 } meta l4proto tcp redirect to :15001"),
            std::string::npos);
  EXPECT_NE(rules.find("ip6 daddr { fd00::/8 } meta l4proto tcp redirect to :15001"),
            std::string::npos);
  EXPECT_NE(rules.find("tcp dport { 80 } redirect to :15006"), std::string::npos);
  EXPECT_EQ(rules.find("    meta l4proto tcp redirect to :15001"), std::string::npos);
}

// The kernel must take every rule, and taking them twice must be harmless.
TEST(Capture, KernelAcceptsTheRules) {
  ASSERT_EQ(::getuid(), 0U) << "needs root";
  auto options = parse({"-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.0.0/16", "-b", "80,443", "-q",
                        "9000", "-o", "22", "-d", "15090"});
  ASSERT_TRUE(options);
  const std::string rules = captureRuleset(*options);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWNET) != 0) ::_exit(99);
    for (int i = 0; i < 2; ++i) {
      FILE* nft = ::popen("PATH=/usr/sbin:/usr/bin:/sbin:/bin nft -f -", "w");
      std::fputs(rules.c_str(), nft);
      if (::pclose(nft) != 0) ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0) << rules;
}

}  // namespace
}  // namespace postern::agent
