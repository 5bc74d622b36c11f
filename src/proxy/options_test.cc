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

TEST(Options, TakesWhatEnvoysUsersWrite) {
  const auto options = parse({"-c",
                              "x",
                              "--base-id",
                              "7",
                              "--restart-epoch",
                              "2",
                              "--parent-shutdown-time-s",
                              "90",
                              "--base-id-path",
                              "/b",
                              "--skip-deprecated-logs",
                              "--log-format",
                              "[%T] %v",
                              "--component-log-level",
                              "upstream:debug,misc:error",
                              "--file-flush-interval-msec",
                              "1000",
                              "--file-flush-min-size-kb",
                              "16",
                              "--socket-mode",
                              "0640"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->base_id, 7U);
  EXPECT_EQ(options->restart_epoch, 2U);
  EXPECT_TRUE(options->hot_restart_asked);
  EXPECT_EQ(options->parent_shutdown_time, std::chrono::seconds(90));
  EXPECT_EQ(options->file_flush_interval, std::chrono::seconds(1));
  EXPECT_EQ(options->socket_mode, 0640U);
  ASSERT_EQ(options->component_log_levels.size(), 2U);
  EXPECT_EQ(options->component_log_levels[0].second, base::LogLevel::kDebug);
}

TEST(Options, RefusesWhatCannotBe) {
  const auto error = [](std::initializer_list<std::string_view> words) {
    const auto options = parse(words);
    return options ? std::string() : options.error().message();
  };
  EXPECT_EQ(error({"-c", "x", "--component-log-level", "upstream"}),
            "--component-log-level: \"upstream\" is not NAME:LEVEL,...");
  EXPECT_EQ(error({"-c", "x", "--component-log-level", "nonsense:debug"}),
            "--component-log-level: \"nonsense:debug\" is not NAME:LEVEL,...");
  EXPECT_EQ(error({"-c", "x", "--log-format", "%Q"}), "--log-format: \"%Q\" is not FORMAT");
  EXPECT_EQ(error({"-c", "x", "--socket-mode", "8"}), "--socket-mode: \"8\" is not MODE");
  EXPECT_EQ(error({"-c", "x", "--disable-hot-restart", "--restart-epoch", "1"}),
            "--restart-epoch: needs hot restart, which is disabled");
  EXPECT_EQ(error({"-c", "x", "--use-dynamic-base-id", "--restart-epoch", "1"}),
            "--use-dynamic-base-id: needs --restart-epoch 0: later epochs are told the base id");
}

TEST(Options, ConcurrencyZeroIsAtLeastOneWorker) {
  const auto options = parse({"-c", "x", "--concurrency", "0"});
  ASSERT_TRUE(options);
  EXPECT_GE(options->concurrency, 1U);
}

}  // namespace
}  // namespace postern::proxy
