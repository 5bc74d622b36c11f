#include "proxy/options.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace postern::proxy {
namespace {

base::ConfigResult<Options> parse(std::initializer_list<std::string_view> words) {
  const std::vector<std::string_view> all(words);
  return parseOptions(all);
}

TEST(Options, TakesWhatIstiosAgentGives) {
  const auto options =
      parse({"-c", "/etc/istio/proxy/envoy-rev.json", "--restart-epoch", "0", "--drain-time-s",
             "45", "--drain-strategy", "immediate", "--local-address-ip-version", "v4",
             "--file-flush-interval-msec", "1000", "--disable-hot-restart",
             "--allow-unknown-static-fields", "-l", "warning", "--component-log-level",
             "misc:error", "--concurrency=2"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->config_path, "/etc/istio/proxy/envoy-rev.json");
  EXPECT_EQ(options->drain_time, std::chrono::seconds(45));
  EXPECT_TRUE(options->drain_immediately);
  EXPECT_TRUE(options->allow_unknown_static_fields);
  EXPECT_EQ(options->concurrency, 2U);
}

TEST(Options, RefusesByName) {
  const auto error = [](std::initializer_list<std::string_view> words) {
    const auto options = parse(words);
    return options ? std::string() : options.error().message();
  };
  EXPECT_EQ(error({"-c", "x", "--wat"}), "--wat: is not a flag; see --help");
  EXPECT_EQ(error({"-c"}), "-c: needs a value");
  EXPECT_EQ(error({"-c", "x", "--mode", "init"}), "--mode: \"init\" is not serve|validate");
  EXPECT_EQ(error({"-c", "x", "--concurrency", "257"}), "--concurrency: \"257\" is not N");
  EXPECT_EQ(error({"-c", "x", "--disable-hot-restart=1"}), "--disable-hot-restart: takes no value");
  EXPECT_EQ(error({}), "--config-path or --config-yaml is required; see --help");
  EXPECT_EQ(error({"--version"}), "");
}

}  // namespace
}  // namespace postern::proxy
