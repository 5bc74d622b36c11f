#include "net/socket.h"

#include <cerrno>
#include <string>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::net {
namespace {

constexpr int kIp4OriginalDst =
    80;  // SO_ORIGINAL_DST of <linux/netfilter_ipv4.h>, which conflicts with <netinet/in.h>
constexpr int kIp6OriginalDst = 80;  // IP6T_SO_ORIGINAL_DST

void setInt(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

base::Result<void> applyOptions(int fd, const std::vector<SocketOption>& options,
                                SocketOption::When when) {
  for (const SocketOption& each : options) {
    if (each.when != when) continue;
    if (::setsockopt(fd, each.level, each.name, each.value.data(),
                     static_cast<socklen_t>(each.value.size())) != 0)
      return base::failErrno("setsockopt");
  }
  return {};
}

/// Makes room for a Unix socket, never at the cost of another kind of file.
void unlinkSocket(const std::string& path) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode)) ::unlink(path.c_str());
}

}  // namespace

SocketOption SocketOption::ofInt(int level, int name, int value, When when) {
  return {level, name, std::string(reinterpret_cast<const char*>(&value), sizeof value), when};
}

base::Result<base::Fd> bindSocket(const Address& address, const ListenOptions& options) {
  const int type = options.datagrams ? SOCK_DGRAM : SOCK_STREAM;
  base::Fd fd(::socket(address.family(), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return base::failErrno("socket");
  if (address.isUnix()) {
    std::string path = address.ip();
    if (!path.starts_with('@')) unlinkSocket(path);
  } else {
    if (!options.datagrams) setInt(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reuse_port) setInt(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
    if (options.transparent) setInt(fd.get(), SOL_IP, IP_TRANSPARENT, 1);
    if (options.freebind) setInt(fd.get(), SOL_IP, IP_FREEBIND, 1);
    if (options.v6_only && address.family() == AF_INET6) setInt(fd.get(), SOL_IPV6, IPV6_V6ONLY, 1);
  }
  POSTERN_TRY_VOID(applyOptions(fd.get(), options.socket_options, SocketOption::When::kBeforeBind));
  if (::bind(fd.get(), address.sockaddrPtr(), address.length()) != 0)
    return base::failErrno("bind");
  POSTERN_TRY_VOID(applyOptions(fd.get(), options.socket_options, SocketOption::When::kAfterBind));
  if (address.isUnix() && !address.ip().starts_with('@'))
    ::chmod(address.ip().c_str(), options.unix_mode);
  return fd;
}

base::Result<void> startListening(int fd, const ListenOptions& options) {
  setInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);  // inherited; no Unix socket has it
  if (::listen(fd, options.backlog) != 0) return base::failErrno("listen");
  return applyOptions(fd, options.socket_options, SocketOption::When::kListening);
}

base::Result<base::Fd> listenSocket(const Address& address, const ListenOptions& options) {
  POSTERN_TRY(base::Fd fd, bindSocket(address, options));
  POSTERN_TRY_VOID(startListening(fd.get(), options));
  return fd;
}

base::Result<base::Fd> udpSocket(const Address& address) {
  base::Fd fd(::socket(address.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return base::failErrno("socket");
  setInt(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (::bind(fd.get(), address.sockaddrPtr(), address.length()) != 0)
    return base::failErrno("bind");
  return fd;
}

Address localAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return Address::fromSockaddr(reinterpret_cast<sockaddr*>(&storage), length);
}

Address peerAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return Address::fromSockaddr(reinterpret_cast<sockaddr*>(&storage), length);
}

std::optional<Address> onlyAddress(int listener) {
  const Address address = localAddress(listener);
  const bool v4 = address.family() == AF_INET;
  if (!address.isIp() || address.ip() == (v4 ? "0.0.0.0" : "::")) return std::nullopt;
  // TPROXY leaves a connection the address that it was made to.
  int transparent = 1;
  socklen_t length = sizeof transparent;
  ::getsockopt(listener, v4 ? SOL_IP : SOL_IPV6, v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT,
               &transparent, &length);
  return transparent != 0 ? std::nullopt : std::optional(address);
}

std::optional<Address> originalDestination(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  auto* out = reinterpret_cast<sockaddr*>(&storage);
  if (::getsockopt(fd, SOL_IP, kIp4OriginalDst, out, &length) == 0)
    return Address::fromSockaddr(out, length);
  length = sizeof storage;
  if (::getsockopt(fd, SOL_IPV6, kIp6OriginalDst, out, &length) == 0)
    return Address::fromSockaddr(out, length);
  return std::nullopt;
}

// ---- accepting ----

Acceptor::Acceptor(event::Loop& loop, base::Fd listener, Callback callback,
                   std::uint32_t accepts_per_turn)
    : listener_(std::move(listener)),
      local_(localAddress(listener_.get())),
      callback_(std::move(callback)),
      accepts_per_turn_(accepts_per_turn),
      retry_(loop, [this] { acceptAll(); }),
      watch_(loop, listener_.get(), [this](std::uint32_t) { acceptAll(); }) {}

Acceptor::~Acceptor() = default;

void Acceptor::pause() { paused_ = true; }

void Acceptor::resume() {
  if (!paused_) return;
  paused_ = false;
  retry_.arm({});
}

void Acceptor::acceptAll() {
  if (!paused_ && acceptSome(accepts_per_turn_) && !paused_) retry_.arm({});
}

void Acceptor::acceptQueued() {
  constexpr std::uint32_t kBacklogMax = 65536;
  if (!paused_) (void)acceptSome(kBacklogMax);
}

bool Acceptor::acceptSome(std::uint32_t most) {
  for (std::uint32_t i = 0; i < most && !paused_; ++i) {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    int fd = ::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&storage), &length,
                       SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        retry_.arm(std::chrono::milliseconds(100));
      return false;
    }
    callback_(base::Fd(fd), Address::fromSockaddr(reinterpret_cast<sockaddr*>(&storage), length));
  }
  return true;
}

}  // namespace postern::net
