// Loads that wrk and h2load do not make.
// usage: load open PORT PATH CONNECTIONS RATE SECONDS [close]
//          HTTP/1.1 requests at fixed times, whether answers came or not; latency counts from the planned time, so a stall is seen
//          by every request it delays. `close`: each request on a connection of its own. Prints
//          "requests ok failed p50 p99 p999" (microseconds).
//        load pull PORT PATH BYTES TIMES
//          reads an answer of at least BYTES and drops it in the kernel. Prints "bytes seconds".
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;

int connectTo(int port, int flags) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM | flags, 0);
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
    ::close(fd);
    return -1;
  }
  return fd;
}

struct Connection {
  int fd = -1;
  bool busy = false;
  bool in_body = false;
  std::int64_t body_left = 0;
  std::string head;
  Clock::time_point planned;
};

class OpenLoop {
 public:
  OpenLoop(int port, const std::string& path, int connections, double rate, double seconds, bool close)
      : port_(port), close_(close), interval_(1e9 / rate), total_(static_cast<std::size_t>(rate * seconds)),
        connections_(static_cast<std::size_t>(connections)) {
    request_ = "GET " + path + " HTTP/1.1\r\nHost: bench.example\r\n" + (close ? "Connection: close\r\n" : "") + "\r\n";
    for (Connection& each : connections_) {
      if (!close_) open(each);
      idle_.push_back(&each);
    }
  }

  void run() {
    start_ = Clock::now();
    const auto give_up = start_ + std::chrono::nanoseconds(static_cast<std::int64_t>(interval_ * static_cast<double>(total_))) +
                         std::chrono::seconds(5);
    while (done_ < total_ && Clock::now() < give_up) {
      issueDue();
      epoll_event events[256];
      timespec wait{0, waiting_.empty() ? untilNext() : 100'000};
      const int count = ::epoll_pwait2(epoll_, events, 256, &wait, nullptr);
      for (int i = 0; i < count; ++i) ready(*static_cast<Connection*>(events[i].data.ptr));
    }
    failed_ += total_ - done_;
    std::sort(latency_.begin(), latency_.end());
    auto at = [&](double share) {
      if (latency_.empty()) return 0.0;
      return latency_[std::min(latency_.size() - 1, static_cast<std::size_t>(share * static_cast<double>(latency_.size())))];
    };
    std::printf("%zu %zu %zu %.1f %.1f %.1f\n", total_, ok_, failed_, at(0.5), at(0.99), at(0.999));
  }

 private:
  long untilNext() const {
    if (planned_ >= total_) return 1'000'000;
    const auto due = start_ + std::chrono::nanoseconds(static_cast<std::int64_t>(interval_ * static_cast<double>(planned_)));
    return std::clamp<long>(std::chrono::duration_cast<std::chrono::nanoseconds>(due - Clock::now()).count(), 0, 1'000'000);
  }

  void open(Connection& connection) {
    connection.fd = connectTo(port_, SOCK_NONBLOCK);
    if (connection.fd < 0) return;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (close_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
    event.data.ptr = &connection;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
  }

  void issueDue() {
    const auto now = Clock::now();
    const auto due = static_cast<std::size_t>(static_cast<double>((now - start_).count()) / interval_) + 1;
    for (; planned_ < std::min(due, total_); ++planned_) {
      waiting_.push_back(start_ + std::chrono::nanoseconds(static_cast<std::int64_t>(interval_ * static_cast<double>(planned_))));
    }
    while (!waiting_.empty() && !idle_.empty()) {
      Connection& connection = *idle_.back();
      idle_.pop_back();
      connection.planned = waiting_.front();
      waiting_.pop_front();
      connection.busy = true;
      if (connection.fd < 0) open(connection);
      if (!close_) send(connection);
    }
  }

  void send(Connection& connection) {
    const ssize_t n = ::send(connection.fd, request_.data(), request_.size(), MSG_NOSIGNAL);
    if (n != static_cast<ssize_t>(request_.size())) end(connection, false);
  }

  void ready(Connection& connection) {
    if (connection.fd < 0) return;
    if (close_ && connection.busy && connection.head.empty() && !connection.in_body && !sent(connection)) return;
    char bytes[65536];
    for (;;) {
      const ssize_t n = ::recv(connection.fd, bytes, sizeof bytes, 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) return connection.busy ? end(connection, false) : drop(connection);
      if (!connection.busy) return drop(connection);
      if (take(connection, std::string_view(bytes, static_cast<std::size_t>(n)))) return;
      if (static_cast<std::size_t>(n) < sizeof bytes) return;
    }
  }

  /// With `close`: the request goes out when the connection stands. True when it has been sent before.
  bool sent(Connection& connection) {
    if (connection.body_left == -1) return true;
    connection.body_left = -1;
    send(connection);
    return false;
  }

  /// True when the answer is complete.
  bool take(Connection& connection, std::string_view bytes) {
    if (!connection.in_body) {
      connection.head.append(bytes);
      const std::size_t end_of_head = connection.head.find("\r\n\r\n");
      if (end_of_head == std::string::npos) return false;
      const char* length = ::strcasestr(connection.head.c_str(), "\r\ncontent-length:");
      connection.body_left = length == nullptr ? 0 : std::atoll(length + 17);
      connection.in_body = true;
      connection.body_left -= static_cast<std::int64_t>(connection.head.size() - end_of_head - 4);
    } else {
      connection.body_left -= static_cast<std::int64_t>(bytes.size());
    }
    if (connection.body_left > 0) return false;
    end(connection, connection.head.compare(0, 10, "HTTP/1.1 2") == 0);
    return true;
  }

  void end(Connection& connection, bool ok) {
    ++done_;
    ok ? ++ok_ : ++failed_;
    if (ok) latency_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - connection.planned).count());
    connection.busy = connection.in_body = false;
    connection.body_left = 0;
    connection.head.clear();
    if (close_ || !ok) drop(connection);
    idle_.push_back(&connection);
  }

