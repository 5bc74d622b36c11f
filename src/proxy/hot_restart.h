// Hot restart: a process takes over the listening sockets, the admin port and the counters of the
// one before it, which then drains and ends. Main thread.
//
// new                              old (serves until kServing)
//  connect, kHello        ────▶
//                         ◀────    kWelcome, sockets, kReady; statistics now and each second
//  reads its configuration, binds what was not handed over
//  kAdminTaken            ────▶    lets go of the admin port
//  all is initialized, accepts
//  kServing               ────▶    stops accepting, drains, ends when nothing is left
//  parent-shutdown-time later
//  kEnd                   ────▶    ends
//
// When the new process ends before kServing, the old one goes on as if nothing had been.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "event/loop.h"
#include "proxy/bound_sockets.h"
#include "proxy/hot_restart_channel.h"
#include "proxy/options.h"

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::proxy {

/// What the old process does for its successor.
class Replaceable {
 public:
  struct Socket {
    std::string key;
    base::Fd fd;
  };
  virtual ~Replaceable() = default;
  /// Copies of the listening sockets; those of one key in the order of their workers.
  virtual base::Result<std::vector<Socket>> socketsToShare() = 0;
  /// The admin port's, with the address its configuration named; none without one.
  virtual std::optional<Socket> adminToShare() = 0;
  virtual std::string statsToShare() = 0;
  /// When the first of all these processes started, in seconds since 1970.
  virtual std::int64_t firstStarted() const = 0;
  /// The successor serves the admin port; false: it is gone, serve it again.
  virtual void adminTaken(bool taken) = 0;
  /// The successor accepts: drain.
  virtual void replaced() = 0;
  /// The successor is gone after replaced(): nobody will call endReplaced().
  virtual void successorLost() = 0;
  /// The successor's patience is over.
  virtual void endReplaced() = 0;
};

/// Waits for the next process, one at a time.
class Successor {
 public:
  /// Takes the name of this base id and epoch. Null when hot restart is off, or when it was not
  /// asked for and the name is another's.
  static base::ConfigResult<std::unique_ptr<Successor>> listen(event::Loop& loop,
                                                               const Options& options,
                                                               Replaceable& owner);
  ~Successor();
  Successor(const Successor&) = delete;
  Successor& operator=(const Successor&) = delete;
  std::uint32_t baseId() const { return base_id_; }
  /// Sends the last statistics; waits a moment until they are with the kernel.
  void farewell();

 private:
  Successor(event::Loop& loop, Replaceable& owner, std::string name, std::uint32_t base_id,
            base::Fd listener);
  void accept();
  void receive();
  void welcome(const Packet& hello);
  void refuse(std::string why);
  void queueStats(bool last);
  void queue(PacketKind kind, std::string text, base::Fd fd = {});
  void flush();
  void lost();

  event::Loop& loop_;
  Replaceable& owner_;
  const std::string name_;
  const std::uint32_t base_id_;
  base::Fd listener_;
  event::FdWatch listener_watch_;
  base::Fd socket_;
  event::FdWatch watch_;
  event::Timer stats_;
  std::deque<Packet> out_;
  bool admin_taken_ = false;
  bool replaced_ = false;
};

/// The process before, as its successor sees it.
class Predecessor {
 public:
  /// Connects and takes the sockets; waits for them. A process that dies meanwhile leaves what it
  /// has sent. Null when there is none and that was said to be fine.
  static base::ConfigResult<std::unique_ptr<Predecessor>> take(const Options& options);
  Predecessor(const Predecessor&) = delete;
  Predecessor& operator=(const Predecessor&) = delete;

  InheritedSockets& sockets() { return sockets_; }
  /// The admin socket, if it was that of this address.
  base::Fd takeAdmin(const net::Address& address);
  std::int64_t firstStarted() const { return first_started_; }
  /// Calls back with statistics as they come, and with null when the process has gone.
  using OnStats = base::Function<void(const std::string* text)>;
  void follow(event::Loop& loop, OnStats on_stats);
  void adminTaken() { tell(PacketKind::kAdminTaken); }
  /// It is to drain now, and to end after so long.
  void serving(event::Loop& loop, base::Duration shutdown_after);
  bool alive() const { return static_cast<bool>(socket_); }

 private:
  explicit Predecessor(base::Fd socket) : socket_(std::move(socket)) {}
  base::ConfigResult<void> receiveSockets(const std::string& name);
  void receive();
  void tell(PacketKind kind);

  base::Fd socket_;
  InheritedSockets sockets_;
  std::string admin_key_;
  base::Fd admin_;
  std::int64_t first_started_ = 0;
  std::string stats_text_;
  OnStats on_stats_;
  event::FdWatch watch_;
  std::unique_ptr<event::Timer> shutdown_;
};

}  // namespace postern::proxy
