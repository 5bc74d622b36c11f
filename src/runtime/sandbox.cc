#include "runtime/sandbox.h"

#include "base/strings.h"

#include <fmt/core.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <utility>

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

constexpr int kCannotStart = 126;
constexpr int kNotFound = 127;
constexpr int kPodNamespaces = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC;

// What the two processes of start() tell the caller, in one atomic write each.
struct Report {
  std::int32_t is_pid = 0;
  std::int32_t value = 0;  // the pid, or errno of the set-up (0: ready)
};

void tell(int fd, Report report) {
  if (::write(fd, &report, sizeof(report)) != sizeof(report)) ::_exit(1);
}

bool writeText(const char* path, std::string_view text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  return written;
}

// Pid 1 of the pod: reaps orphans until it is killed.
[[noreturn]] void runInit(const std::string& hostname, int report_fd) {
  const bool ready =
      ::setsid() >= 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
      ::sethostname(hostname.data(), hostname.size()) == 0 &&
      ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0 &&
      writeText("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
  tell(report_fd, {0, ready ? 0 : errno});
  if (!ready) ::_exit(1);
  ::close_range(0, ~0U, 0);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  while (true) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    int signal = 0;
    sigwait(&child, &signal);
  }
}

[[noreturn]] void enterNamespaces(const std::string& hostname, int report_fd) {
  if (::unshare(kPodNamespaces | CLONE_NEWPID) != 0) {
    tell(report_fd, {0, errno});
    ::_exit(1);
  }
  const pid_t init = ::fork();
  if (init == 0) runInit(hostname, report_fd);
  tell(report_fd, init < 0 ? Report{0, errno} : Report{1, init});
  ::_exit(0);
}

// Everything exec needs, made before fork: the child may not allocate.
struct Prepared {
  std::vector<std::string> candidates;  // paths of the program
  std::vector<std::string> env_text;
  std::vector<char*> argv;
  std::vector<char*> envp;
};

Prepared prepare(const ProcessSpec& spec) {
  Prepared out;
  if (spec.argv[0].find('/') != std::string::npos) {
    out.candidates.push_back(spec.argv[0]);
  } else {
    const auto path = spec.env.find("PATH");
    const std::string folders =
        path != spec.env.end() ? path->second : "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    for (const auto folder : base::split(folders, ':')) {
      out.candidates.push_back(fmt::format("{}/{}", folder, spec.argv[0]));
    }
  }
  for (const auto& [name, value] : spec.env) out.env_text.push_back(name + "=" + value);
  for (const std::string& arg : spec.argv) out.argv.push_back(const_cast<char*>(arg.c_str()));
  for (std::string& text : out.env_text) out.envp.push_back(text.data());
  out.argv.push_back(nullptr);
  out.envp.push_back(nullptr);
  return out;
}

bool bindAll(const std::vector<BindMount>& mounts) {
  for (const BindMount& bind : mounts) {
    if (::mount(bind.source.c_str(), bind.target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) !=
        0) {
      return false;
    }
    const unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY;
    if (bind.read_only && ::mount(nullptr, bind.target.c_str(), nullptr, flags, nullptr) != 0) {
      return false;
    }
  }
  return true;
}

bool placeStreams(const ProcessSpec& spec) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return false;
  // Copies above 2 first, so that placing one stream does not overwrite another's source.
  std::array<int, 3> from = {spec.stdin_fd, spec.stdout_fd, spec.stderr_fd};
  for (int& fd : from) {
    fd = ::fcntl(fd < 0 ? null : fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return false;
  }
  for (int i = 0; i < 3; ++i) {
    if (::dup2(from[static_cast<std::size_t>(i)], i) < 0) return false;
  }
  return ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0;
}

[[noreturn]] void execute(const ProcessSpec& spec, const Prepared& prepared) {
  const bool ready = ::setsid() >= 0 && ::unshare(CLONE_NEWNS) == 0 && bindAll(spec.mounts) &&
                     placeStreams(spec) && ::setgroups(0, nullptr) == 0 &&
                     ::setresgid(spec.gid, spec.gid, spec.gid) == 0 &&
                     ::setresuid(spec.uid, spec.uid, spec.uid) == 0 &&
                     ::chdir(spec.cwd.c_str()) == 0;
  if (!ready) ::_exit(kCannotStart);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  int why = ENOENT;
  for (const std::string& program : prepared.candidates) {
    ::execve(program.c_str(), prepared.argv.data(), prepared.envp.data());
    if (errno != ENOENT && errno != ENOTDIR) why = errno;
  }
  ::_exit(why == ENOENT ? kNotFound : kCannotStart);
}

// Stands between the caller and the process, which lives in another pid namespace.
[[noreturn]] void monitor(int pidfd, const ProcessSpec& spec, const Prepared& prepared) {
  if (::setns(pidfd, kPodNamespaces | CLONE_NEWPID) != 0) ::_exit(kCannotStart);
  const pid_t child = ::fork();
  if (child < 0) ::_exit(kCannotStart);
  if (child == 0) execute(spec, prepared);
  ::close_range(0, ~0U, 0);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

}  // namespace

base::Result<Sandbox> Sandbox::start(const std::string& hostname) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::failErrno("sandbox: cannot make a pipe");
  const base::Fd reader(ends[0]);
  base::Fd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return base::failErrno("sandbox: cannot fork");
  if (child == 0) enterNamespaces(hostname, writer.get());
  writer.reset();
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_t init = -1;
  bool ready = false;
  Report report;
  while (!(ready && init > 0) &&
         ::read(reader.get(), &report, sizeof(report)) == static_cast<ssize_t>(sizeof(report))) {
    if (report.is_pid != 0) {
      init = report.value;
    } else if (report.value == 0) {
      ready = true;
    } else {
      errno = report.value;
      return base::failErrno("sandbox: cannot set up the namespaces");
    }
  }
  if (init < 0 || !ready) return base::fail(base::Errc::kInternal, "sandbox: its process ended");
  base::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, init, 0)));
  if (!pidfd) return base::failErrno("sandbox: cannot open its process");
  return Sandbox(init, std::move(pidfd));
}

base::Result<pid_t> Sandbox::run(const ProcessSpec& spec) const {
  if (spec.argv.empty() || spec.argv[0].empty()) {
    return base::fail(base::Errc::kInvalidArgument, "sandbox: no command");
  }
  const Prepared prepared = prepare(spec);
  const pid_t child = ::fork();
  if (child < 0) return base::failErrno("sandbox: cannot fork");
  if (child == 0) monitor(pidfd_.get(), spec, prepared);
  return child;
}

base::Result<base::Fd> Sandbox::networkNamespace() const {
  base::Fd out(::open(fmt::format("/proc/{}/ns/net", pid_).c_str(), O_RDONLY | O_CLOEXEC));
  if (!out) return base::failErrno("sandbox: cannot open its network namespace");
  return out;
}

void Sandbox::kill() {
  if (pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

}  // namespace postern::runtime
