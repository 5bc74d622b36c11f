// The least a proxy can cost: bytes go from one socket to the other and back, nothing is parsed, each connection of a client has
// one of its own to the origin. Single thread, epoll, edge-triggered. Measured beside the proxies as their lower bound.
// usage: relay LISTEN_PORT ORIGIN_PORT
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

constexpr std::size_t kReadBytes = 65536;

struct End {
  int fd = -1;
  End* other = nullptr;
  std::vector<char> waiting;  // read here, not yet taken by the other side
  std::size_t sent = 0;
  bool dead = false;
};

sockaddr_in loopback(int port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(static_cast<std::uint16_t>(port));
  out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return out;
}

struct Relay {
  int epoll = ::epoll_create1(0);
  std::vector<End*> over;

  End* add(int fd) {
    const int one = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    auto* end = new End;
    end->fd = fd;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = end;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return end;
  }

  void close(End* end) {
    for (End* each : {end, end->other}) {
      if (each->dead) continue;
      each->dead = true;
      ::close(each->fd);
      over.push_back(each);
    }
  }

  bool push(End* from) {
    while (from->sent < from->waiting.size()) {
      const ssize_t n = ::send(from->other->fd, from->waiting.data() + from->sent, from->waiting.size() - from->sent, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno != EAGAIN) close(from);
        return false;
      }
      from->sent += static_cast<std::size_t>(n);
    }
    from->waiting.clear();
    from->sent = 0;
    return true;
  }

  void pull(End* from) {
    static char bytes[kReadBytes];
    while (!from->dead && from->waiting.empty()) {
      const ssize_t n = ::recv(from->fd, bytes, sizeof bytes, 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) return close(from);
      const ssize_t sent = ::send(from->other->fd, bytes, static_cast<std::size_t>(n), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return close(from);
      if (sent < n) from->waiting.assign(bytes + (sent < 0 ? 0 : sent), bytes + n);
      if (static_cast<std::size_t>(n) < sizeof bytes) return;
    }
  }

  void ready(End* end, std::uint32_t events) {
    if (end->dead) return;
    if ((events & EPOLLOUT) != 0 && !end->other->waiting.empty() && push(end->other)) pull(end->other);
    if (!end->dead && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) pull(end);
    if (!end->dead && (events & (EPOLLRDHUP | EPOLLHUP)) != 0 && end->waiting.empty()) close(end);
  }
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: relay LISTEN_PORT ORIGIN_PORT\n");
    return 2;
  }
  const sockaddr_in here = loopback(std::atoi(arguments[1]));
  const sockaddr_in origin = loopback(std::atoi(arguments[2]));
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int one = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 || ::listen(listener, 4096) != 0) {
    std::perror("relay");
    return 1;
  }
  Relay relay;
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(relay.epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    epoll_event events[256];
    const int ready = ::epoll_wait(relay.epoll, events, 256, -1);
    for (int i = 0; i < ready; ++i) {
      if (events[i].data.ptr != nullptr) {
        relay.ready(static_cast<End*>(events[i].data.ptr), events[i].events);
        continue;
      }
      const int client = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
      if (client < 0) continue;
      const int upstream = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      if (::connect(upstream, reinterpret_cast<const sockaddr*>(&origin), sizeof origin) != 0 && errno != EINPROGRESS) {
        ::close(client);
        ::close(upstream);
        continue;
      }
      End* a = relay.add(client);
      End* b = relay.add(upstream);
      a->other = b;
      b->other = a;
    }
    for (End* each : relay.over) delete each;
    relay.over.clear();
  }
}
