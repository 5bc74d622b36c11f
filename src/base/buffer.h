// A FIFO of bytes in 16 KiB blocks: producers append at the back, consumers drain at the front,
// whole blocks move between buffers without a copy. What is short and waits alone (a piece of a
// body, a local reply) is in a block of about its size, so that many who wait hold little. Blocks
// come from per-thread LIFO free lists, so hot memory is reused and an idle connection holds none.
// One thread; a Buffer may not cross threads while it holds blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

struct iovec;

namespace postern::base {

class Buffer {
 public:
  static constexpr std::size_t kBlockBytes = 16384;        // payload of one block
  static constexpr std::size_t kSmallestBlockBytes = 512;  // doubled up to kBlockBytes
  /// Moves up to this are copied into the last block's room. What holds more than four times its
  /// bytes is copied, too: a buffer holds at most that, or one smallest block, of each move.
  static constexpr std::size_t kCopyBytesMax = 4096;

  Buffer() = default;
  explicit Buffer(std::string_view bytes) { appendMoved(bytes); }
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { clear(); }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void clear();

  /// Copies bytes to the end.
  void append(std::string_view bytes);
  void append(char c) { append(std::string_view(&c, 1)); }
  /// Moves all of `other` to the end; `other` is empty afterwards.
  void append(Buffer& other);
  /// Moves the first `count` bytes (count <= other.size()).
  void append(Buffer& other, std::size_t count);

  /// The contiguous bytes at the front; empty only if the buffer is. Valid until the next non-const
  /// call.
  std::string_view front() const;
  /// The first `count` bytes made contiguous (copies if they span blocks); count <= size() and <=
  /// kBlockBytes.
  std::string_view contiguous(std::size_t count);
  /// Removes bytes from the front; count <= size().
  void drain(std::size_t count);

  /// Space for at least one byte at the end, to be filled and then committed. Returns its size.
  std::size_t reserve(char*& out);
  void commit(std::size_t count);

  /// Fills at most `max` iovecs from the front for writev; returns how many.
  int peek(iovec* out, int max) const;
  /// Copies everything out.
  std::string toString() const;
  /// Copies everything to the end of `into`.
  void copyTo(Buffer& into) const;
  /// The payload of all its blocks, used or not: what it holds of memory.
  std::size_t capacity() const;

 private:
  struct Block;
  /// `capacity`: kSmallestBlockBytes or a power of two above, at most kBlockBytes.
  static Block* takeBlock(std::size_t capacity);
  static void giveBlock(Block* block);
  /// Of a block for the next `bytes` (<= kCopyBytesMax): small at first, doubled as more come.
  std::size_t nextCapacity(std::size_t bytes) const;
  /// In the last block's room.
  bool fits(std::size_t bytes) const;
  void dropEmptyTail();
  void popFront();
  void pushBack(std::size_t capacity);
  /// As append(), but in small blocks as long as there are no others.
  void appendMoved(std::string_view bytes);

  Block* head_ = nullptr;
  Block* tail_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace postern::base
