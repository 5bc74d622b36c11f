#include "base/buffer.h"

#include "base/check.h"
#include "base/words.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include <sys/uio.h>

namespace postern::base {

struct Buffer::Block {
  Block* next;
  std::uint32_t begin;
  std::uint32_t end;
  std::uint32_t capacity;
  char* bytes() { return reinterpret_cast<char*>(this + 1); }
  const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
  std::uint32_t room() const { return capacity - end; }
  std::string_view view() const { return {bytes() + begin, end - begin}; }
};

namespace {

/// Free blocks of this thread and of one size, most recently used first. Bounded, so that a burst
/// does not stay resident.
struct FreeList {
  void* head = nullptr;
  std::size_t left;  // how many more it takes
  explicit FreeList(std::size_t most) : left(most) {}
  ~FreeList() {
    while (head != nullptr) {
      void* next = *static_cast<void**>(head);
      ::operator delete(head);
      head = next;
    }
    left = 0;  // later returns of this thread go straight to the heap
  }
};

/// By capacity, the smallest first.
constexpr std::size_t kSizes = 6;
thread_local FreeList free_blocks[kSizes] = {FreeList(256), FreeList(64), FreeList(32),
                                             FreeList(32),  FreeList(32), FreeList(64)};
static_assert(Buffer::kSmallestBlockBytes << (kSizes - 1) == Buffer::kBlockBytes);

FreeList& freeBlocks(std::size_t capacity) {
  return free_blocks[std::countr_zero(capacity / Buffer::kSmallestBlockBytes)];
}

}  // namespace

std::size_t Buffer::nextCapacity(std::size_t bytes) const {
  const std::size_t enough = std::bit_ceil(std::max(bytes, kSmallestBlockBytes));
  return size_ == 0 ? enough
                    : std::min(kBlockBytes, std::max<std::size_t>(enough, 2 * tail_->capacity));
}

Buffer::Block* Buffer::takeBlock(std::size_t capacity) {
  FreeList& free = freeBlocks(capacity);
  void* memory = free.head;
  if (memory != nullptr) {
    free.head = *static_cast<void**>(memory);
    ++free.left;
  } else {
    memory = ::operator new(sizeof(Block) + capacity);
  }
  auto* block = static_cast<Block*>(memory);
  block->next = nullptr;
  block->begin = block->end = 0;
  block->capacity = static_cast<std::uint32_t>(capacity);
  return block;
}

void Buffer::giveBlock(Block* block) {
  FreeList& free = freeBlocks(block->capacity);
  if (free.left == 0) {
    ::operator delete(block);
    return;
  }
  *reinterpret_cast<void**>(block) = free.head;
  free.head = block;
  --free.left;
}

Buffer::Buffer(Buffer&& other) noexcept
    : head_(std::exchange(other.head_, nullptr)),
      tail_(std::exchange(other.tail_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    clear();
    head_ = std::exchange(other.head_, nullptr);
    tail_ = std::exchange(other.tail_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Buffer::clear() {
  while (head_ != nullptr) popFront();
  size_ = 0;
}

bool Buffer::fits(std::size_t bytes) const { return tail_ != nullptr && tail_->room() >= bytes; }

/// What reserve() offered and nobody filled: no other block may come behind it.
void Buffer::dropEmptyTail() {
  if (tail_ == nullptr || tail_ == head_ || !tail_->view().empty()) return;
  Block* before = head_;
  while (before->next != tail_) before = before->next;
  giveBlock(tail_);
  tail_ = before;
  tail_->next = nullptr;
}

void Buffer::popFront() {
  Block* next = head_->next;
  giveBlock(head_);
  head_ = next;
  if (head_ == nullptr) tail_ = nullptr;
}

void Buffer::pushBack(std::size_t capacity) {
  Block* block = takeBlock(capacity);
  if (tail_ != nullptr) {
    tail_->next = block;
  } else {
    head_ = block;
  }
  tail_ = block;
}

std::size_t Buffer::reserve(char*& out) {
  if (tail_ == nullptr || tail_->capacity != kBlockBytes || tail_->room() == 0)
    pushBack(kBlockBytes);
  out = tail_->bytes() + tail_->end;
  return tail_->room();
}

void Buffer::commit(std::size_t count) {
  POSTERN_ASSERT(tail_ != nullptr && count <= tail_->room());
  tail_->end += static_cast<std::uint32_t>(count);
  size_ += count;
  if (size_ == 0) clear();
}

void Buffer::append(std::string_view bytes) {
  if (bytes.empty()) return;
  if (fits(bytes.size())) {
    copyBytes(tail_->bytes() + tail_->end, bytes.data(), bytes.size());
    tail_->end += static_cast<std::uint32_t>(bytes.size());
    size_ += bytes.size();
    return;
  }
  while (!bytes.empty()) {
    char* out = nullptr;
    std::size_t room = std::min(reserve(out), bytes.size());
    std::memcpy(out, bytes.data(), room);
    commit(room);
    bytes.remove_prefix(room);
  }
}

void Buffer::appendMoved(std::string_view bytes) {
  if (bytes.empty()) return;
  if (size_ == 0) clear();
  const bool small = tail_ == nullptr || tail_->capacity < kBlockBytes;
  if (small && bytes.size() <= kCopyBytesMax && !fits(bytes.size()))
    pushBack(nextCapacity(bytes.size()));
  append(bytes);
}

void Buffer::append(Buffer& other) {
  if (other.size_ == 0) {
    other.clear();
    return;
  }
  if (size_ == 0) clear();
  const bool here = fits(other.size_) && other.size_ <= kCopyBytesMax;
  if (here || other.capacity() > std::max(4 * other.size_, kSmallestBlockBytes)) {
    if (!here && other.size_ <= kCopyBytesMax) pushBack(nextCapacity(other.size_));
    other.copyTo(*this);
    other.clear();
    return;
  }
  dropEmptyTail();
  other.dropEmptyTail();
  if (tail_ != nullptr) {
    tail_->next = other.head_;
  } else {
    head_ = other.head_;
  }
  tail_ = other.tail_;
  size_ += other.size_;
  other.head_ = other.tail_ = nullptr;
  other.size_ = 0;
}

void Buffer::append(Buffer& other, std::size_t count) {
  POSTERN_ASSERT(count <= other.size_);
  if (count == other.size_) {
    append(other);
    return;
  }
  dropEmptyTail();
  while (count > 0) {
    Block* block = other.head_;
    std::size_t piece = block->view().size();
    POSTERN_ASSERT(piece > 0);  // only a tail may be empty
    if (piece <= count && piece > kCopyBytesMax) {
      other.head_ = block->next;
      if (other.head_ == nullptr) other.tail_ = nullptr;
      other.size_ -= piece;
      block->next = nullptr;
      if (tail_ != nullptr && size_ > 0) {
        tail_->next = block;
      } else {
        clear();
        head_ = block;
      }
      tail_ = block;
      size_ += piece;
      count -= piece;
    } else {
      piece = std::min(piece, count);
      appendMoved(block->view().substr(0, piece));
      other.drain(piece);
      count -= piece;
    }
  }
}

std::string_view Buffer::front() const {
  const Block* block = head_;
  while (block != nullptr && block->begin == block->end) block = block->next;
  return block == nullptr
             ? std::string_view()
             : std::string_view(block->bytes() + block->begin, block->end - block->begin);
}

std::string_view Buffer::contiguous(std::size_t count) {
  POSTERN_ASSERT(count <= size_ && count <= kBlockBytes);
  while (head_ != nullptr && head_->begin == head_->end && head_ != tail_) popFront();
  if (head_ == nullptr || count == 0) return {};
  std::size_t have = head_->end - head_->begin;
  if (have >= count) return {head_->bytes() + head_->begin, count};
  if (head_->capacity < count) {
    Block* larger = takeBlock(kBlockBytes);
    std::memcpy(larger->bytes(), head_->bytes() + head_->begin, have);
    larger->end = static_cast<std::uint32_t>(have);
    larger->next = head_->next;
    if (tail_ == head_) tail_ = larger;
    giveBlock(std::exchange(head_, larger));
  } else if (head_->begin + count > head_->capacity) {
    std::memmove(head_->bytes(), head_->bytes() + head_->begin, have);
    head_->begin = 0;
    head_->end = static_cast<std::uint32_t>(have);
  }
  while (have < count) {
    Block* second = head_->next;
    std::size_t piece = std::min<std::size_t>(count - have, second->end - second->begin);
    std::memcpy(head_->bytes() + head_->end, second->bytes() + second->begin, piece);
    head_->end += static_cast<std::uint32_t>(piece);
    second->begin += static_cast<std::uint32_t>(piece);
    have += piece;
    if (second->begin == second->end) {
      head_->next = second->next;
      if (tail_ == second) tail_ = head_;
      giveBlock(second);
    }
  }
  return {head_->bytes() + head_->begin, count};
}

void Buffer::drain(std::size_t count) {
  POSTERN_ASSERT(count <= size_);
  size_ -= count;
  while (count > 0) {
    std::size_t have = head_->end - head_->begin;
    if (have > count) {
      head_->begin += static_cast<std::uint32_t>(count);
      return;
    }
    count -= have;
    popFront();
  }
  if (size_ == 0) clear();
}

int Buffer::peek(iovec* out, int max) const {
  int used = 0;
  for (const Block* block = head_; block != nullptr && used < max; block = block->next) {
    if (block->begin == block->end) continue;
    out[used].iov_base = const_cast<char*>(block->bytes() + block->begin);
    out[used].iov_len = block->end - block->begin;
    ++used;
  }
  return used;
}

std::size_t Buffer::capacity() const {
  std::size_t total = 0;
  for (const Block* block = head_; block != nullptr; block = block->next) total += block->capacity;
  return total;
}

void Buffer::copyTo(Buffer& into) const {
  for (const Block* block = head_; block != nullptr; block = block->next)
    into.append(block->view());
}

std::string Buffer::toString() const {
  std::string out;
  out.reserve(size_);
  for (const Block* block = head_; block != nullptr; block = block->next) {
    out.append(block->bytes() + block->begin, block->end - block->begin);
  }
  return out;
}

}  // namespace postern::base
