#include "streaming/process_backend.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::streaming {
namespace {

/// What the child gets as 0, 1, 2, beside our ends.
struct Stdio {
  ProcessStreams ours;
  base::Fd input;
  base::Fd output;
  base::Fd error;
};

void pipeTo(base::Fd& reader, base::Fd& writer) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  reader = base::Fd(ends[0]);
  writer = base::Fd(ends[1]);
}

Stdio makeStdio(const ExecRequest& request) {
  Stdio out;
  if (request.tty) {
    base::Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ::grantpt(master.get());
    ::unlockpt(master.get());
    int slave = ::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    out.input = base::Fd(slave);
    out.output = base::Fd(::fcntl(slave, F_DUPFD_CLOEXEC, 3));
    out.error = base::Fd(::fcntl(slave, F_DUPFD_CLOEXEC, 3));
    out.ours.input = base::Fd(::fcntl(master.get(), F_DUPFD_CLOEXEC, 3));
    out.ours.terminal = base::Fd(::fcntl(master.get(), F_DUPFD_CLOEXEC, 3));
    out.ours.output = std::move(master);
    return out;
  }
  const auto null = [] { return base::Fd(::open("/dev/null", O_RDWR | O_CLOEXEC)); };
  if (request.with_stdin) {
    pipeTo(out.input, out.ours.input);
  } else {
    out.input = null();
  }
  if (request.with_stdout) {
    pipeTo(out.ours.output, out.output);
  } else {
    out.output = null();
  }
  if (request.with_stderr) {
    pipeTo(out.ours.error, out.error);
  } else {
    out.error = null();
  }
  return out;
}

[[noreturn]] void runChild(const Stdio& stdio, const std::vector<std::string>& command, bool tty,
                           int report) {
  ::setsid();
  ::dup2(stdio.input.get(), 0);
  ::dup2(stdio.output.get(), 1);
  ::dup2(stdio.error.get(), 2);
  if (tty) ::ioctl(0, TIOCSCTTY, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  int error = errno;
  [[maybe_unused]] ssize_t n = ::write(report, &error, sizeof error);
  ::_exit(127);
}

class Process final : public StreamProcess {
 public:
  Process(ProcessBackend& backend, StreamSession& session) : backend_(backend), session_(session) {}
  ~Process() override {
    if (pid_ <= 0) return;
    ++backend_.abandoned;
    ::kill(-pid_, SIGHUP);
    ::kill(-pid_, SIGKILL);
    reap();
  }

  void start(event::Loop& loop, const std::vector<std::string>& command,
             const ExecRequest& request) {
    Stdio stdio = makeStdio(request);
    base::Fd failed;
    base::Fd report;
    pipeTo(failed, report);
    pid_ = ::fork();
    if (pid_ == 0) runChild(stdio, command, request.tty, report.get());
    report.reset();
    int error = 0;
    if (::read(failed.get(), &error, sizeof error) > 0) {
      ::waitpid(std::exchange(pid_, -1), nullptr, 0);
      session_.failed("exec: \"" + command.front() + "\": " + std::strerror(error));
      return;
    }
    ++backend_.running;
    pidfd_ = base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    watch_ = event::FdWatch(loop, pidfd_.get(), [this](std::uint32_t) {
      watch_.reset();
      session_.exited(reap());
    });
    session_.started(std::move(stdio.ours));
  }

 private:
  int reap() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    --backend_.running;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  ProcessBackend& backend_;
  StreamSession& session_;
  pid_t pid_ = -1;
  base::Fd pidfd_;
  event::FdWatch watch_;
};

}  // namespace

std::optional<Refusal> ProcessBackend::check(Purpose purpose, const PodRef& pod,
                                             const std::string& container) {
  if (pod.ns != "default" || pod.name != "p") {
    return Refusal{404, "pod does not exist"};
  }
  if (purpose != Purpose::kPortForward && container != "c" && container != "d") {
    return Refusal{404, "container not found (\"" + container + "\")"};
  }
  return std::nullopt;
}

std::unique_ptr<StreamProcess> ProcessBackend::exec(const ExecRequest& request,
                                                    StreamSession& session) {
  auto process = std::make_unique<Process>(*this, session);
  process->start(loop_, request.command, request);
  return process;
}

std::unique_ptr<StreamProcess> ProcessBackend::attach(const ExecRequest& request,
                                                      StreamSession& session) {
  auto process = std::make_unique<Process>(*this, session);
  process->start(loop_, attach_command, request);
  return process;
}

void ProcessBackend::dial(const PodRef&, std::uint16_t port, DialCallback callback) {
  base::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
    return callback(std::unexpected("dial tcp4 127.0.0.1:" + std::to_string(port) +
                                    ": connect: connection refused"));
  }
  ::fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  callback(std::move(socket));
}

}  // namespace postern::streaming
