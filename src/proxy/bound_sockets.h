// The listening sockets of one address: one per worker where the kernel spreads connections over
// them (SO_REUSEPORT), else one for all. Made on the main thread, so that a port that is taken is
// an error of the configuration; shared by the versions of a listener, and by the process that
// takes over (hot restart), so that no connection is refused while they change.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "net/address.h"
#include "net/socket.h"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace postern::proxy {

struct Listener;

/// Listening sockets of the process before this one, by what its configuration called them. Main
/// thread.
class InheritedSockets {
 public:
  void add(const std::string& key, base::Fd socket) { sockets_[key].push_back(std::move(socket)); }
  /// All sockets of an address, in the order of their workers; empty when there are none.
  std::vector<base::Fd> take(const std::string& key);
  /// Closes what nobody took.
  void clear() { sockets_.clear(); }
  bool empty() const { return sockets_.empty(); }

 private:
  std::map<std::string, std::vector<base::Fd>> sockets_;
};

class BoundSockets {
 public:
  /// Takes from `inherited` (null: none) what the address has there. Sockets beyond the number of
  /// workers are kept: closing one would drop the connections that wait in it.
  static base::ConfigResult<std::shared_ptr<const BoundSockets>> bind(const Listener& listener,
                                                                      std::uint32_t workers,
                                                                      InheritedSockets* inherited);
  /// What the sockets of an address are handed over as: with port 0 the listener's name counts.
  static std::string keyOf(const net::Address& requested, std::string_view listener,
                           bool datagrams);

  /// Begins to listen; harmless again, and without effect after release().
  base::Result<void> listen(int backlog) const;
  /// Closes them here: connections are refused once nobody else holds them, neither a worker nor
  /// another process.
  void release() const;
  /// True when `listener` asks for what these are.
  bool fit(const Listener& listener) const;
  /// With the port the kernel chose.
  const net::Address& address() const { return address_; }
  /// As the configuration has it, perhaps with port 0.
  const net::Address& requested() const { return requested_; }
  /// Descriptors of the worker's own: one, or several when there are more sockets than workers.
  std::vector<base::Fd> take(std::uint32_t worker) const;
  /// Descriptors of all sockets, to hand over.
  base::Result<std::vector<base::Fd>> takeAll() const;

 private:
  static constexpr int kCopiesMin = 3;  // above stdin, stdout and stderr
  net::Address requested_;
  net::Address address_;
  std::uint32_t workers_ = 1;
  bool reuse_port_ = false;
  bool datagrams_ = false;
  bool transparent_ = false;
  bool freebind_ = false;
  std::uint32_t unix_mode_ = 0;
  std::vector<net::SocketOption> options_;
  mutable std::mutex mutex_;  // workers take what the main thread may release
  mutable std::vector<base::Fd> sockets_;
  mutable bool released_ = false;
};

}  // namespace postern::proxy
