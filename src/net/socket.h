// Making sockets: listen, connect, accept. All are non-blocking and close-on-exec.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"
#include "net/address.h"
#include "net/transport.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::net {

/// An option of a listening socket as setsockopt() takes it.
struct SocketOption {
  enum class When : unsigned char { kBeforeBind, kAfterBind, kListening };
  int level = 0;
  int name = 0;
  std::string value;
  When when = When::kBeforeBind;
  bool operator==(const SocketOption&) const = default;
  static SocketOption ofInt(int level, int name, int value, When when = When::kBeforeBind);
};

struct ListenOptions {
  int backlog = 1024;
  bool datagrams = false;  // UDP: nothing listens
  bool reuse_port = false;
  bool transparent = false;  // IP_TRANSPARENT (TPROXY)
  bool freebind = false;     // IP_FREEBIND
  bool v6_only = false;      // `::` takes no IPv4 connection
  std::uint32_t unix_mode = 0600;
  std::vector<SocketOption> socket_options;
};

/// A bound socket that does not listen yet: a port that is taken is found before anything is
/// served.
base::Result<base::Fd> bindSocket(const Address& address, const ListenOptions& options = {});
/// What it accepts does not delay small segments (TCP_NODELAY).
base::Result<void> startListening(int fd, const ListenOptions& options = {});
/// A bound, listening socket.
base::Result<base::Fd> listenSocket(const Address& address, const ListenOptions& options = {});
/// A bound UDP socket.
base::Result<base::Fd> udpSocket(const Address& address);

Address localAddress(int fd);
Address peerAddress(int fd);
/// The local address of every connection that a listening socket accepts; nothing when they may
/// differ.
std::optional<Address> onlyAddress(int listener);
/// The destination before an nftables or iptables redirect (SO_ORIGINAL_DST); nothing when there
/// was none.
std::optional<Address> originalDestination(int fd);

/// Accepts connections from a listening socket until destroyed. On EMFILE it pauses for 100 ms.
/// Loop thread.
class Acceptor {
 public:
  using Callback = base::Function<void(base::Fd connection, const Address& peer)>;
  /// Accepting must not starve the connections that exist.
  static constexpr std::uint32_t kAcceptsPerTurn = 64;
  Acceptor(event::Loop& loop, base::Fd listener, Callback callback,
           std::uint32_t accepts_per_turn = kAcceptsPerTurn);
  ~Acceptor();
  const Address& local() const { return local_; }
  int fd() const { return listener_.get(); }
  /// Stops and starts accepting; queued connections stay in the kernel.
  void pause();
  void resume();
  /// Accepts all that waits now, for whoever stops listening: a bounded number, as the backlog is.
  void acceptQueued();

 private:
  void acceptAll();
  /// At most `most`; false: the kernel has no more now.
  bool acceptSome(std::uint32_t most);
  base::Fd listener_;
  Address local_;
  Callback callback_;
  const std::uint32_t accepts_per_turn_;
  bool paused_ = false;
  event::Timer retry_;
  event::FdWatch watch_;
};

struct ConnectOptions {
  std::optional<Address> bind;  // source address
  std::uint32_t mark = 0;       // SO_MARK when not 0
  bool no_delay = true;
  std::string first_bytes;  // sent before the connection is told to be connected
};

/// Wraps an accepted or handed-over connected socket.
std::unique_ptr<Transport> makeSocketTransport(event::Loop& loop, base::Fd connected);
/// The same of a socket accepted here (it has TCP_NODELAY of its listener), whose addresses are
/// known: a system call each less.
std::unique_ptr<Transport> makeAcceptedTransport(event::Loop& loop, base::Fd accepted,
                                                 Address local, Address remote);
/// Starts connecting; onConnected or onError follows in a later turn, never inside this call.
std::unique_ptr<Transport> connectTransport(event::Loop& loop, const Address& to,
                                            const ConnectOptions& options = {});

}  // namespace postern::net
