// Bodies of HTTP/1 past memory, by splice. H1PipedInput takes the pieces that a connection reads,
// H1Output holds what it has yet to write: bytes in memory, a piece of body in a pipe, bytes behind
// it. No loop, no observer: the connection calls when its transport is ready.
#pragma once

#include "base/buffer.h"
#include "http/stream.h"
#include "net/splice_way.h"
#include "net/transport.h"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace postern::http {

inline constexpr std::size_t kH1InHighBytes = 64 * 1024;  // pipelined or unread input kept

class H1Output {
 public:
  /// Where the next bytes go.
  base::Buffer& bytes() { return piped_ == nullptr ? bytes_ : piped_->behind; }
  /// The next bytes are a piece in a pipe: taken, or copied when one is under way already.
  void append(net::PipedBytes& piece);
  bool empty() const { return bytes_.empty() && piped_ == nullptr; }
  std::size_t size() const {
    return bytes_.size() + (piped_ == nullptr ? 0 : piped_->piece.size() + piped_->behind.size());
  }
  /// A piece in a pipe waits: no other should come before it is gone.
  bool holdsPipe() const { return piped_ != nullptr; }
  net::IoResult write(net::Transport& to);
  void clear();

 private:
  struct Piped {
    net::PipedBytes piece;
    base::Buffer behind;
  };
  base::Buffer bytes_;
  std::unique_ptr<Piped> piped_;
};

/// What of the body in progress is taken by splice.
class H1PipedInput {
 public:
  enum class Next : unsigned char {
    kPiece,   // told to `piece`
    kAgain,   // nothing there now
    kLater,   // others come first
    kCopied,  // there is no pipe, or it does not pay: read into memory
    kEof,
    kError,  // errno says which
  };
  void accept(net::PipePool& pipes) { pipes_ = &pipes; }
  /// Another exchange begins.
  void reset() { *this = {}; }
  /// A new event of the transport: so much may be taken before others have their turn.
  void beginEvent() { left_ = kBytesPerEvent; }
  /// The rest of the body, of which `in_memory` is read already, is for take().
  bool concerns(std::uint64_t straight, std::size_t in_memory) const {
    return pipes_ != nullptr && straight >= in_memory + (begun_ ? 1 : kPipedFromBytes);
  }
  Next take(net::Transport& from, std::uint64_t straight, net::PipedBytes& piece);

 private:
  static constexpr std::size_t kBytesPerEvent = 512 * 1024;
  net::PipePool* pipes_ = nullptr;
  std::size_t left_ = kBytesPerEvent;
  int small_pieces_ = 0;  // one after the other
  bool begun_ = false;    // what is left of this stretch follows its first piece
};

/// Whether bytes may go past the transport, straight to its socket.
bool isPlainSocket(const net::Transport& transport);

}  // namespace postern::http
