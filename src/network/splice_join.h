// Joins pairs of connected sockets: bytes go from one to the other in the kernel
// (net/splice_way.h), in both directions, with half-close; a reset or failure of one resets the
// other. One loop.
#pragma once

#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"
#include "net/address.h"
#include "net/splice_way.h"
#include "network/socket_provider.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace postern::network {

/// Closes a connection so that its peer sees a reset.
void resetConnection(base::Fd fd);

class SpliceJoin {
 public:
  SpliceJoin(event::Loop& loop, std::size_t pairs_max);
  ~SpliceJoin();  // resets all

  /// Joins `first` to a connection that is made now: in this process's network namespace, or by a
  /// provider. `first` is reset when that fails, or when there are too many pairs.
  void connect(base::Fd first, const net::Address& to);
  void connect(base::Fd first, const net::Address& to, SocketProvider& provider);
  std::size_t size() const { return pairs_.size(); }

 private:
  struct Pair;
  Pair* add(base::Fd first);
  void finish(Pair* pair, bool reset);

  event::Loop& loop_;
  const std::size_t pairs_max_;
  net::PipePool pipes_;  // of the pairs
  std::unordered_map<std::uint64_t, std::unique_ptr<Pair>> pairs_;
  std::uint64_t next_ = 0;
};

}  // namespace postern::network
