// The side of the process that is replaced.
#include "base/random.h"
#include "base/strings.h"
#include "proxy/hot_restart.h"
#include "proxy/logs.h"

#include <algorithm>
#include <cerrno>

#include <poll.h>
#include <unistd.h>

namespace postern::proxy {

namespace {

constexpr std::chrono::seconds kStatsEvery{1};
constexpr std::size_t kWaitingPacketsMax = 64;  // more: the successor does not read
constexpr int kFarewellMilliseconds = 200;
constexpr int kDynamicIdTries = 100;
constexpr std::uint32_t kDynamicIdMax = 0x7fffffff;

}  // namespace

base::ConfigResult<std::unique_ptr<Successor>> Successor::listen(event::Loop& loop,
                                                                 const Options& options,
                                                                 Replaceable& owner) {
  if (options.disable_hot_restart) return nullptr;
  base::Random random;
  std::uint32_t base_id = options.base_id;
  for (int i = 0; i < kDynamicIdTries; ++i) {
    if (options.use_dynamic_base_id)
      base_id = static_cast<std::uint32_t>(random.below(kDynamicIdMax));
    const std::string name = hotRestartName(options.socket_path, base_id, options.restart_epoch);
    auto listener = listenPackets(name, options.socket_mode);
    if (listener) {
      return std::unique_ptr<Successor>(
          new Successor(loop, owner, name, base_id, std::move(*listener)));
    }
    if (!options.hot_restart_asked) {
      kMainLog.debug("no hot restart: {} is taken", name);
      return nullptr;
    }
    if (options.use_dynamic_base_id) continue;
    return base::failConfig("--base-id", "a process with --base-id " + std::to_string(base_id) +
                                             " and --restart-epoch " +
                                             std::to_string(options.restart_epoch) +
                                             " runs already, or " + name +
                                             " cannot be had: " + listener.error().message());
  }
  return base::failConfig("--use-dynamic-base-id", "found no free base id");
}

Successor::Successor(event::Loop& loop, Replaceable& owner, std::string name, std::uint32_t base_id,
                     base::Fd listener)
    : loop_(loop),
      owner_(owner),
      name_(std::move(name)),
      base_id_(base_id),
      listener_(std::move(listener)),
      listener_watch_(loop, listener_.get(), [this](std::uint32_t) { accept(); }),
      stats_(loop, [this] { queueStats(false); }) {}

Successor::~Successor() {
  if (!name_.starts_with('@')) ::unlink(name_.c_str());
}

void Successor::accept() {
  while (base::Fd socket = acceptPackets(listener_.get())) {
    if (socket_ || replaced_) {
      const char* why = replaced_ ? "this process has been replaced already"
                                  : "another process takes over already";
      (void)sendPacket(socket.get(), {PacketKind::kRefused, why, {}});
      continue;
    }
    socket_ = std::move(socket);
    watch_ = event::FdWatch(loop_, socket_.get(), [this](std::uint32_t ready) {
      if ((ready & event::kWritable) != 0) flush();
      receive();
    });
  }
}

void Successor::receive() {
  while (socket_) {
    auto received = receivePacket(socket_.get());
    if (!received) return lost();
    if (!*received) return;
    switch ((*received)->kind) {
      case PacketKind::kHello:
        welcome(**received);
        break;
      case PacketKind::kAdminTaken:
        admin_taken_ = true;
        owner_.adminTaken(true);
        break;
      case PacketKind::kServing:
        if (std::exchange(replaced_, true)) break;
        kMainLog.info("the next process serves: draining");
        owner_.replaced();
        break;
      case PacketKind::kEnd:
        if (replaced_) return owner_.endReplaced();
        break;
      default:
        return lost();
    }
  }
}

void Successor::welcome(const Packet& hello) {
  if (hello.text != kHotRestartVersion) {
    return refuse("hot restart versions differ: " + std::string(kHotRestartVersion) + " runs, " +
                  hello.text + " starts");
  }
  auto sockets = owner_.socketsToShare();
  if (!sockets) return refuse("sockets cannot be handed over: " + sockets.error().message());
  kMainLog.info("the next process takes over {} listening sockets", sockets->size());
  queue(PacketKind::kWelcome, std::to_string(owner_.firstStarted()));
  for (Replaceable::Socket& each : *sockets)
    queue(PacketKind::kSocket, std::move(each.key), std::move(each.fd));
  if (auto admin = owner_.adminToShare())
    queue(PacketKind::kAdminSocket, std::move(admin->key), std::move(admin->fd));
  queue(PacketKind::kReady, {});
  queueStats(false);
}

void Successor::refuse(std::string why) {
  kMainLog.warning("a process cannot take over: {}", why);
  (void)sendPacket(socket_.get(), {PacketKind::kRefused, std::move(why), {}});
  lost();
}

void Successor::queueStats(bool last) {
  if (!socket_) return;
  if (!last) stats_.arm(kStatsEvery);
  if (!last && out_.size() > kWaitingPacketsMax) return;
  const std::string text = owner_.statsToShare();
  for (std::size_t at = 0; at < text.size(); at += kPacketBytesMax)
    queue(PacketKind::kStats, text.substr(at, kPacketBytesMax));
  queue(PacketKind::kStatsDone, {});
}

void Successor::queue(PacketKind kind, std::string text, base::Fd fd) {
  out_.push_back({kind, std::move(text), std::move(fd)});
  flush();
}

void Successor::flush() {
  while (socket_ && !out_.empty()) {
    const auto sent = sendPacket(socket_.get(), out_.front());
    if (!sent) {
      out_.clear();
      return;  // the end is seen by receive()
    }
    if (!*sent) return;
    out_.pop_front();
  }
}

void Successor::lost() {
  watch_.reset();
  socket_.reset();
  out_.clear();
  stats_.cancel();
  if (replaced_) return owner_.successorLost();
  if (std::exchange(admin_taken_, false)) owner_.adminTaken(false);
  kMainLog.warning("the next process ended before it served: going on");
}

void Successor::farewell() {
  queueStats(true);
  for (int i = 0; i < kFarewellMilliseconds && socket_ && !out_.empty(); ++i) {
    pollfd waits{socket_.get(), POLLOUT, 0};
    if (::poll(&waits, 1, 1) < 0 && errno != EINTR) return;
    flush();
  }
}

}  // namespace postern::proxy
