#include "network/splice_join.h"

#include "base/log.h"

#include <cerrno>
#include <chrono>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postern::network {
namespace {

base::LogComponent join_log("relay");

constexpr std::size_t kPipeBytes = 65536;
constexpr int kRoundsPerTurn = 16;  // then others come first
constexpr std::chrono::seconds kConnectWithin{10};

void setOptions(int fd) {
  const int yes = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));  // ends what died in silence
}

bool isPassing(int error) { return error == EAGAIN || error == EINTR; }

}  // namespace

void resetConnection(base::Fd fd) {
  const linger now{1, 0};
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

struct SpliceJoin::Pair : event::Deferred {
  // One direction. Bytes in its pipe are on the way; it has a pipe only then.
  struct Way {
    Pipe pipe;
    std::size_t bytes = 0;
    bool ended = false;      // nothing more to read
    bool shut_down = false;  // and that was passed on
  };
  enum class Moved : unsigned char { kWaits, kMore, kFailed };

  Pair(SpliceJoin& owner, std::uint64_t id, base::Fd fd)
      : join(owner), key(id), first(std::move(fd)), timer(owner.loop_, [this] { timedOut(); }) {}

  void timedOut() {
    if (joined) return pump();
    join.finish(this, true);
  }

  // The connection is being made by the kernel.
  void watchConnecting(base::Fd fd) {
    second = std::move(fd);
    timer.arm(kConnectWithin);
    second_watch =
        event::FdWatch(join.loop_, second.get(), [this](std::uint32_t) { secondReady(); });
    watchFirst();
  }

  void watchFirst() {
    first_watch = event::FdWatch(join.loop_, first.get(), [this](std::uint32_t) { firstReady(); });
  }

  void firstReady() {
    if (joined) return pump();
    // It may send before we are connected; when it failed there is no use in going on.
    int error = 0;
    socklen_t length = sizeof(error);
    ::getsockopt(first.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) join.finish(this, true);
  }

  void secondReady() {
    if (joined) return pump();
    int error = 0;
    socklen_t length = sizeof(error);
    ::getsockopt(second.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return join.finish(this, true);
    sockaddr_storage peer{};
    length = sizeof(peer);
    if (::getpeername(second.get(), reinterpret_cast<sockaddr*>(&peer), &length) != 0) return;
    start();
  }

  void connected(base::Fd fd) {
    second = std::move(fd);
    second_watch =
        event::FdWatch(join.loop_, second.get(), [this](std::uint32_t) { secondReady(); });
    start();
  }

  void start() {
    joined = true;
    timer.cancel();
    setOptions(first.get());
    setOptions(second.get());
    pump();
  }

  void pump() {
    const Moved there = move(forth, first.get(), second.get());
    const Moved here = there == Moved::kFailed ? there : move(back, second.get(), first.get());
    if (here == Moved::kFailed) return join.finish(this, true);
    if (forth.shut_down && back.shut_down) return join.finish(this, false);
    if (there == Moved::kMore || here == Moved::kMore) timer.arm({});
  }

  Moved move(Way& way, int from, int to) {
    for (int round = 0; round < kRoundsPerTurn; ++round) {
      if (way.bytes == 0 && !way.ended) {
        if (!way.pipe.read && !join.takePipe(way.pipe)) return Moved::kFailed;
        const ssize_t got = ::splice(from, nullptr, way.pipe.write.get(), nullptr, kPipeBytes,
                                     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (got <= 0) {
          const int error = got < 0 ? errno : 0;
          join.givePipe(std::move(way.pipe), true);
          way.pipe = {};
          if (got < 0) return isPassing(error) ? Moved::kWaits : Moved::kFailed;
          way.ended = true;
        } else {
          way.bytes = static_cast<std::size_t>(got);
        }
      }
      while (way.bytes > 0) {
        const ssize_t put = ::splice(way.pipe.read.get(), nullptr, to, nullptr, way.bytes,
                                     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (put <= 0) return put < 0 && isPassing(errno) ? Moved::kWaits : Moved::kFailed;
        way.bytes -= static_cast<std::size_t>(put);
      }
      if (way.ended) {
        if (!way.shut_down) ::shutdown(to, SHUT_WR);
        way.shut_down = true;
        return Moved::kWaits;
      }
    }
    return Moved::kMore;
  }

  SpliceJoin& join;
  const std::uint64_t key;
  base::Fd first;
  base::Fd second;
  bool joined = false;
  Way forth;
  Way back;
  event::Timer timer;
  event::FdWatch first_watch;
  event::FdWatch second_watch;
};

SpliceJoin::SpliceJoin(event::Loop& loop, std::size_t pairs_max)
    : loop_(loop), pairs_max_(pairs_max) {}

SpliceJoin::~SpliceJoin() {
  for (auto& [key, pair] : pairs_) {
    resetConnection(std::move(pair->first));
    resetConnection(std::move(pair->second));
  }
}

SpliceJoin::Pair* SpliceJoin::add(base::Fd first) {
  if (pairs_.size() >= pairs_max_) {
    join_log.warning("{} connections are the most: one is refused", pairs_max_);
    resetConnection(std::move(first));
    return nullptr;
  }
  const std::uint64_t key = ++next_;
  return (pairs_[key] = std::make_unique<Pair>(*this, key, std::move(first))).get();
}

void SpliceJoin::connect(base::Fd first, const net::Address& to) {
  Pair* pair = add(std::move(first));
  if (pair == nullptr) return;
  base::Fd fd(::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || (::connect(fd.get(), to.sockaddrPtr(), to.length()) != 0 && errno != EINPROGRESS)) {
    return finish(pair, true);
  }
  pair->watchConnecting(std::move(fd));
}

void SpliceJoin::connect(base::Fd first, const net::Address& to, SocketProvider& provider) {
  Pair* pair = add(std::move(first));
  if (pair == nullptr) return;
  pair->watchFirst();
  provider.connect(to, [this, key = pair->key, to](base::Result<base::Fd> fd) {
    const auto at = pairs_.find(key);
    if (at == pairs_.end()) return;
    if (!fd) {
      join_log.debug("to {}: {}", to.toString(), fd.error().message());
      return finish(at->second.get(), true);
    }
    at->second->connected(std::move(*fd));
  });
}

void SpliceJoin::finish(Pair* pair, bool reset) {
  const auto at = pairs_.find(pair->key);
  pair->first_watch.reset();
  pair->second_watch.reset();
  pair->timer.cancel();
  if (reset) {
    resetConnection(std::move(pair->first));
    resetConnection(std::move(pair->second));
  }
  pair->first.reset();
  pair->second.reset();
  for (Pair::Way* way : {&pair->forth, &pair->back}) {
    if (way->pipe.read) givePipe(std::move(way->pipe), way->bytes == 0);
  }
  loop_.destroyLater(std::move(at->second));
  pairs_.erase(at);
}

bool SpliceJoin::takePipe(Pipe& pipe) {
  if (!pipes_.empty()) {
    pipe = std::move(pipes_.back());
    pipes_.pop_back();
    return true;
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  pipe.read = base::Fd(ends[0]);
  pipe.write = base::Fd(ends[1]);
  return true;
}

void SpliceJoin::givePipe(Pipe pipe, bool empty) {
  if (empty && pipes_.size() < kIdlePipesMax) pipes_.push_back(std::move(pipe));
}

}  // namespace postern::network
