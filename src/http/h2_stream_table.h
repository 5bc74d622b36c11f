// The streams of an HTTP/2 connection by their numbers. Each new number is above all others, and
// streams leave in nearly the same order: a place that becomes free stays, until there are more of
// those than streams. Internal to http/.
#pragma once

#include "base/check.h"
#include "http/h2_stream.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace postern::http {

class H2StreamTable {
 public:
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }

  /// Its number is above those of all streams that were ever added.
  H2Stream& add(std::unique_ptr<H2Stream> stream) {
    POSTERN_ASSERT(slots_.empty() || slots_.back().id < stream->id);
    ++count_;
    slots_.push_back({stream->id, std::move(stream)});
    return *slots_.back().stream;
  }
  /// Null: there is none.
  H2Stream* find(std::uint32_t id) const {
    const std::size_t at = place(id);
    return at == slots_.size() || slots_[at].id != id ? nullptr : slots_[at].stream.get();
  }
  /// Out of the table; null: there is none.
  std::unique_ptr<H2Stream> take(std::uint32_t id) {
    const std::size_t at = place(id);
    if (at == slots_.size() || slots_[at].id != id || slots_[at].stream == nullptr) return nullptr;
    std::unique_ptr<H2Stream> out = std::move(slots_[at].stream);
    --count_;
    while (begin_ < slots_.size() && slots_[begin_].stream == nullptr) ++begin_;
    if (slots_.size() > kFreeMin + 2 * count_ || count_ == 0) dropFree();
    return out;
  }
  /// The first for which it is true, or null.
  template <class Which>
  H2Stream* findIf(Which&& which) const {
    for (std::size_t i = begin_; i < slots_.size(); ++i) {
      if (slots_[i].stream != nullptr && which(*slots_[i].stream)) return slots_[i].stream.get();
    }
    return nullptr;
  }

 private:
  static constexpr std::size_t kFreeMin = 16;
  struct Slot {
    std::uint32_t id;
    std::unique_ptr<H2Stream> stream;  // null: it has left
  };

  std::size_t place(std::uint32_t id) const {
    const auto it =
        std::lower_bound(slots_.begin() + static_cast<std::ptrdiff_t>(begin_), slots_.end(), id,
                         [](const Slot& each, std::uint32_t number) { return each.id < number; });
    return static_cast<std::size_t>(it - slots_.begin());
  }
  void dropFree() {
    std::erase_if(slots_, [](const Slot& each) { return each.stream == nullptr; });
    begin_ = 0;
  }

  std::vector<Slot> slots_;  // by ascending number
  std::size_t begin_ = 0;    // all before are free
  std::size_t count_ = 0;
};

}  // namespace postern::http
