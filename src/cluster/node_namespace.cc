#include "cluster/node_namespace.h"

#include "base/strings.h"
#include "cluster/files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <net/if.h>
#include <pwd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

constexpr int kNodeNamespaces =
    CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
constexpr const char* kHostName = "postern-node";

bool rootless() { return ::geteuid() != 0; }

/// The first line of a file below /proc/sys, or "" where the kernel has no such switch.
std::string kernelSwitch(const char* path) {
  auto text = readFile(path);
  return text ? std::string(base::trim(text->substr(0, text->find('\n')))) : "";
}

/// The one line that helps when the kernel refuses user namespaces.
std::string userNamespaceRemedy() {
  if (kernelSwitch("/proc/sys/user/max_user_namespaces") == "0") {
    return "run: sudo sysctl -w user.max_user_namespaces=15000";
  }
  if (kernelSwitch("/proc/sys/kernel/unprivileged_userns_clone") == "0") {
    return "run: sudo sysctl -w kernel.unprivileged_userns_clone=1";
  }
  if (kernelSwitch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1") {
    return "run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
  }
  return "run postern as root, or outside this container";
}

std::unexpected<base::ConfigError> namespacesRefused(int why) {
  if (rootless()) {
    return base::failConfig(
        "", fmt::format("this kernel refuses user namespaces to uid {} ({}); {}", ::geteuid(),
                        std::strerror(why), userNamespaceRemedy()));
  }
  return base::failConfig(
      "",
      fmt::format("cannot make the node's namespaces ({}); root needs the capability SYS_ADMIN: "
                  "in a container run it with --privileged",
                  std::strerror(why)));
}

std::string userName() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry != nullptr ? entry->pw_name : "";
}

base::ConfigResult<IdRange> rangeFrom(const char* path) {
  const std::string user = userName();
  auto text = readFile(path);
  const IdRange range = text ? subordinateIds(*text, user, ::geteuid()) : IdRange{};
  if (range.count >= kSubordinateIdsMin) return range;
  const char* flag = std::string_view(path).ends_with("subuid") ? "--add-subuids" : "--add-subgids";
  return base::failConfig(
      path, fmt::format("gives user {} {} subordinate ids, {} are needed; run: sudo usermod {} "
                        "100000-165535 {}",
                        user.empty() ? std::to_string(::geteuid()) : user, range.count,
                        kSubordinateIdsMin, flag, user.empty() ? "USER" : user));
}

