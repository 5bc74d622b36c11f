// The side of the process that takes over; hot_restart_successor.cc has the other.
#include "proxy/hot_restart.h"

#include "base/strings.h"
#include "proxy/logs.h"

#include <poll.h>

namespace postern::proxy {

namespace {

constexpr auto kTakeOverMax = std::chrono::seconds(10);
constexpr std::size_t kStatsBytesMax = 256 * 1024 * 1024;

std::string who(const Options& options) {
  return "--base-id " + std::to_string(options.base_id) + " and --restart-epoch " +
         std::to_string(options.restart_epoch - 1);
}

/// False after `until`.
bool waitReadable(int fd, std::chrono::steady_clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waits{fd, POLLIN, 0};
    const int ready = ::poll(&waits, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

}  // namespace

base::ConfigResult<std::unique_ptr<Predecessor>> Predecessor::take(const Options& options) {
  const std::string name =
      hotRestartName(options.socket_path, options.base_id, options.restart_epoch - 1);
  auto socket = connectPackets(name);
  if (!socket) {
    if (options.skip_hot_restart_on_no_parent) {
      kMainLog.warning("no process with {} runs: starting afresh", who(options));
      return nullptr;
    }
    return base::failConfig("--restart-epoch", "no process with " + who(options) +
                                                   " can be reached: " + socket.error().message());
  }
  if (!isSameUser(socket->get())) {
    return base::failConfig("--restart-epoch",
                            "the process with " + who(options) + " is another user's");
  }
  std::unique_ptr<Predecessor> out(new Predecessor(std::move(*socket)));
  (void)sendPacket(out->socket_.get(), {PacketKind::kHello, std::string(kHotRestartVersion), {}});
  POSTERN_TRY_VOID(out->receiveSockets(who(options)));
  return out;
}

base::ConfigResult<void> Predecessor::receiveSockets(const std::string& name) {
  const auto until = std::chrono::steady_clock::now() + kTakeOverMax;
  for (;;) {
    if (!waitReadable(socket_.get(), until)) {
      return base::failConfig("--restart-epoch",
                              "the process with " + name + " did not hand over its sockets");
    }
    auto received = receivePacket(socket_.get());
    if (!received) {
      kMainLog.warning("the process with {} ended while it handed over: {}", name,
                       received.error().message());
      socket_.reset();
      return {};
    }
    if (!*received) continue;
    Packet& packet = **received;
    switch (packet.kind) {
      case PacketKind::kRefused:
        return base::failConfig("--restart-epoch", packet.text);
      case PacketKind::kWelcome:
        first_started_ = base::parseInteger<std::int64_t>(packet.text).value_or(0);
        break;
      case PacketKind::kSocket:
        if (packet.fd) sockets_.add(packet.text, std::move(packet.fd));
        break;
      case PacketKind::kAdminSocket:
        admin_key_ = packet.text;
        admin_ = std::move(packet.fd);
        break;
      case PacketKind::kReady:
        return {};
      default:
        return base::failConfig("--restart-epoch", "the process with " + name + " sent nonsense");
    }
  }
}

base::Fd Predecessor::takeAdmin(const net::Address& address) {
  return address.toString() == admin_key_ ? std::move(admin_) : base::Fd();
}

void Predecessor::follow(event::Loop& loop, OnStats on_stats) {
  on_stats_ = std::move(on_stats);
  if (!socket_) return;
  watch_ = event::FdWatch(loop, socket_.get(), [this](std::uint32_t) { receive(); });
  receive();
}

void Predecessor::receive() {
  while (socket_) {
    auto received = receivePacket(socket_.get());
    if (!received || (*received && stats_text_.size() > kStatsBytesMax)) {
      watch_.reset();
      socket_.reset();
      if (shutdown_ != nullptr) kMainLog.info("the process before has ended");
      return on_stats_(nullptr);
    }
    if (!*received) return;
    if ((*received)->kind == PacketKind::kStats) stats_text_ += (*received)->text;
    if ((*received)->kind == PacketKind::kStatsDone) {
      const std::string text = std::exchange(stats_text_, {});
      on_stats_(&text);
    }
  }
}

void Predecessor::tell(PacketKind kind) {
  if (socket_) (void)sendPacket(socket_.get(), {kind, {}, {}});
}

void Predecessor::serving(event::Loop& loop, base::Duration shutdown_after) {
  if (!socket_) return;
  tell(PacketKind::kServing);
  shutdown_ = std::make_unique<event::Timer>(loop, [this] { tell(PacketKind::kEnd); });
  shutdown_->arm(shutdown_after);
}

}  // namespace postern::proxy
