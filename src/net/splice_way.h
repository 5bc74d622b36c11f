// Bytes that go from one plain socket to another through a pipe, inside the kernel (splice): a
// piece that is in a pipe now (PipedBytes), and a whole direction between two sockets (SpliceWay).
// A pipe is borrowed while bytes are under way, so idle sockets hold none. Knows no loop: its owner
// calls it when a socket is ready. One thread.
#pragma once

#include "base/buffer.h"
#include "base/fd.h"
#include "net/transport.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace postern::net {

/// Pipes that nobody uses now. Outlives all who borrow of it.
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
  std::size_t idle() const { return pipes_.size(); }

 private:
  std::vector<Pipe> pipes_;
};

/// A piece of a stream that is in a pipe. Gives the pipe back when it is empty or goes.
class PipedBytes {
 public:
  /// Asked of the kernel at once; it gives as much as the pipe's slots hold.
  static constexpr std::size_t kPieceBytes = 1 << 20;

  PipedBytes() = default;
  PipedBytes(PipedBytes&& other) noexcept { *this = std::move(other); }
  PipedBytes& operator=(PipedBytes&& other) noexcept;
  PipedBytes(const PipedBytes&) = delete;
  PipedBytes& operator=(const PipedBytes&) = delete;
  ~PipedBytes() { release(); }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  /// Has a pipe to read into; false: there is none to be had.
  bool begin(PipePool& pipes);
  /// Takes at most `max` bytes out of the socket, after begin() and while empty.
  IoResult read(int from, std::size_t max);
  /// Moves what it can into the socket.
  IoResult write(int to);
  /// Takes all of it into memory, for whoever cannot splice.
  void copyTo(base::Buffer& out);
  /// Gives the pipe back, with what is in it lost.
  void release();

 private:
  PipePool* pool_ = nullptr;
  PipePool::Pipe pipe_;
  std::size_t size_ = 0;
};

class SpliceWay {
 public:
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
    std::size_t bytes;        // read in this call
    std::size_t written = 0;  // in this call
  };
  /// Moves what it can, a bounded amount, at most `piece_bytes` at a time.
  Result move(int from, int to, PipePool& pipes, std::size_t piece_bytes = PipedBytes::kPieceBytes);
  /// Gives the pipe back, with what is in it lost.
  void release() { piece_.release(); }
  /// Bytes that were read and not yet written.
  std::size_t held() const { return piece_.size(); }

 private:
  /// False: stop with `moved`.
  bool fill(int from, PipePool& pipes, std::size_t piece_bytes, Result& result);

  PipedBytes piece_;
  bool ended_ = false;
};

}  // namespace postern::net