  void drop(Connection& connection) {
    if (connection.fd >= 0) ::close(connection.fd);
    connection.fd = -1;
  }

  int port_;
  bool close_;
  double interval_;  // nanoseconds
  std::size_t total_;
  int epoll_ = ::epoll_create1(0);
  std::string request_;
  std::vector<Connection> connections_;
  std::vector<Connection*> idle_;
  std::deque<Clock::time_point> waiting_;
  std::vector<double> latency_;
  Clock::time_point start_;
  std::size_t planned_ = 0;
  std::size_t done_ = 0;
  std::size_t ok_ = 0;
  std::size_t failed_ = 0;
};

int pull(int port, const std::string& path, std::int64_t bytes, int times) {
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n";
  const auto start = Clock::now();
  std::int64_t total = 0;
  for (int i = 0; i < times; ++i) {
    const int fd = connectTo(port, 0);
    if (fd < 0 || ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) return 1;
    std::int64_t got = 0;
    ssize_t n = 0;
    while ((n = ::recv(fd, nullptr, 4 << 20, MSG_TRUNC)) > 0) got += n;
    ::close(fd);
    if (got < bytes) return 1;
    total += got;
  }
  std::printf("%lld %.6f\n", static_cast<long long>(total), std::chrono::duration<double>(Clock::now() - start).count());
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view mode = count > 1 ? arguments[1] : "";
  if (mode == "open" && count >= 7) {
    OpenLoop loop(std::atoi(arguments[2]), arguments[3], std::atoi(arguments[4]), std::atof(arguments[5]), std::atof(arguments[6]),
                  count > 7);
    loop.run();
    return 0;
  }
  if (mode == "pull" && count == 6) return pull(std::atoi(arguments[2]), arguments[3], std::atoll(arguments[4]), std::atoi(arguments[5]));
  std::fprintf(stderr, "usage: load open PORT PATH CONNECTIONS RATE SECONDS [close] | load pull PORT PATH BYTES TIMES\n");
  return 2;
}
