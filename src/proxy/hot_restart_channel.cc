#include "proxy/hot_restart_channel.h"

#include "net/address.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::proxy {

namespace {

constexpr int kBacklog = 8;
constexpr int kRefusedMax = 1000;  // at once

base::Result<base::Fd> makeSocket(const net::Address& address) {
  base::Fd out(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out) return base::failErrno("socket");
  if (address.length() == 0) return base::fail(base::Errc::kInvalidArgument, "socket name");
  return out;
}

}  // namespace

std::string hotRestartName(std::string_view path, std::uint32_t base_id, std::uint32_t epoch) {
  return std::string(path) + "_" + std::to_string(base_id) + "_" + std::to_string(epoch);
}

base::Result<base::Fd> listenPackets(const std::string& name, std::uint32_t mode) {
  const net::Address address = net::Address::unixPath(name);
  POSTERN_TRY(base::Fd out, makeSocket(address));
  const bool is_file = !name.starts_with('@');
  // A file that nobody serves is what a killed process left.
  if (is_file && !connectPackets(name) && errno == ECONNREFUSED) ::unlink(name.c_str());
  if (::bind(out.get(), address.sockaddrPtr(), address.length()) != 0)
    return base::failErrno("bind");
  if (is_file && ::chmod(name.c_str(), mode) != 0) return base::failErrno("chmod");
  if (::listen(out.get(), kBacklog) != 0) return base::failErrno("listen");
  return out;
}

base::Result<base::Fd> connectPackets(const std::string& name) {
  const net::Address address = net::Address::unixPath(name);
  POSTERN_TRY(base::Fd out, makeSocket(address));
  if (::connect(out.get(), address.sockaddrPtr(), address.length()) != 0)
    return base::failErrno("connect");
  return out;
}

base::Fd acceptPackets(int listener) {
  // Whoever is refused leaves the next one in the queue, which nobody reports again.
  for (int i = 0; i < kRefusedMax; ++i) {
    base::Fd out(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!out || isSameUser(out.get())) return out;
  }
  return {};
}

bool isSameUser(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == ::geteuid() || peer.uid == 0);
}

base::Result<bool> sendPacket(int socket, const Packet& packet) {
  std::array<iovec, 2> parts{};
  char kind = static_cast<char>(packet.kind);
  std::string text = packet.text;
  parts[0] = {&kind, 1};
  parts[1] = {text.data(), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (packet.fd) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = packet.fd.get();
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  for (;;) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return true;
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return false;
    return base::failErrno("sendmsg");
  }
}

base::Result<std::optional<Packet>> receivePacket(int socket) {
  std::string room(kPacketBytesMax + 1, '\0');
  iovec part{room.data(), room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return std::optional<Packet>();
  if (got < 0) return base::failErrno("recvmsg");
  if (got == 0) return base::fail(base::Errc::kClosed, "the other process has gone");
  Packet out;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    out.fd = base::Fd(fd);
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return base::fail(base::Errc::kProtocol, "packet too long");
  out.kind = static_cast<PacketKind>(room[0]);
  out.text.assign(room, 1, static_cast<std::size_t>(got) - 1);
  return std::optional<Packet>(std::move(out));
}

}  // namespace postern::proxy
