#include "node/pod_backend.h"

#include "network/namespace_scope.h"

#include <fmt/core.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::node {
namespace {

using streaming::ExecRequest;
using streaming::PodRef;
using streaming::ProcessStreams;
using streaming::Refusal;
using streaming::StreamProcess;
using streaming::StreamSession;

constexpr std::chrono::seconds kHangUpGrace{2};
constexpr int kDialTimeoutMs = 5000;

struct Pipe {
  base::Fd read;
  base::Fd write;
};

std::optional<Pipe> makePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  // Programs that run as another user reopen /dev/stderr: let them.
  for (int end : ends) (void)::fchmod(end, 0666);
  return Pipe{base::Fd(ends[0]), base::Fd(ends[1])};
}

base::Fd duplicate(const base::Fd& fd) { return base::Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }

/// What exec and attach share: the session is told only while somebody watches.
struct Link {
  StreamSession* session;  // null: nobody watches any more
  PodBackend::Find* find;
  PodRef pod;
  long long exec = 0;   // of a started exec that still runs
  long long watch = 0;  // of an attached container
};

class ExecProcess final : public StreamProcess {
 public:
  ExecProcess(event::Loop& loop, std::shared_ptr<Link> link)
      : loop_(loop), link_(std::move(link)) {}
  ~ExecProcess() override {
    link_->session = nullptr;
    if (link_->exec != 0) end(loop_, link_);
  }
  /// Hangs up, and kills what does not care.
  static void end(event::Loop& loop, const std::shared_ptr<Link>& link) {
    PodWorker* worker = (*link->find)(link->pod);
    if (worker == nullptr) return;
    worker->signalExec(link->exec, SIGHUP);
    // The timer owns itself until it fired.
    auto timer = std::make_shared<std::unique_ptr<event::Timer>>();
    *timer = std::make_unique<event::Timer>(loop, [link, timer, &loop] {
      if (link->exec != 0) {
        if (PodWorker* still = (*link->find)(link->pod)) still->signalExec(link->exec, SIGKILL);
      }
      loop.post([timer] { timer->reset(); });
    });
    (*timer)->arm(kHangUpGrace);
  }

 private:
  event::Loop& loop_;
  std::shared_ptr<Link> link_;
};

class AttachProcess final : public StreamProcess {
 public:
  explicit AttachProcess(std::shared_ptr<Link> link) : link_(std::move(link)) {}
  ~AttachProcess() override {
    link_->session = nullptr;
    if (link_->watch == 0) return;
    if (PodWorker* worker = (*link_->find)(link_->pod)) worker->unwatchExit(link_->watch);
  }

 private:
  std::shared_ptr<Link> link_;
};

std::expected<base::Fd, std::string> dialInside(int netns, std::uint16_t port) {
  const auto scope = network::NamespaceScope::enter(netns);
  if (!scope) return std::unexpected("the pod's network is gone");
  base::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int error = 0;
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) {
    error = errno;
    if (error == EINPROGRESS) {
      pollfd wait{socket.get(), POLLOUT, 0};
      error = ETIMEDOUT;
      socklen_t size = sizeof(error);
      if (::poll(&wait, 1, kDialTimeoutMs) == 1)
        ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
  }
  if (error == 0) return socket;
  std::string why = std::strerror(error);
  if (!why.empty()) why[0] = static_cast<char>(std::tolower(why[0]));
  return std::unexpected(fmt::format("dial tcp4 127.0.0.1:{}: connect: {}", port, why));
}

}  // namespace

std::optional<Refusal> PodBackend::check(streaming::Purpose purpose, const PodRef& pod,
                                         const std::string& container) {
  PodWorker* worker = find_(pod);
  if (worker == nullptr) return Refusal{404, "pod does not exist"};
  if (purpose == streaming::Purpose::kPortForward) return std::nullopt;
  const auto info = worker->container(container);
  if (!info) return Refusal{404, fmt::format("container not found (\"{}\")", container)};
  if (info->state != ContainerView::State::kRunning) {
    return Refusal{500, fmt::format("container {} is not running", container)};
  }
  return std::nullopt;
}

