// One direction between two plain sockets through a pipe, inside the kernel (splice). A pipe is
// borrowed while bytes are under way, so an idle pair of sockets holds none. Knows no loop: its
// owner calls it when a socket is ready. One thread.
#pragma once

#include "base/fd.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace postern::net {

/// Pipes that nobody uses now.
class PipePool {
 public:
  static constexpr std::size_t kIdlePipesMax = 64;
  struct Pipe {
    base::Fd read;
    base::Fd write;
  };
  /// False when out of descriptors.
  bool take(Pipe& out);
  /// `empty`: nothing is left in it, somebody else may have it.
  void give(Pipe pipe, bool empty);

 private:
  std::vector<Pipe> pipes_;
};

class SpliceWay {
 public:
  /// What is under way at most.
  static constexpr std::size_t kPipeBytes = 65536;

  enum class Moved : unsigned char {
    kReadWaits,   // nothing more to read now
    kWriteWaits,  // the other side takes nothing more now
    kMore,        // others come first: call again in a later turn
    kEnded,       // the end was read, and all before it is written
    kNoPipe,      // out of descriptors; nothing is under way
    kFailed,
  };
  struct Result {
    Moved moved;
    std::size_t bytes;  // read in this call
  };
  /// Moves what it can, a bounded amount, at most `piece_bytes` at a time.
  Result move(int from, int to, PipePool& pipes, std::size_t piece_bytes = kPipeBytes);
  /// Gives the pipe back, with what is in it lost.
  void release(PipePool& pipes);
  /// Bytes that were read and not yet written.
  std::size_t held() const { return held_; }

 private:
  /// False: stop with `moved`.
  bool fill(int from, PipePool& pipes, std::size_t piece_bytes, Result& result);
  bool empty(int to, Result& result);

  PipePool::Pipe pipe_;
  std::size_t held_ = 0;
  bool ended_ = false;
};

}  // namespace postern::net
