#include "runtime/process.h"

#include "base/strings.h"
#include "runtime/rootfs.h"

#include <fmt/core.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

constexpr int kCapabilityLast = 63;
constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

TextResult failedStep(std::string_view step) {
  return std::unexpected(fmt::format("{}: {}", step, std::strerror(errno)));
}

TextResult placeStreams(const Stdio& stdio) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return failedStep("cannot open /dev/null");
  // Copies above 2 first, so that placing one stream does not overwrite another's source.
  std::array<int, 3> from = {stdio.input, stdio.output, stdio.error};
  for (int& fd : from) {
    fd = ::fcntl(fd < 0 ? null : fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return failedStep("cannot copy a descriptor");
  }
  for (int i = 0; i < 3; ++i) {
    if (::dup2(from[static_cast<std::size_t>(i)], i) < 0)
      return failedStep("cannot place a stream");
  }
  if (stdio.terminal && ::ioctl(0, TIOCSCTTY, 0) != 0)
    return failedStep("cannot take the terminal");
  return {};
}

TextResult limitCapabilities(const ContainerSpec& spec) {
  for (int capability = 0; capability <= kCapabilityLast; ++capability) {
    if ((spec.capabilities >> capability & 1) != 0) continue;
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) {
      return failedStep("cannot drop a capability");
    }
  }
  return {};
}

// A uid other than 0 has lost all of them by becoming it.
TextResult setRootCapabilities(const ContainerSpec& spec) {
  if (spec.uid != 0) return {};
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0)
    return failedStep("cannot read capabilities");
  for (std::size_t i = 0; i < data.size(); ++i) {
    const auto mask = static_cast<std::uint32_t>(spec.capabilities >> (32 * i));
    data[i].permitted &= mask;
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  if (::syscall(SYS_capset, &header, data.data()) != 0)
    return failedStep("cannot set capabilities");
  return {};
}

TextResult becomeUser(const ContainerSpec& spec) {
  if (auto done = limitCapabilities(spec); !done) return done;
  // Namespaces with one mapped user refuse setgroups: then there are no groups to lose either.
  if (::setgroups(spec.groups.size(), spec.groups.data()) != 0 &&
      (errno != EPERM || !spec.groups.empty())) {
    return failedStep("cannot set the supplementary groups");
  }
  if (::setresgid(spec.gid, spec.gid, spec.gid) != 0) {
    return failedStep(
        fmt::format("cannot become group {} (not mapped in this namespace?)", spec.gid));
  }
  if (::setresuid(spec.uid, spec.uid, spec.uid) != 0) {
    return failedStep(
        fmt::format("cannot become user {} (not mapped in this namespace?)", spec.uid));
  }
  if (auto done = setRootCapabilities(spec); !done) return done;
  if (spec.no_new_privileges && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return failedStep("cannot set no_new_privs");
  }
  return {};
}

