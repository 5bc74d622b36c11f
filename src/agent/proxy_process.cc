#include "agent/proxy_process.h"

#include "base/fd.h"
#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::agent {
namespace {

base::LogComponent kProxyLog("agent");

constexpr std::chrono::milliseconds kRestartBackoffMin{100};

class ProxyProcessImpl final : public ProxyProcess {
 public:
  ProxyProcessImpl(event::Loop& loop, std::vector<std::string> argv)
      : loop_(loop),
        argv_(std::move(argv)),
        restart_(loop, [this] { restart(); }),
        kill_(loop, [this] { signal(SIGKILL); }) {}

  ~ProxyProcessImpl() override {
    watch_.reset();
    if (pid_ <= 0) return;
    signal(SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
  }

  base::Result<void> spawn() {
    std::vector<char*> arguments;
    for (std::string& each : argv_) arguments.push_back(each.data());
    arguments.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0) return base::failErrno("fork");
    if (child == 0) runChild(arguments, parent);
    pid_ = child;
    started_ = loop_.now();
    pidfd_ = base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    if (!pidfd_) return base::failErrno("pidfd_open");
    watch_ = event::FdWatch(loop_, pidfd_.get(), [this](std::uint32_t) { reap(); });
    return {};
  }

  void stop(std::chrono::milliseconds grace, base::Function<void()> ended) override {
    stopping_ = true;
    ended_ = std::move(ended);
    restart_.cancel();
    if (pid_ <= 0) return finish();
    signal(SIGTERM);
    kill_.arm(grace);
  }
  bool running() const override { return pid_ > 0; }
  pid_t pid() const override { return pid_; }
  unsigned restarts() const override { return restarts_; }

 private:
  [[noreturn]] static void runChild(const std::vector<char*>& arguments, pid_t parent) {
    // The proxy must not outlive the agent: it would hold the ports against its successor.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(0);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execv(arguments.front(), arguments.data());
    ::_exit(errno == ENOENT ? 127 : 126);
  }

  void signal(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
  }

  void reap() {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return;
    const std::string how = WIFSIGNALED(status)
                                ? fmt::format("was killed by signal {}", WTERMSIG(status))
                                : fmt::format("ended with code {}", WEXITSTATUS(status));
    pid_ = -1;
    kill_.cancel();
    if (stopping_) {
      kProxyLog.info("proxy {}", how);
      return finish();
    }
    if (loop_.now() - started_ > kRestartBackoffMax) backoff_ = kRestartBackoffMin;
    kProxyLog.error("proxy {}, starting it again in {} ms", how, backoff_.count());
    restart_.arm(backoff_);
    backoff_ = std::min<std::chrono::milliseconds>(backoff_ * 2, kRestartBackoffMax);
  }

  void restart() {
    ++restarts_;
    if (auto started = spawn(); !started) {
      kProxyLog.error("proxy not started: {}", started.error().message());
      restart_.arm(backoff_);
    }
  }

  /// The last statement of its callers: the owner may destroy this object.
  void finish() {
    watch_.reset();
    if (ended_) loop_.post(std::move(ended_));
  }

  event::Loop& loop_;
  std::vector<std::string> argv_;
  pid_t pid_ = -1;
  base::Fd pidfd_;
  event::FdWatch watch_;
  event::Timer restart_;
  event::Timer kill_;
  base::MonotonicTime started_{};
  std::chrono::milliseconds backoff_ = kRestartBackoffMin;
  unsigned restarts_ = 0;
  bool stopping_ = false;
  base::Function<void()> ended_;
};

}  // namespace

base::Result<std::unique_ptr<ProxyProcess>> ProxyProcess::start(event::Loop& loop,
                                                                std::vector<std::string> argv) {
  auto out = std::make_unique<ProxyProcessImpl>(loop, std::move(argv));
  if (auto started = out->spawn(); !started) return std::unexpected(started.error());
  return out;
}

}  // namespace postern::agent
