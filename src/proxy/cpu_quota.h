// How many processors this process may use: by its affinity and by its control group.
#pragma once

#include <cstdint>
#include <string>

namespace postern::proxy {

/// Of its affinity (cpuset, taskset); at least 1.
std::uint32_t processorsAllowed();

/// The smallest quota of the process's control group and those above it, rounded up; version 2
/// (cpu.max) and 1 (cpu.cfs_quota_us). Without a quota, and at most: the processors this process
/// may run on. `root` is "/" but in tests. Never 0.
std::uint32_t processorsOfQuota(const std::string& root);

}  // namespace postern::proxy
