#include "network/relay.h"

#include "base/log.h"
#include "base/strings.h"
#include "event/loop.h"
#include "net/socket.h"
#include "network/load_balancers.h"
#include "network/relay_routes.h"
#include "network/socket_server.h"
#include "network/splice_join.h"

#include <fmt/core.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::network {
namespace {

base::LogComponent relay_log("relay");

constexpr int kHandshakeMs = 5000;
constexpr int kListenTries = 40;  // of 50 ms: a predecessor may be about to end
constexpr std::size_t kLineBytesMax = 64;

int failed(std::string_view what, const base::Error& error) {
  relay_log.error("{}: {}", what, error.message());
  return 1;
}

void raiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

bool sendLine(int channel, const std::string& line) {
  return ::send(channel, line.data(), line.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(line.size());
}

/// A line of the other half, without its end; "" when it ended or said nothing in time.
std::string receiveLine(int channel) {
  std::string out;
  pollfd poll{channel, POLLIN, 0};
  while (out.size() < kLineBytesMax && ::poll(&poll, 1, kHandshakeMs) == 1) {
    char byte = 0;
    if (::recv(channel, &byte, 1, 0) != 1) return "";
    if (byte == '\n') return out;
    out.push_back(byte);
  }
  return "";
}

/// Ends the loop by signals (result 0) or with the other half (result 1).
class Life {
 public:
  Life(event::Loop& loop, int channel, const char* other)
      : signals_(loop, {SIGTERM, SIGINT}, [&loop](int) { loop.stop(); }),
        watch_(loop, channel, [this, &loop, channel, other](std::uint32_t) {
          char byte = 0;
          const ssize_t got = ::recv(channel, &byte, 1, MSG_DONTWAIT);
          if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return;
          relay_log.info("the relay's {} half ended", other);
          result_ = 1;
          loop.stop();
        }) {}
  int result() const { return result_; }

 private:
  event::Loop::SignalWatch signals_;
  event::FdWatch watch_;
  int result_ = 0;
};

base::Result<base::Fd> listenForRedirects() {
  const net::Address address = *net::Address::fromIp("0.0.0.0", kRelayPort);
  for (int tries = 0;; ++tries) {
    auto listener = net::listenSocket(address);
    if (listener || listener.error().sys != EADDRINUSE || tries == kListenTries) return listener;
    const timespec pause{0, 50'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

int runInner(const RelayOptions& options, const base::Fd& channel) {
  // Joining a user namespace hides a process from its own user: the outer half could not see who
  // asks it for sockets.
  ::prctl(PR_SET_DUMPABLE, 1);
  if (!sendLine(channel.get(), fmt::format("{}\n", ownNetworkNamespace()))) return 1;
  if (receiveLine(channel.get()) != "go") return 1;
  raiseDescriptorLimit();
  event::Loop loop;
  const Life life(loop, channel.get(), "outer");
  SocketProvider host(loop, options.run_folder + "/" + kHostSocketsFile);
  SpliceJoin join(loop, kRelayConnectionsMax);
  const RelayRoutes routes(options.api_server, options.externals);
  auto listener = listenForRedirects();
  if (!listener) return failed("the relay's port", listener.error());
  const net::Acceptor redirected(
      loop, std::move(*listener), [&](base::Fd fd, const net::Address& peer) {
        const auto destination = net::originalDestination(fd.get());
        const auto target = destination ? routes.find(*destination) : std::nullopt;
        if (target) return join.connect(std::move(fd), *target, host);
        relay_log.debug("from {}: no way to {}", peer.toString(),
                        destination ? destination->toString() : "the relay itself");
        resetConnection(std::move(fd));
      });
  // Whoever can reach this socket can do no more than a pod; the asker may be of another pid
  // namespace and cannot be looked up from here.
  auto sockets = SocketServer::start(loop, options.run_folder + "/" + kClusterSocketsFile,
                                     [](int) { return true; });
  if (!sockets) return failed(kClusterSocketsFile, sockets.error());
  const LoadBalancers balancers(loop, options.run_folder, host, join);
  loop.run();
  return life.result();
}

int runOuter(const RelayOptions& options, const base::Fd& channel) {
  const auto node = base::parseInteger<ino_t>(receiveLine(channel.get()));
  if (!node || *node == 0) {
    relay_log.error("the relay's inner half did not start");
    return 1;
  }
  raiseDescriptorLimit();
  event::Loop loop;
  const Life life(loop, channel.get(), "inner");
  auto sockets = SocketServer::start(loop, options.run_folder + "/" + kHostSocketsFile,
                                     allowNamespaces({*node, ownNetworkNamespace()}));
  if (!sockets) return failed(kHostSocketsFile, sockets.error());
  if (!sendLine(channel.get(), "go\n")) return 1;
  loop.run();
  return life.result();
}

}  // namespace

int runRelay(const RelayOptions& options, base::Function<base::Result<void>()> enter_node) {
  event::Loop::blockSignals({SIGTERM, SIGINT});
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return failed("the relay", base::failErrno("cannot make a socket pair").error());
  }
  base::Fd outer(ends[0]);
  base::Fd inner(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return failed("the relay", base::failErrno("cannot fork").error());
  if (child == 0) {
    outer.reset();
    if (const auto entered = enter_node(); !entered) {
      ::_exit(failed("entering the node's namespaces", entered.error()));
    }
    ::_exit(runInner(options, inner));
  }
  inner.reset();
  const int result = runOuter(options, outer);
  outer.reset();  // the inner half ends by this
  ::waitpid(child, nullptr, 0);
  return result;
}

base::Result<void> enterNodeOf(int pid) {
  const base::Fd node(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!node) return base::failErrno("no such process");
  struct stat own{};
  struct stat other{};
  if (::stat("/proc/self/ns/user", &own) != 0 ||
      ::stat(fmt::format("/proc/{}/ns/user", pid).c_str(), &other) != 0) {
    return base::failErrno("cannot see its namespaces");
  }
  int which = CLONE_NEWNET | CLONE_NEWPID;
  if (own.st_ino != other.st_ino) which |= CLONE_NEWUSER;
  if (::setns(node.get(), which) != 0) return base::failErrno("cannot join its namespaces");
  const pid_t child = ::fork();  // only children are of the new pid namespace
  if (child < 0) return base::failErrno("cannot fork");
  if (child > 0) {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  }
  return {};
}

}  // namespace postern::network
