#include "proxy/memory_use.h"

#include "base/strings.h"

#include <fstream>
#include <malloc.h>
#include <optional>
#include <string_view>

#include <unistd.h>

namespace postern::proxy {

namespace {

constexpr std::uint64_t kUnlimited = std::uint64_t{1} << 60;  // version 1 writes a huge number

std::optional<std::uint64_t> number(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return base::parseInteger<std::uint64_t>(base::trim(line));
}

}  // namespace

MemoryUse memoryUse() {
  MemoryUse out;
  const struct mallinfo2 info = ::mallinfo2();
  out.allocated = info.uordblks + info.hblkhd;
  out.heap = info.arena + info.hblkhd;
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  if (statm >> total >> resident)
    out.physical = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return out;
}

CgroupMemory cgroupMemory(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup/";
  CgroupMemory out;
  for (const auto& [used, limit] :
       {std::pair{"memory.current", "memory.max"},
        std::pair{"memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes"}}) {
    const auto now = number(mount + used);
    if (!now) continue;
    out.known = true;
    out.used = *now;
    out.limit = number(mount + limit).value_or(0);
    if (out.limit >= kUnlimited) out.limit = 0;
    break;
  }
  return out;
}

}  // namespace postern::proxy