std::unique_ptr<StreamProcess> PodBackend::exec(const ExecRequest& request,
                                                StreamSession& session) {
  auto link = std::make_shared<Link>(Link{&session, &find_, request.pod});
  auto process = std::make_unique<ExecProcess>(loop_, link);
  PodWorker* worker = find_(request.pod);
  const auto info = worker == nullptr ? std::nullopt : worker->container(request.container);
  if (!info) {
    session.failed("pod does not exist");
    return process;
  }
  runtime::ExecSpec spec;
  spec.container = info->run_id;
  spec.argv = request.command;
  spec.terminal = request.tty;
  auto ours = std::make_shared<ProcessStreams>();
  if (!request.tty) {
    const bool wanted[3] = {request.with_stdin, request.with_stdout, request.with_stderr};
    base::Fd* mine[3] = {&ours->input, &ours->output, &ours->error};
    for (int i = 0; i < 3; ++i) {
      if (!wanted[i]) continue;
      auto pipe = makePipe();
      if (!pipe) {
        session.failed(std::string("pipe: ") + std::strerror(errno));
        return process;
      }
      spec.streams[i] = std::move(i == 0 ? pipe->read : pipe->write);
      *mine[i] = std::move(i == 0 ? pipe->write : pipe->read);
    }
  }
  worker->exec(
      std::move(spec),
      [link, ours, request_in = request.with_stdin,
       loop = &loop_](std::expected<runtime::ExecStarted, runtime::OperationFailure> done) {
        if (!done) {
          if (link->session == nullptr) return;
          // As a shell says it: 126, 127 for what could not be started.
          StreamSession* to = std::exchange(link->session, nullptr);
          return to->failed(done.error().text);
        }
        link->exec = done->id;
        if (link->session == nullptr) return ExecProcess::end(*loop, link);
        if (done->terminal) {
          if (request_in) ours->input = duplicate(done->terminal);
          ours->output = duplicate(done->terminal);
          ours->terminal = std::move(done->terminal);
        }
        link->session->started(std::move(*ours));
      },
      [link](int code) {
        link->exec = 0;
        if (link->session != nullptr) std::exchange(link->session, nullptr)->exited(code);
      });
  return process;
}

std::unique_ptr<StreamProcess> PodBackend::attach(const ExecRequest& request,
                                                  StreamSession& session) {
  auto link = std::make_shared<Link>(Link{&session, &find_, request.pod});
  auto process = std::make_unique<AttachProcess>(link);
  PodWorker* worker = find_(request.pod);
  const auto info = worker == nullptr ? std::nullopt : worker->container(request.container);
  if (!info) {
    session.failed("pod does not exist");
    return process;
  }
  runtime::AttachSpec spec;
  spec.container = info->run_id;
  spec.input = request.with_stdin;
  auto ours = std::make_shared<ProcessStreams>();
  const bool wanted[3] = {false, request.with_stdout, request.with_stderr};
  base::Fd* mine[3] = {nullptr, &ours->output, &ours->error};
  for (int i = 1; i < 3; ++i) {
    if (!wanted[i]) continue;
    auto pipe = makePipe();
    if (!pipe) {
      session.failed(std::string("pipe: ") + std::strerror(errno));
      return process;
    }
    spec.streams[i] = std::move(pipe->write);
    *mine[i] = std::move(pipe->read);
  }
  worker->attach(std::move(spec),
                 [link, ours, container = request.container](
                     std::expected<runtime::Attached, runtime::OperationFailure> done) {
                   if (link->session == nullptr) return;
                   if (!done)
                     return std::exchange(link->session, nullptr)->failed(done.error().text);
                   if (done->terminal) ours->terminal = duplicate(done->input);
                   ours->input = std::move(done->input);
                   if (PodWorker* still = (*link->find)(link->pod)) {
                     link->watch = still->watchExit(container, [link](int code) {
                       link->watch = 0;
                       if (link->session != nullptr)
                         std::exchange(link->session, nullptr)->exited(code);
                     });
                   }
                   StreamSession* to = link->session;
                   const bool over = link->watch == 0;
                   to->started(std::move(*ours));
                   if (over && link->session != nullptr)
                     std::exchange(link->session, nullptr)->exited(0);
                 });
  return process;
}

void PodBackend::dial(const PodRef& pod, std::uint16_t port, DialCallback callback) {
  PodWorker* worker = find_(pod);
  if (worker == nullptr) return callback(std::unexpected("pod does not exist"));
  base::Fd netns(::fcntl(worker->networkNamespace(), F_DUPFD_CLOEXEC, 0));
  pool_.run(
      alive_, [netns = std::move(netns), port]() mutable { return dialInside(netns.get(), port); },
      [callback = std::move(callback)](std::expected<base::Fd, std::string> done) mutable {
        callback(std::move(done));
      });
}

}  // namespace postern::node
