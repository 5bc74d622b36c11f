#include "runtime/channel.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

constexpr std::size_t kHeaderBytes = sizeof(std::uint32_t);
constexpr std::size_t kReadBytes = 65536;
constexpr const char* kFdsField = "_fds";  // how many descriptors belong to the message

}  // namespace

Channel::Channel(event::Loop& loop, base::Fd socket, OnMessage on_message,
                 base::Function<void()> on_closed)
    : socket_(std::move(socket)),
      on_message_(std::move(on_message)),
      on_closed_(std::move(on_closed)) {
  ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
  watch_ = event::FdWatch(loop, socket_.get(), [this](std::uint32_t) { onReady(); });
}

Channel::~Channel() {
  if (destroyed_ != nullptr) *destroyed_ = true;
}

void Channel::onReady() {
  flush();
  if (!socket_) return;
  bool destroyed = false;
  destroyed_ = &destroyed;
  const bool open = receive();
  if (destroyed) return;
  destroyed_ = nullptr;
  if (!open) close();
}

void Channel::close() {
  watch_.reset();
  socket_.reset();
  if (on_closed_) {
    auto closed = std::exchange(on_closed_, nullptr);
    closed();
  }
}

bool Channel::receive() {
  bool* destroyed = destroyed_;
  while (true) {
    std::array<char, kReadBytes> bytes;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMessageFdsMax)> control;
    iovec piece{bytes.data(), bytes.size()};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        input_fds_.emplace_back(fd);
      }
    }
    if (got == 0 || (header.msg_flags & MSG_CTRUNC) != 0) return false;
    input_.append(bytes.data(), static_cast<std::size_t>(got));
    const bool open = deliver();
    if (*destroyed || !open) return false;
  }
}

bool Channel::deliver() {
  bool* destroyed = destroyed_;
  while (input_.size() >= kHeaderBytes) {
    std::uint32_t size = 0;
    std::memcpy(&size, input_.data(), kHeaderBytes);
    if (size > kMessageBytesMax) return false;
    if (input_.size() < kHeaderBytes + size) return true;
    auto body = json::parse(std::string_view(input_).substr(kHeaderBytes, size));
    input_.erase(0, kHeaderBytes + size);
    if (!body || !body->is_object()) return false;
    std::vector<base::Fd> fds;
    const long long count = json::integerAt(*body, kFdsField);
    if (count < 0 || static_cast<std::size_t>(count) > input_fds_.size()) return false;
    for (long long i = 0; i < count; ++i) {
      fds.push_back(std::move(input_fds_.front()));
      input_fds_.pop_front();
    }
    on_message_(*body, std::move(fds));
    if (*destroyed) return false;
  }
  return true;
}

void Channel::send(const json::Json& body, std::vector<base::Fd> fds) {
  if (!socket_) return;
  std::string text;
  if (fds.empty()) {
    text = json::dump(body);
  } else {
    json::Json counted = body;
    counted[kFdsField] = fds.size();
    text = json::dump(counted);
  }
  const auto size = static_cast<std::uint32_t>(text.size());
  Outgoing out;
  out.bytes.assign(reinterpret_cast<const char*>(&size), kHeaderBytes);
  out.bytes += text;
  out.fds = std::move(fds);
  output_.push_back(std::move(out));
  flush();
}

// A send that fails for good is noticed by the reader: the kernel reports a hang-up too.
void Channel::flush() {
  while (!output_.empty() && socket_) {
    Outgoing& out = output_.front();
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMessageFdsMax)> control{};
    iovec piece{out.bytes.data() + out.sent, out.bytes.size() - out.sent};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    if (!out.fds.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = CMSG_SPACE(sizeof(int) * out.fds.size());
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * out.fds.size());
      for (std::size_t i = 0; i < out.fds.size(); ++i) {
        const int fd = out.fds[i].get();
        std::memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
      }
    }
    const ssize_t sent = ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return;
    out.fds.clear();
    out.sent += static_cast<std::size_t>(sent);
    if (out.sent == out.bytes.size()) output_.pop_front();
  }
}

}  // namespace postern::runtime
