#include "cluster/process.h"

#include "base/strings.h"
#include "cluster/files.h"
#include "json/json.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

struct Stat {
  bool ending = false;
  std::uint64_t start_ticks = 0;
};

/// The kernel's mark of a process that is on its way out (PF_EXITING). Pid 1 of a namespace stays
/// in that state until all of its processes are gone.
constexpr std::uint32_t kExiting = 0x4;

/// Fields 3, 9 and 22 of /proc/PID/stat; the name before them may hold anything, so from its end.
std::optional<Stat> statOf(pid_t pid) {
  auto text = readFile(fmt::format("/proc/{}/stat", pid));
  if (!text) return std::nullopt;
  const std::size_t name_end = text->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const auto fields = base::split(std::string_view(*text).substr(name_end + 1), ' ');
  if (fields.size() < 21 || fields[1].empty()) return std::nullopt;
  const auto ticks = base::parseInteger<std::uint64_t>(fields[20]);
  const auto flags = base::parseInteger<std::uint32_t>(fields[7]);
  if (!ticks || !flags) return std::nullopt;
  const char state = fields[1][0];
  return Stat{state == 'Z' || state == 'X' || (*flags & kExiting) != 0, *ticks};
}

}  // namespace

base::ConfigResult<ProcessRecord> ProcessRecord::of(std::string name, pid_t pid) {
  const auto stat = statOf(pid);
  if (!stat) return base::failConfig(name, fmt::format("process {} is gone", pid));
  return ProcessRecord{std::move(name), pid, stat->start_ticks, POSTERN_VERSION};
}

base::ConfigResult<ProcessRecord> ProcessRecord::read(const std::string& path) {
  POSTERN_TRY(const std::string text, readFile(path));
  auto value = json::parse(text);
  if (!value) return base::failConfig(path, value.error().message());
  ProcessRecord out;
  out.name = json::stringAt(*value, "name");
  out.pid = static_cast<pid_t>(json::integerAt(*value, "pid"));
  out.start_ticks = static_cast<std::uint64_t>(json::integerAt(*value, "startTicks"));
  out.version = json::stringAt(*value, "version");
  if (out.pid <= 1) return base::failConfig(path, "names no process");
  return out;
}

base::ConfigResult<void> ProcessRecord::write(const std::string& path) const {
  const json::Json value = {
      {"name", name}, {"pid", pid}, {"startTicks", start_ticks}, {"version", version}};
  return writeFile(path, json::dump(value) + "\n");
}

base::Fd ProcessRecord::open() const {
  if (pid <= 0) return {};
  base::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  // The start time is read after the descriptor is held: it is of the process we hold, or of none.
  const auto stat = pidfd ? statOf(pid) : std::nullopt;
  if (!stat || stat->start_ticks != start_ticks || stat->ending) return {};
  return pidfd;
}

bool signalProcess(const base::Fd& pidfd, int signal) {
  return pidfd && ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
}

bool awaitEnd(const base::Fd& pidfd, std::chrono::milliseconds timeout) {
  if (!pidfd) return true;
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (true) {
    pollfd entry{pidfd.get(), POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    const int n = ::poll(&entry, 1, static_cast<int>(std::max<long long>(left.count(), 0)));
    if (n > 0) break;
    if (n == 0) return false;
    if (errno != EINTR) return false;
  }
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG);
  return true;
}

void endProcess(const base::Fd& pidfd, std::chrono::milliseconds patience) {
  if (!pidfd) return;
  signalProcess(pidfd, SIGTERM);
  if (awaitEnd(pidfd, patience)) return;
  signalProcess(pidfd, SIGKILL);
  awaitEnd(pidfd, std::chrono::seconds(5));
}

}  // namespace postern::cluster
