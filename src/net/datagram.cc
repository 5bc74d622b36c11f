#include "net/datagram.h"

#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace postern::net {
namespace {

constexpr std::size_t kControlBytes = CMSG_SPACE(sizeof(in6_pktinfo));

/// The destination that came with a datagram.
void readDestination(msghdr& message, const Address& bound, Address& out) {
  out = bound;
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr;
       each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_PKTINFO) {
      in_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(each), sizeof info);
      sockaddr_in four{};
      four.sin_family = AF_INET;
      four.sin_addr = info.ipi_addr;
      out = Address::fromSockaddr(reinterpret_cast<const sockaddr*>(&four), sizeof four);
      out.setPort(bound.port());
    } else if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(each), sizeof info);
      sockaddr_in6 six{};
      six.sin6_family = AF_INET6;
      six.sin6_addr = info.ipi6_addr;
      out = Address::fromSockaddr(reinterpret_cast<const sockaddr*>(&six), sizeof six);
      out.setPort(bound.port());
    }
  }
}

template <class Info>
void writeControl(msghdr& message, char* room, int level, int type, const Info& info) {
  message.msg_control = room;
  message.msg_controllen = CMSG_SPACE(sizeof info);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(sizeof info);
  std::memcpy(CMSG_DATA(header), &info, sizeof info);
}

}  // namespace

void tellDestinations(int fd) {
  const int one = 1;
  // The one of the other family fails, which is meant.
  (void)::setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
  (void)::setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one);
}

IoStatus receiveDatagram(int fd, char* into, std::size_t size, const Address& bound,
                         Datagram& out) {
  sockaddr_storage peer{};
  iovec piece{into, size};
  alignas(cmsghdr) char control[2 * kControlBytes];
  msghdr message{};
  message.msg_name = &peer;
  message.msg_namelen = sizeof peer;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(fd, &message, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN ? IoStatus::kAgain : IoStatus::kError;
  out.bytes = static_cast<std::size_t>(got);
  out.peer = Address::fromSockaddr(reinterpret_cast<const sockaddr*>(&peer), message.msg_namelen);
  readDestination(message, bound, out.local);
  return IoStatus::kOk;
}

bool sendDatagram(int fd, std::string_view bytes, const Address& to, const Address& from) {
  iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[kControlBytes] = {};
  msghdr message{};
  message.msg_name = const_cast<sockaddr*>(to.sockaddrPtr());
  message.msg_namelen = to.length();
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (from.family() == AF_INET && to.family() == AF_INET) {
    in_pktinfo info{};
    info.ipi_spec_dst = reinterpret_cast<const sockaddr_in*>(from.sockaddrPtr())->sin_addr;
    writeControl(message, control, IPPROTO_IP, IP_PKTINFO, info);
  } else if (from.family() == AF_INET6 && to.family() == AF_INET6) {
    in6_pktinfo info{};
    info.ipi6_addr = reinterpret_cast<const sockaddr_in6*>(from.sockaddrPtr())->sin6_addr;
    writeControl(message, control, IPPROTO_IPV6, IPV6_PKTINFO, info);
  }
  ssize_t put = 0;
  do {
    put = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  return put >= 0;
}

base::Result<base::Fd> connectDatagrams(const Address& to) {
  base::Fd fd(::socket(to.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return base::failErrno("socket");
  if (::connect(fd.get(), to.sockaddrPtr(), to.length()) != 0) return base::failErrno("connect");
  return fd;
}

}  // namespace postern::net