bool inPath(const char* program) {
  const char* path = std::getenv("PATH");
  for (const auto folder : base::split(path != nullptr ? path : "/usr/bin:/bin", ':')) {
    if (::access(fmt::format("{}/{}", folder, program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

/// Runs newuidmap or newgidmap and says what it said.
base::ConfigResult<void> mapIds(const char* program, pid_t pid, std::uint32_t self, IdRange range) {
  const std::uint32_t count = std::min(range.count, kSubordinateIdsMax);
  const std::vector<std::string> argv = {program,
                                         std::to_string(pid),
                                         "0",
                                         std::to_string(self),
                                         "1",
                                         "1",
                                         std::to_string(range.first),
                                         std::to_string(count)};
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::failConfig(program, std::strerror(errno));
  const base::Fd reader(ends[0]);
  base::Fd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return base::failConfig(program, std::strerror(errno));
  if (child == 0) {
    std::vector<char*> arguments;
    for (const std::string& each : argv) arguments.push_back(const_cast<char*>(each.c_str()));
    arguments.push_back(nullptr);
    ::dup2(writer.get(), STDERR_FILENO);
    ::execvp(program, arguments.data());
    ::_exit(127);
  }
  writer.reset();
  std::string said;
  char buffer[512];
  ssize_t n = 0;
  while ((n = ::read(reader.get(), buffer, sizeof(buffer))) > 0 && said.size() < 4096) {
    said.append(buffer, static_cast<std::size_t>(n));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    return base::failConfig(program, "is not installed; run: sudo apt-get install uidmap");
  }
  return base::failConfig(
      program, said.empty() ? "failed" : std::string(base::trim(said.substr(0, said.find('\n')))));
}

/// What the child needs, made before the fork.
struct Command {
  explicit Command(const std::vector<std::string>& argv, std::vector<int> keep_fds)
      : program(argv.front().find('/') == std::string::npos ? "/proc/self/exe" : argv.front()),
        keep(std::move(keep_fds)) {
    for (const std::string& each : argv) arguments.push_back(const_cast<char*>(each.c_str()));
    arguments.push_back(nullptr);
  }
  std::string program;
  std::vector<char*> arguments;
  std::vector<int> keep;
};

/// Replaces the child by the command: descriptors 0 to 2 placed, `keep` open, all others closed.
[[noreturn]] void become(const Command& command, int log_fd) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, 0);
  ::dup2(log_fd >= 0 ? log_fd : null, 1);
  ::dup2(log_fd >= 0 ? log_fd : null, 2);
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  for (const int fd : command.keep) ::fcntl(fd, F_SETFD, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execv(command.program.c_str(), command.arguments.data());
  ::_exit(127);
}

bool loopbackUp() {
  const base::Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  if (!fd || ::ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0) return false;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

/// Inside the new namespaces, before the command: what every process of the node may rely on.
/// The mounts follow the host's (slave), so that none of ours keeps a file system busy there.
bool setUpNode() {
  return ::setresgid(0, 0, 0) == 0 && ::setresuid(0, 0, 0) == 0 && ::setsid() >= 0 &&
         ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0 &&
         ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0 &&
         ::sethostname(kHostName, std::strlen(kHostName)) == 0 && loopbackUp();
}

base::Fd openPidfd(pid_t pid) {
  return base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace

IdRange subordinateIds(std::string_view file_text, std::string_view user, uid_t uid) {
  IdRange best;
  for (const auto line : base::split(file_text, '\n')) {
    const auto fields = base::split(base::trim(line), ':');
    if (fields.size() != 3 || (fields[0] != user && fields[0] != std::to_string(uid))) continue;
    const auto first = base::parseInteger<std::uint32_t>(fields[1]);
    const auto count = base::parseInteger<std::uint32_t>(fields[2]);
    if (first && count && *count > best.count) best = {*first, *count};
  }
  return best;
}

base::ConfigResult<void> checkNodeNamespace() {
  if (!rootless()) return {};
  if (kernelSwitch("/proc/sys/user/max_user_namespaces") == "0" ||
      kernelSwitch("/proc/sys/kernel/unprivileged_userns_clone") == "0") {
    return namespacesRefused(EPERM);
  }
  for (const char* program : {"newuidmap", "newgidmap"}) {
    if (!inPath(program)) {
      return base::failConfig(program, "is not installed; run: sudo apt-get install uidmap");
    }
  }
  POSTERN_TRY([[maybe_unused]] IdRange uids, rangeFrom("/etc/subuid"));
  POSTERN_TRY([[maybe_unused]] IdRange gids, rangeFrom("/etc/subgid"));
  return {};
}

base::ConfigResult<ForkedProcess> startNodeNamespace(const std::vector<std::string>& argv,
                                                     const std::vector<int>& keep, int log_fd) {
  POSTERN_TRY_VOID(checkNodeNamespace());
  int go[2];
  int report[2];
  if (::pipe2(go, O_CLOEXEC) != 0) return base::failConfig("", std::strerror(errno));
  base::Fd go_read(go[0]);
  base::Fd go_write(go[1]);
  if (::pipe2(report, O_CLOEXEC) != 0) return base::failConfig("", std::strerror(errno));
  const base::Fd report_read(report[0]);
  base::Fd report_write(report[1]);
  const Command command(argv, keep);

  clone_args arguments{};
  arguments.flags =
      static_cast<std::uint64_t>(kNodeNamespaces) | (rootless() ? std::uint64_t{CLONE_NEWUSER} : 0);
  arguments.exit_signal = SIGCHLD;
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
  if (pid < 0) return namespacesRefused(errno);
  if (pid == 0) {
    go_write.reset();
    char byte = 0;
    // End of file: the parent gave up, or died.
    if (::read(go_read.get(), &byte, 1) != 1) ::_exit(1);
    if (!setUpNode()) {
      const int why = errno;
      [[maybe_unused]] ssize_t n = ::write(report_write.get(), &why, sizeof(why));
      ::_exit(1);
    }
    become(command, log_fd);  // closes the report: nothing was wrong
  }
  go_read.reset();
  report_write.reset();
  ForkedProcess out{pid, openPidfd(pid)};
  auto give_up = [&](auto error) -> base::ConfigResult<ForkedProcess> {
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return error;
  };
  if (rootless()) {
    auto uids = rangeFrom("/etc/subuid");
    auto gids = rangeFrom("/etc/subgid");
    if (!uids) return give_up(std::unexpected(uids.error()));
    if (!gids) return give_up(std::unexpected(gids.error()));
    auto mapped = mapIds("newuidmap", pid, ::geteuid(), *uids);
    if (mapped) mapped = mapIds("newgidmap", pid, ::getegid(), *gids);
    if (!mapped) return give_up(std::unexpected(mapped.error()));
  }
  [[maybe_unused]] ssize_t sent = ::write(go_write.get(), "g", 1);
  int why = 0;
  if (::read(report_read.get(), &why, sizeof(why)) == sizeof(why)) {
    return give_up(namespacesRefused(why));
  }
  return out;
}

base::ConfigResult<ForkedProcess> startInNode(const base::Fd& holder,
                                              const std::vector<std::string>& argv,
                                              const std::vector<int>& keep, int log_fd) {
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return base::failConfig("", std::strerror(errno));
  const base::Fd report_read(report[0]);
  base::Fd report_write(report[1]);
  const Command command(argv, keep);
  const pid_t between = ::fork();
  if (between < 0) return base::failConfig("", std::strerror(errno));
  if (between == 0) {
    // A pid namespace holds only for children, so this process stays outside and ends.
    const int namespaces = kNodeNamespaces | (rootless() ? CLONE_NEWUSER : 0);
    std::int32_t answer = 0;
    if (::setns(holder.get(), namespaces) != 0) {
      answer = -errno;
    } else {
      const pid_t child = ::fork();
      if (child == 0) {
        if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0 || ::setsid() < 0) ::_exit(126);
        become(command, log_fd);
      }
      answer = child < 0 ? -errno : child;
    }
    [[maybe_unused]] ssize_t n = ::write(report_write.get(), &answer, sizeof(answer));
    ::_exit(0);
  }
  report_write.reset();
  std::int32_t answer = -ESRCH;
  [[maybe_unused]] ssize_t n = ::read(report_read.get(), &answer, sizeof(answer));
  while (::waitpid(between, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (answer <= 0) {
    return base::failConfig("", fmt::format("cannot enter the node: {}", std::strerror(-answer)));
  }
  return ForkedProcess{answer, openPidfd(answer)};
}

base::ConfigResult<ForkedProcess> startProcess(const std::vector<std::string>& argv,
                                               const std::vector<int>& keep, int log_fd) {
  const Command command(argv, keep);
  const pid_t pid = ::fork();
  if (pid < 0) return base::failConfig(argv.front(), std::strerror(errno));
  if (pid == 0) {
    ::setsid();
    become(command, log_fd);
  }
  return ForkedProcess{pid, openPidfd(pid)};
}

int runNodeHolder(int ready_fd) {
  ::prctl(PR_SET_NAME, "postern-node");
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  [[maybe_unused]] ssize_t n = ::write(ready_fd, "ready\n", 6);
  ::close(ready_fd);
  while (true) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    int signal = 0;
    sigwait(&child, &signal);
  }
}

}  // namespace postern::cluster
