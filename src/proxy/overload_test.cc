#include "proxy/overload.h"

#include "api/message.h"
#include "envoy/config/overload/v3/overload.pb.h"
#include "proxy/memory_use.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace postern::proxy {
namespace {

using std::chrono::milliseconds;

class OverloadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / ("postern_overload_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    put("p", "0");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path) << text << '\n';
  }
  base::ConfigResult<OverloadConfig> read(const std::string& more) {
    const std::string text =
        R"({"resource_monitors":[{"name":"m","typed_config":{"@type":"type.googleapis.com/)"
        R"(envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",)"
        R"("filename":")" +
        (folder_ / "p").string() + R"("}}],"actions":[{"name":"envoy.overload_actions.)" + more +
        "]}";
    envoy::config::overload::v3::OverloadManager message;
    const auto parsed = api::fromJson(*postern::json::parse(text), message);
    EXPECT_TRUE(parsed) << parsed.error().message();
    return readOverload(message, "o");
  }
  std::filesystem::path folder_;
  event::Loop loop_;
  stats::Stats stats_;
};

TEST_F(OverloadTest, ScalesBetweenItsThresholds) {
  auto config = read(R"(disable_http_keepalive","triggers":[{"name":"m","scaled":
      {"scaling_threshold":0.5,"saturation_threshold":0.9}}]})");
  ASSERT_TRUE(config) << config.error().message();
  auto state = std::make_shared<OverloadState>();
  int acted = 0;
  OverloadManager manager(loop_, stats_.makeStore(), std::move(*config), state,
                          std::make_shared<ConnectionLimit>(), [&] { ++acted; });
  const auto value = [&](const char* pressure) {
    put("p", pressure);
    manager.refresh();
    return state->value(OverloadAction::kDisableHttpKeepalive);
  };
  EXPECT_EQ(value("0.5"), 0);
  EXPECT_EQ(acted, 0);
  EXPECT_NEAR(value("0.7"), 0.5, 0.001);
  EXPECT_EQ(value("0.9"), 1);
  EXPECT_TRUE(state->saturated(OverloadAction::kDisableHttpKeepalive));
  EXPECT_EQ(value("bad"), 1);  // the last pressure stays
  EXPECT_EQ(stats_.value("overload.m.failed_updates"), 1);
  EXPECT_EQ(value("0"), 0);
  EXPECT_EQ(acted, 4);  // once more after it ended
  EXPECT_EQ(value("0"), 0);
  EXPECT_EQ(acted, 4);
}

TEST_F(OverloadTest, MakesTimersShorter) {
  TimerScale scale;
  scale.least_percent = 10;
  EXPECT_EQ(scale.apply(milliseconds(1000), 0), milliseconds(1000));
  EXPECT_EQ(scale.apply(milliseconds(1000), 0.5), milliseconds(550));
  EXPECT_EQ(scale.apply(milliseconds(1000), 1), milliseconds(100));
  EXPECT_EQ(scale.apply(milliseconds(0), 1), milliseconds(0));  // no timeout stays none
  scale.least = milliseconds(2000);
  EXPECT_EQ(scale.apply(milliseconds(1000), 1), milliseconds(1000));  // never longer
}

TEST_F(OverloadTest, RefusesByPath) {
  const auto error = [&](const std::string& more) {
    const auto config = read(more);
    return config ? std::string() : config.error().message();
  };
  EXPECT_EQ(error(R"(shrink_heap","triggers":[{"name":"m","scaled":{"scaling_threshold":0.9,
      "saturation_threshold":0.5}}]})"),
            "o.actions[0].triggers[0].scaled.scaling_threshold: must be less than "
            "saturation_threshold");
  EXPECT_EQ(error(R"(reduce_timeouts","triggers":[{"name":"m","threshold":{"value":0.5}}]})"),
            "o.actions[0].typed_config: is required");
  EXPECT_EQ(error(R"(shrink_heap","triggers":[]})"),
            "o.actions[0].triggers: must have at least one member");
  EXPECT_EQ(error(R"(shrink_heap","triggers":[{"name":"m","threshold":{"value":"NaN"}}]})"),
            "o.actions[0].triggers[0].threshold.value: must be between 0 and 1");
}

TEST_F(OverloadTest, ShrinksTheHeapOncePerInterval) {
  const auto shrunk = [&](const std::string& interval) {
    put("p", "1");
    auto config = read(R"(shrink_heap","triggers":[{"name":"m","threshold":{"value":0.5}}],
        "typed_config":{"@type":"type.googleapis.com/envoy.config.overload.v3.ShrinkHeapConfig",
        "timer_interval":")" +
                       interval + "\"}}");
    EXPECT_TRUE(config) << config.error().message();
    stats::Stats stats;
    OverloadManager manager(loop_, stats.makeStore(), std::move(*config),
                            std::make_shared<OverloadState>(), std::make_shared<ConnectionLimit>(),
                            [] {});
    for (int i = 0; i < 3; ++i) manager.refresh();
    return stats.value("overload.envoy.overload_actions.shrink_heap.shrink_count");
  };
  EXPECT_EQ(shrunk("0s"), 3);
  EXPECT_EQ(shrunk("3600s"), 1);
}

TEST_F(OverloadTest, TheControlGroupsLimitMayBeLower) {
  envoy::config::overload::v3::OverloadManager message;
  const auto parsed = api::fromJson(
      *postern::json::parse(
          R"({"refresh_interval":"7s","resource_monitors":[{"name":"c","typed_config":{
          "@type":"type.googleapis.com/)"
          R"(envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig",
          "max_memory_bytes":"1000"}}]})"),
      message);
  ASSERT_TRUE(parsed) << parsed.error().message();
  const auto config = readOverload(message, "o");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->refresh_interval, std::chrono::seconds(7));
  EXPECT_EQ(config->monitors.at(0).bytes_max, 1000U);
}

TEST_F(OverloadTest, ReadsTheControlGroupsMemory) {
  EXPECT_FALSE(cgroupMemory(folder_.string()).known);
  put("sys/fs/cgroup/memory/memory.usage_in_bytes", "100");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_EQ(cgroupMemory(folder_.string()).used, 100U);
  EXPECT_EQ(cgroupMemory(folder_.string()).limit, 0U);
  put("sys/fs/cgroup/memory.current", "50");
  put("sys/fs/cgroup/memory.max", "200");
  EXPECT_EQ(cgroupMemory(folder_.string()).used, 50U);
  EXPECT_EQ(cgroupMemory(folder_.string()).limit, 200U);
}

}  // namespace
}  // namespace postern::proxy
