#include "network/socket_server.h"

#include "base/log.h"
#include "base/strings.h"
#include "network/fd_message.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::network {
namespace {

base::LogComponent server_log("sockets");

constexpr std::chrono::seconds kRequestWithin{5};
constexpr std::chrono::seconds kPodConnectWithin{10};

int errnoOf(const base::Error& error) { return error.sys != 0 ? error.sys : EIO; }

base::Result<base::Fd> startConnecting(const net::Address& to, int type) {
  base::Fd fd(::socket(to.family(), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return base::failErrno("cannot open a socket");
  if (type == SOCK_STREAM) {
    const int yes = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  }
  if (::connect(fd.get(), to.sockaddrPtr(), to.length()) != 0 && errno != EINPROGRESS) {
    return base::failErrno("cannot connect");
  }
  return fd;
}

int peerPid(int fd) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return 0;
  return peer.pid;
}

}  // namespace

struct SocketServer::Request : event::Deferred {
  Request(SocketServer& owner, base::Fd fd, bool may_ask)
      : server(owner),
        allowed(may_ask),
        connection(std::move(fd)),
        timer(owner.loop_, [this] { timedOut(); }),
        watch(owner.loop_, connection.get(), [this](std::uint32_t ready) { readable(ready); }) {
    timer.arm(kRequestWithin);
  }

  void readable(std::uint32_t ready) {
    if (made) {  // only waiting: the asker gave up
      if ((ready & event::kHangup) != 0) server.finish(this);
      return;
    }
    base::Fd ignored;
    const auto more = receiveWithFd(connection.get(), text, ignored);
    if (!more) return server.finish(this);
    const std::size_t end = text.find('\n');
    if (end != std::string::npos) return run(text.substr(0, end));
    if (!*more || text.size() > kSocketRequestBytesMax) refuse(EINVAL, "malformed request");
  }

  void run(const std::string& line) {
    // Only now, since an asker that is still sending would miss the answer.
    if (!allowed) return refuse(EPERM, "not allowed");
    const auto words = base::split(line, ' ');
    const auto address =
        words.size() == 2 ? net::Address::parse(words[1]) : std::optional<net::Address>();
    if (!address || !address->isIp()) return refuse(EINVAL, "malformed request");
    if (words[0] == "connect") return connectTo(*address);
    if (words[0] == "listen") return answer(net::listenSocket(*address));
    if (words[0] == "udp") return answer(startConnecting(*address, SOCK_DGRAM));
    refuse(EINVAL, "unknown verb");
  }

  void connectTo(const net::Address& address) {
    auto started = startConnecting(address, SOCK_STREAM);
    if (!started) return refuse(errnoOf(started.error()), started.error().message());
    made = std::move(*started);
    timer.arm(kPodConnectWithin);
    connecting = event::FdWatch(server.loop_, made.get(), [this](std::uint32_t) { connected(); });
  }

  void connected() {
    int error = 0;
    socklen_t length = sizeof(error);
    ::getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return refuse(error, base::errnoError("cannot connect", error).message());
    sockaddr_storage peer{};
    length = sizeof(peer);
    if (::getpeername(made.get(), reinterpret_cast<sockaddr*>(&peer), &length) != 0) return;
    connecting.reset();
    answer(std::move(made));
  }

  void answer(base::Result<base::Fd> socket) {
    if (!socket) return refuse(errnoOf(socket.error()), socket.error().message());
    const std::string line = fmt::format("ok {}\n", net::localAddress(socket->get()).toString());
    if (const auto sent = sendWithFd(connection.get(), line, socket->get()); !sent) {
      server_log.debug("answer: {}", sent.error().message());
    }
    server.finish(this);
  }

  void refuse(int code, std::string_view why) {
    const auto sent = sendWithFd(connection.get(), fmt::format("error {} {}\n", code, why), -1);
    if (!sent) server_log.debug("answer: {}", sent.error().message());
    server.finish(this);
  }

  void timedOut() {
    if (made) {
      refuse(ETIMEDOUT, "connecting took too long");
    } else {
      server.finish(this);
    }
  }

  SocketServer& server;
  const bool allowed;
  base::Fd connection;
  std::string text;
  base::Fd made;
  event::Timer timer;
  event::FdWatch watch;
  event::FdWatch connecting;
};

base::Result<std::unique_ptr<SocketServer>> SocketServer::start(event::Loop& loop,
                                                                const std::string& path,
                                                                Allow allow) {
  std::unique_ptr<SocketServer> out(new SocketServer(loop, path, std::move(allow)));
  POSTERN_TRY(base::Fd listener, net::listenSocket(net::Address::unixPath(path)));
  out->acceptor_ = std::make_unique<net::Acceptor>(
      loop, std::move(listener),
      [server = out.get()](base::Fd fd, const net::Address&) { server->accepted(std::move(fd)); });
  return out;
}

SocketServer::SocketServer(event::Loop& loop, std::string path, Allow allow)
    : loop_(loop), path_(std::move(path)), allow_(std::move(allow)) {}

SocketServer::~SocketServer() = default;

void SocketServer::accepted(base::Fd connection) {
  if (requests_.size() >= kSocketRequestsMax) return;  // closed: the asker tries again
  const int pid = peerPid(connection.get());
  const bool allowed = allow_(pid);
  if (!allowed) server_log.warning("process {} may not ask for sockets", pid);
  requests_.push_back(std::make_unique<Request>(*this, std::move(connection), allowed));
}

void SocketServer::finish(Request* request) {
  const auto at = std::find_if(requests_.begin(), requests_.end(),
                               [&](const auto& each) { return each.get() == request; });
  request->watch.reset();
  request->connecting.reset();
  request->timer.cancel();
  loop_.destroyLater(std::move(*at));
  requests_.erase(at);
}

ino_t networkNamespaceOf(int pid) {
  struct stat info{};
  const std::string path = fmt::format("/proc/{}/ns/net", pid);
  return pid > 0 && ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

ino_t ownNetworkNamespace() {
  // By "self": the own pid may mean another process where /proc is of another pid namespace.
  struct stat info{};
  return ::stat("/proc/self/ns/net", &info) == 0 ? info.st_ino : 0;
}

SocketServer::Allow allowNamespaces(std::set<ino_t> namespaces) {
  return [namespaces = std::move(namespaces)](int pid) {
    const ino_t inode = networkNamespaceOf(pid);
    return inode != 0 && namespaces.contains(inode);
  };
}

}  // namespace postern::network
