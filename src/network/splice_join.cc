#include "network/splice_join.h"

#include "base/log.h"

#include <cerrno>
#include <chrono>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace postern::network {
namespace {

base::LogComponent join_log("relay");

constexpr std::chrono::seconds kConnectWithin{10};

void setOptions(int fd) {
  const int yes = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));  // ends what died in silence
}

}  // namespace

void resetConnection(base::Fd fd) {
  const linger now{1, 0};
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

struct SpliceJoin::Pair : event::Deferred {
  using Moved = net::SpliceWay::Moved;
  struct Way {
    net::SpliceWay splice;
    bool ended = false;  // and that was passed on
  };

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
    if (forth.ended && back.ended) return join.finish(this, false);
    if (there == Moved::kMore || here == Moved::kMore) timer.arm({});
  }

  Moved move(Way& way, int from, int to) {
    if (way.ended) return Moved::kEnded;
    const Moved moved = way.splice.move(from, to, join.pipes_).moved;
    if (moved == Moved::kNoPipe) return Moved::kFailed;
    if (moved != Moved::kEnded) return moved;
    ::shutdown(to, SHUT_WR);
    way.ended = true;
    return moved;
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
  pair->forth.splice.release();
  pair->back.splice.release();
  loop_.destroyLater(std::move(at->second));
  pairs_.erase(at);
}

}  // namespace postern::network
