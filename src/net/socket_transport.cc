// The plain transport: a connected (or connecting) stream socket.
#include "net/socket.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace postern::net {
namespace {

constexpr int kIovecsPerWrite = 64;
constexpr int kBlocksPerRead = 3;  // of 16 KiB, after one that was filled

class SocketTransport final : public Transport {
 public:
  SocketTransport(event::Loop& loop, base::Fd fd, Address local, Address remote)
      : fd_(std::move(fd)),
        again_(loop, [this] { onAgain(); }),
        local_(std::move(local)),
        remote_(std::move(remote)),
        watch_(loop, fd_.get(), [this](std::uint32_t ready) { onReady(ready); }) {}

  SocketTransport(event::Loop& loop, const Address& to, const ConnectOptions& options)
      : again_(loop, [this] { onAgain(); }), remote_(to) {
    startConnect(loop, options);
  }

  void setObserver(TransportObserver* observer) override { observer_ = observer; }

  IoResult read(base::Buffer& into, std::size_t max) override {
    if (read_failed_) return {IoStatus::kError, 0};
    std::size_t total = 0;
    while (total < max) {
      // Most messages fit one block. After a full one more will follow: several in one call.
      const bool bulk = total > 0;
      std::size_t room = max - total;
      const ssize_t n = bulk ? readBlocks(into, room) : readBlock(into, room);
      if (n > 0) {
        total += static_cast<std::size_t>(n);
        countRead(static_cast<std::size_t>(n));
        // A short read empties the socket: the next report comes with new bytes. Not so at the
        // peer's end, whose report may already have come: then one more read is due.
        if (static_cast<std::size_t>(n) < room && !hangup_) return {IoStatus::kOk, total};
        continue;
      }
      if (n == 0) return total > 0 ? endAfter(total) : IoResult{IoStatus::kEof, 0};
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return {total > 0 ? IoStatus::kOk : IoStatus::kAgain, total};
      // The kernel tells an error once.
      error_ = base::errnoError("read", errno);
      read_failed_ = true;
      return total > 0 ? endAfter(total) : IoResult{IoStatus::kError, 0};
    }
    return {IoStatus::kOk, total};
  }

  IoResult write(base::Buffer& from) override {
    if (connecting_) return {IoStatus::kAgain, 0};
    std::size_t total = 0;
    while (!from.empty()) {
      iovec pieces[kIovecsPerWrite];
      msghdr message{};
      message.msg_iov = pieces;
      message.msg_iovlen = static_cast<std::size_t>(from.peek(pieces, kIovecsPerWrite));
      // The kernel takes one piece faster without the list.
      const ssize_t n = message.msg_iovlen == 1
                            ? ::send(fd_.get(), pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL)
                            : ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
      if (n >= 0) {
        from.drain(static_cast<std::size_t>(n));
        total += static_cast<std::size_t>(n);
        countWritten(static_cast<std::size_t>(n));
        continue;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        write_blocked_ = true;
        return {IoStatus::kAgain, total};
      }
      error_ = base::errnoError("write", errno);
      return {IoStatus::kError, total};
    }
    return {IoStatus::kOk, total};
  }

  void awaitWritable() override { write_blocked_ = true; }
  void resumeRead() override {
    again_readable_ = true;
    again_.arm({});
  }
  void shutdownWrite() override {
    if (connecting_) return;
    ::shutdown(fd_.get(), SHUT_WR);
  }
  void resetOnClose() override {
    linger abort{};
    abort.l_onoff = 1;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  }
  base::Error error() const override { return error_; }
  const Address& local() const override { return local_; }
  const Address& remote() const override { return remote_; }
  const PeerInfo& peer() const override {
    static const PeerInfo kPlain;
    return kPlain;
  }
  int fd() const override { return fd_.get(); }

