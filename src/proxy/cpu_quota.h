// How many processors the control group of this process may use.
#pragma once

#include <cstdint>
#include <string>

namespace postern::proxy {

/// The smallest quota of the process's control group and those above it, rounded up; version 2
/// (cpu.max) and 1 (cpu.cfs_quota_us). Without a quota, and at most: the processors this process
/// may run on. `root` is "/" but in tests. Never 0.
std::uint32_t processorsOfQuota(const std::string& root);

}  // namespace postern::proxy
