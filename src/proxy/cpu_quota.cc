#include "proxy/cpu_quota.h"

#include "base/strings.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include <sched.h>

namespace postern::proxy {

namespace {

constexpr int kGroupDepthMax = 64;

std::optional<std::string> firstLine(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

std::optional<double> ratio(std::string_view quota, std::string_view period) {
  const auto most = base::parseInteger<std::uint64_t>(base::trim(quota));
  const auto of = base::parseInteger<std::uint64_t>(base::trim(period));
  if (!most || !of || *of == 0) return std::nullopt;  // "max" or "-1": no quota
  return static_cast<double>(*most) / static_cast<double>(*of);
}

std::optional<double> quotaOf(const std::string& folder) {
  if (const auto line = firstLine(folder + "/cpu.max")) {
    const auto words = base::split(*line, ' ');
    return words.size() == 2 ? ratio(words[0], words[1]) : std::nullopt;
  }
  const auto quota = firstLine(folder + "/cpu.cfs_quota_us");
  const auto period = firstLine(folder + "/cpu.cfs_period_us");
  return quota && period ? ratio(*quota, *period) : std::nullopt;
}

/// The folder of `group`, and those above it. Inside a container the group is often the mount's
/// root whatever its name, which is looked at last.
void lower(double& least, const std::string& mount, std::string group) {
  for (int depth = 0; depth < kGroupDepthMax; ++depth) {
    if (const auto quota = quotaOf(mount + group)) least = std::min(least, *quota);
    if (group.empty()) return;
    group.erase(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
}

bool isCpu(std::string_view controllers) {
  const auto all = base::split(controllers, ',');
  return std::find(all.begin(), all.end(), "cpu") != all.end();
}

}  // namespace

std::uint32_t processorsAllowed() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  // It fails where there are more than 1,024 processors: then all of them count.
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    return std::max(std::thread::hardware_concurrency(), 1U);
  return std::max(static_cast<std::uint32_t>(CPU_COUNT(&allowed)), 1U);
}

std::uint32_t processorsOfQuota(const std::string& root) {
  double least = processorsAllowed();
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {  // "4:cpu,cpuacct:/group", or "0::/group" of version 2
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    const std::string mounts = root + "/sys/fs/cgroup";
    if (controllers.empty()) {
      lower(least, mounts, group);
    } else if (isCpu(controllers)) {
      lower(least, mounts + "/cpu", group);
      lower(least, mounts + "/" + controllers, group);
    }
  }
  return std::max(static_cast<std::uint32_t>(std::ceil(least)), 1U);
}

}  // namespace postern::proxy