TextResult enterMounts(const ContainerSpec& spec, std::optional<pid_t> inside) {
  if (inside) {
    const int fd = ::open(fmt::format("/proc/{}/ns/mnt", *inside).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return std::unexpected("the container is not running");
    // Who shares a working directory with another thread may join no mounts.
    if (::unshare(CLONE_FS) != 0 || ::setns(fd, CLONE_NEWNS) != 0)
      return failedStep("cannot join the container");
    ::close(fd);
    return {};
  }
  if (::unshare(CLONE_NEWNS) != 0) return failedStep("cannot make a mount namespace");
  return enterContainerRoot(spec.mounts, spec.privileged);
}

TextResult enterFolder(const ContainerSpec& spec) {
  // As container engines do, a working folder that is not there is made where that is possible.
  if (::chdir(spec.cwd.c_str()) == 0) return {};
  if (errno == ENOENT) {
    std::error_code error;
    std::filesystem::create_directories(spec.cwd, error);
    if (::chdir(spec.cwd.c_str()) == 0) return {};
  }
  return failedStep("cannot enter the working folder " + spec.cwd);
}

std::vector<std::string> candidates(const ContainerSpec& spec) {
  const std::string& name = spec.argv[0];
  if (name.find('/') != std::string::npos) return {name};
  std::string path = kDefaultPath;
  for (const std::string& variable : spec.env) {
    if (variable.starts_with("PATH=")) path = variable.substr(5);
  }
  std::vector<std::string> out;
  for (const auto folder : base::split(path, ':')) {
    if (!folder.empty()) out.push_back(std::string(folder) + "/" + name);
  }
  return out;
}

StartFailure execute(const ContainerSpec& spec) {
  std::vector<char*> argv;
  std::vector<char*> envp;
  for (const std::string& arg : spec.argv) argv.push_back(const_cast<char*>(arg.c_str()));
  for (const std::string& text : spec.env) envp.push_back(const_cast<char*>(text.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  int why = ENOENT;
  for (const std::string& program : candidates(spec)) {
    ::execve(program.c_str(), argv.data(), envp.data());
    if (errno != ENOENT && errno != ENOTDIR) why = errno;
  }
  if (why == ENOENT && spec.argv[0].find('/') == std::string::npos) {
    return {fmt::format("exec: \"{}\": executable file not found in $PATH", spec.argv[0]), 127};
  }
  return {fmt::format("exec: \"{}\": {}", spec.argv[0], std::strerror(why)),
          why == ENOENT ? 127 : 126};
}

StartFailure become(const ContainerSpec& spec, const Stdio& stdio, std::optional<pid_t> inside) {
  TextResult done;
  if (::setsid() < 0) done = failedStep("cannot make a session");
  if (done) done = enterMounts(spec, inside);
  if (done) done = placeStreams(stdio);
  if (done) done = enterFolder(spec);
  if (done) done = becomeUser(spec);
  if (!done) return {done.error(), 128};
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::umask(0022);
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  return execute(spec);
}

[[noreturn]] void report(int fd, const StartFailure& failure) {
  const std::string text = fmt::format("{}\n{}", failure.exit_code, failure.text);
  (void)!::write(fd, text.data(), text.size());
  ::_exit(failure.exit_code);
}

}  // namespace

std::expected<pid_t, StartFailure> launch(const ContainerSpec& spec, const Stdio& stdio,
                                          std::optional<pid_t> inside) {
  if (spec.argv.empty() || spec.argv[0].empty()) {
    return std::unexpected(StartFailure{"no command specified", 128});
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return std::unexpected(StartFailure{failedStep("cannot make a pipe").error(), 128});
  }
  const base::Fd reader(ends[0]);
  base::Fd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return std::unexpected(StartFailure{failedStep("cannot fork").error(), 128});
  if (child == 0) {
    // The report must survive dup2 onto 0..2.
    const int out = ::fcntl(writer.get(), F_DUPFD_CLOEXEC, 16);
    report(out, become(spec, stdio, inside));
  }
  writer.reset();
  std::string text;
  std::array<char, 1024> bytes;
  while (true) {
    const ssize_t got = ::read(reader.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(bytes.data(), static_cast<std::size_t>(got));
  }
  if (text.empty()) return child;
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  const std::size_t line = text.find('\n');
  StartFailure failure;
  failure.exit_code = base::parseInteger<int>(std::string_view(text).substr(0, line)).value_or(128);
  if (line != std::string::npos) failure.text = text.substr(line + 1);
  return std::unexpected(std::move(failure));
}

ino_t mountNamespaceOf(pid_t pid) {
  struct stat info{};
  return ::stat(fmt::format("/proc/{}/ns/mnt", pid).c_str(), &info) == 0 ? info.st_ino : 0;
}

void killMountNamespace(ino_t mount_namespace) {
  if (mount_namespace == 0) return;
  // A process may fork while we look: again until none is left.
  for (int round = 0; round < 8; ++round) {
    bool found = false;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
      const auto pid = base::parseInteger<pid_t>(entry.path().filename().string());
      if (!pid || *pid <= 1 || mountNamespaceOf(*pid) != mount_namespace) continue;
      found = ::kill(*pid, SIGKILL) == 0 || found;
    }
    if (!found) return;
  }
}

}  // namespace postern::runtime
