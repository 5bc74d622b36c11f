#include "proxy/cpu_quota.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace postern::proxy {
namespace {

class CpuQuota : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ =
        std::filesystem::temp_directory_path() / ("postern_quota_" + std::to_string(::getpid()));
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << '\n';
  }
  std::uint32_t read() { return processorsOfQuota(root_.string()); }
  std::filesystem::path root_;
};

const std::uint32_t kPresent = processorsAllowed();

TEST_F(CpuQuota, IsTheProcessorsWithoutAny) {
  EXPECT_EQ(read(), kPresent);
  put("proc/self/cgroup", "0::/pod/main");
  put("sys/fs/cgroup/pod/main/cpu.max", "max 100000");
  EXPECT_EQ(read(), kPresent);
}

TEST_F(CpuQuota, OfVersion2RoundsUpAndLooksAbove) {
  put("proc/self/cgroup", "0::/pod/main");
  put("sys/fs/cgroup/pod/main/cpu.max", "max 100000");
  put("sys/fs/cgroup/pod/cpu.max", "50000 100000");
  EXPECT_EQ(read(), 1U);
  put("sys/fs/cgroup/pod/cpu.max", "150000 100000");
  EXPECT_EQ(read(), std::min(kPresent, 2U));
}

TEST_F(CpuQuota, InAContainerStandsAtTheMountsRoot) {
  put("proc/self/cgroup", "0::/kubepods/of/the/host");
  put("sys/fs/cgroup/cpu.max", "20000 100000");
  EXPECT_EQ(read(), 1U);
}

TEST_F(CpuQuota, OfVersion1) {
  put("proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/a");
  put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1");
  put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  EXPECT_EQ(read(), kPresent);
  put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "30000");
  EXPECT_EQ(read(), 1U);
}

TEST_F(CpuQuota, OfNonsenseIsNone) {
  put("proc/self/cgroup", "nonsense\n0::/../..");
  put("sys/fs/cgroup/cpu.max", "0 0");
  EXPECT_EQ(read(), kPresent);
}

}  // namespace
}  // namespace postern::proxy
