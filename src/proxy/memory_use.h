// How much memory the process uses, and its control group. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace postern::proxy {

struct MemoryUse {
  std::uint64_t allocated = 0;  // by the program, bytes
  std::uint64_t heap = 0;       // what the allocator has of the kernel
  std::uint64_t physical = 0;   // resident
};
MemoryUse memoryUse();

struct CgroupMemory {
  bool known = false;
  std::uint64_t used = 0;
  std::uint64_t limit = 0;  // 0: none
};
/// Of the control group of the mount's root, as a container sees its own; version 2, then 1. `root`
/// is "/" but in tests.
CgroupMemory cgroupMemory(const std::string& root);

}  // namespace postern::proxy