 private:
  void startConnect(event::Loop& loop, const ConnectOptions& options) {
    fd_ = base::Fd(::socket(remote_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    connecting_ = true;
    if (!options.first_bytes.empty())
      greeting_ = std::make_unique<base::Buffer>(options.first_bytes);
    if (!fd_) return failLater(base::errnoError("socket", errno));
    int one = 1;
    if (remote_.isIp() && options.no_delay)
      ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (options.mark != 0 &&
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_MARK, &options.mark, sizeof options.mark) != 0) {
      return failLater(base::errnoError("SO_MARK", errno));
    }
    if (options.bind) {
      ::setsockopt(fd_.get(), SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
      if (::bind(fd_.get(), options.bind->sockaddrPtr(), options.bind->length()) != 0) {
        return failLater(base::errnoError("bind", errno));
      }
    }
    int result = ::connect(fd_.get(), remote_.sockaddrPtr(), remote_.length());
    if (result != 0 && errno != EINPROGRESS) return failLater(base::errnoError("connect", errno));
    watch_ = event::FdWatch(loop, fd_.get(), [this](std::uint32_t ready) { onReady(ready); });
  }

  void failLater(base::Error error) {
    error_ = error;
    again_failed_ = true;
    again_.arm({});
  }

  /// One read of at most `room` bytes; `room` becomes what was offered to the kernel.
  ssize_t readBlock(base::Buffer& into, std::size_t& room) {
    char* out = nullptr;
    room = std::min(into.reserve(out), room);
    const ssize_t n = ::recv(fd_.get(), out, room, 0);
    into.commit(n > 0 ? static_cast<std::size_t>(n) : 0);
    return n;
  }

  ssize_t readBlocks(base::Buffer& into, std::size_t& room) {
    base::Buffer blocks[kBlocksPerRead];
    iovec pieces[kBlocksPerRead];
    std::size_t offered = 0;
    int count = 0;
    for (; count < kBlocksPerRead && offered < room; ++count) {
      char* out = nullptr;
      const std::size_t here = std::min(blocks[count].reserve(out), room - offered);
      pieces[count] = {.iov_base = out, .iov_len = here};
      offered += here;
    }
    room = offered;
    const ssize_t n = ::readv(fd_.get(), pieces, count);
    const int error = errno;
    std::size_t left = n > 0 ? static_cast<std::size_t>(n) : 0;
    for (int i = 0; i < count; ++i) {
      const std::size_t here = std::min(left, pieces[i].iov_len);
      blocks[i].commit(here);
      left -= here;
      into.append(blocks[i]);
    }
    errno = error;
    return n;
  }

  /// Bytes came before the end or error: give them first and report the end in a later turn.
  IoResult endAfter(std::size_t total) {
    resumeRead();
    return {IoStatus::kOk, total};
  }

  void onReady(std::uint32_t ready) {
    if (connecting_) {
      finishConnect(ready);
      return;
    }
    if (ready & event::kHangup) hangup_ = true;
    bool writable = (ready & event::kWritable) != 0 && std::exchange(write_blocked_, false);
    if (writable && (ready & event::kReadable))
      resumeRead();  // one upward call per turn: the other one follows
    if (observer_ == nullptr) return;
    if (writable) {
      observer_->onWritable();
    } else if (ready & event::kReadable) {
      observer_->onReadable();
    }
  }

  void finishConnect(std::uint32_t ready) {
    if ((ready & (event::kWritable | event::kHangup)) == 0) return;
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      error_ = base::errnoError("connect", error);
      if (observer_ != nullptr) observer_->onError(error_);
      return;
    }
    Address peer = peerAddress(fd_.get());
    if (peer.length() == 0 && !remote_.isUnix())
      return;  // still connecting: an early report of a fresh socket
    if (greeting_ != nullptr && !greet()) return;
    connecting_ = false;
    local_ = localAddress(fd_.get());
    // Bytes, and the peer's end, may have come with the same report.
    hangup_ = (ready & event::kHangup) != 0;
    if (ready & event::kReadable) resumeRead();
    if (observer_ != nullptr) observer_->onConnected();
  }

  /// Sends what comes before everything else; false: not all of it is out, or it failed.
  bool greet() {
    while (!greeting_->empty()) {
      const std::string_view bytes = greeting_->front();
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n >= 0) {
        greeting_->drain(static_cast<std::size_t>(n));
      } else if (errno == EAGAIN) {
        return false;  // the next report goes on
      } else if (errno != EINTR) {
        error_ = base::errnoError("write", errno);
        if (observer_ != nullptr) observer_->onError(error_);
        return false;
      }
    }
    greeting_.reset();
    return true;
  }

  void onAgain() {
    bool failed = std::exchange(again_failed_, false);
    bool readable = std::exchange(again_readable_, false);
    if (observer_ == nullptr) return;
    if (failed) {
      observer_->onError(error_);
    } else if (readable) {
      observer_->onReadable();
    }
  }

  base::Fd fd_;
  event::Timer again_;
  Address local_;
  Address remote_;
  TransportObserver* observer_ = nullptr;
  base::Error error_;
  std::unique_ptr<base::Buffer> greeting_;  // what a connection begins with
  bool connecting_ = false;
  bool write_blocked_ = false;
  bool hangup_ = false;
  bool read_failed_ = false;  // with error_
  bool again_readable_ = false;
  bool again_failed_ = false;
  event::FdWatch watch_;
};

}  // namespace

std::unique_ptr<Transport> makeSocketTransport(event::Loop& loop, base::Fd connected) {
  Address local = localAddress(connected.get());
  if (local.isIp()) {
    int one = 1;
    ::setsockopt(connected.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  Address remote = peerAddress(connected.get());
  return makeAcceptedTransport(loop, std::move(connected), std::move(local), std::move(remote));
}

std::unique_ptr<Transport> makeAcceptedTransport(event::Loop& loop, base::Fd accepted,
                                                 Address local, Address remote) {
  return std::make_unique<SocketTransport>(loop, std::move(accepted), std::move(local),
                                           std::move(remote));
}

std::unique_ptr<Transport> connectTransport(event::Loop& loop, const Address& to,
                                            const ConnectOptions& options) {
  return std::make_unique<SocketTransport>(loop, to, options);
}

}  // namespace postern::net
