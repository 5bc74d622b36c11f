// Text sixteen and eight bytes at a time, for what every message passes through.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace postern::base {

/// Sixteen bytes in a vector register. Comparisons answer with 0xff in each byte where they hold.
using Block = std::uint8_t __attribute__((vector_size(16)));

inline constexpr std::uint64_t kEachByte = 0x0101010101010101ULL;

template <class Word>
Word loadWord(const char* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

inline Block equalBytes(Block block, std::uint8_t byte) {
  return reinterpret_cast<Block>(block == byte);
}
/// Bytes from `first` to `last`.
inline Block betweenBytes(Block block, std::uint8_t first, std::uint8_t last) {
  const auto width = static_cast<std::uint8_t>(last - first);
  return reinterpret_cast<Block>(block - first <= width);
}
/// 'A' to 'Z' become lower case.
inline Block lowerBlock(Block block) {
  return block | (betweenBytes(block, 'A', 'Z') & std::uint8_t{0x20});
}
/// The first and the last eight bytes.
struct Halves {
  std::uint64_t first;
  std::uint64_t last;
};
inline Halves halvesOf(Block block) { return std::bit_cast<Halves>(block); }
inline Block blockOf(std::uint64_t first, std::uint64_t last) {
  return std::bit_cast<Block>(Halves{first, last});
}
inline bool anyByte(Block block) {
  const Halves halves = halvesOf(block);
  return (halves.first | halves.last) != 0;
}

/// The place of the first byte of a comparison that holds; 16: none.
inline std::size_t firstByte(Block block) {
  const auto place = [](std::uint64_t half) {
    const int zeros = std::endian::native == std::endian::little ? std::countr_zero(half)
                                                                 : std::countl_zero(half);
    return static_cast<std::size_t>(zeros) / 8;
  };
  const Halves halves = halvesOf(block);
  return halves.first != 0 ? place(halves.first) : 8 + place(halves.last);
}

/// All bytes of a text of one to sixteen bytes, some of them twice.
inline Block shortBlock(const char* from, std::size_t size) {
  if (size >= 8)
    return blockOf(loadWord<std::uint64_t>(from), loadWord<std::uint64_t>(from + size - 8));
  std::uint64_t word = 0;
  if (size >= 4) {
    word = std::uint64_t{loadWord<std::uint32_t>(from)} << 32 |
           loadWord<std::uint32_t>(from + size - 4);
  } else {
    const auto byte = [&](std::size_t at) {
      return std::uint64_t{static_cast<unsigned char>(from[at])};
    };
    word = (byte(0) << 16 | byte(size / 2) << 8 | byte(size - 1)) * 0x1000001;
    word |= byte(0) << 48 | byte(0) << 56;
  }
  return blockOf(word, word);
}

/// What `test(block)` answers for any of the blocks that hold all bytes of the text, in any order
/// and some of them twice: of a text without bytes nothing.
template <class Test>
Block anyOfBlocks(std::string_view text, Test&& test) {
  const char* from = text.data();
  const std::size_t size = text.size();
  if (size == 0) return Block{};
  if (size <= 16) return test(shortBlock(from, size));
  Block out = test(loadWord<Block>(from + size - 16));
  for (std::size_t at = 0; at + 16 < size; at += 16) out |= test(loadWord<Block>(from + at));
  return out;
}

/// Copies `size` bytes to a place that does not overlap: without a call if they are few.
inline void copyBytes(char* to, const char* from, std::size_t size) {
  const auto put = [&]<class Word>(std::size_t at, Word) {
    const Word word = loadWord<Word>(from + at);
    std::memcpy(to + at, &word, sizeof word);
  };
  if (size > 32) return static_cast<void>(std::memcpy(to, from, size));
  if (size >= 16) {
    put(0, Block{});
    return put(size - 16, Block{});
  }
  if (size >= 8) {
    put(0, std::uint64_t{});
    return put(size - 8, std::uint64_t{});
  }
  if (size >= 4) {
    put(0, std::uint32_t{});
    return put(size - 4, std::uint32_t{});
  }
  if (size == 0) return;
  to[0] = from[0];
  to[size / 2] = from[size / 2];
  to[size - 1] = from[size - 1];
}

/// Whether two texts are the same: without a call if they are short.
inline bool sameBytes(std::string_view a, std::string_view b) {
  const std::size_t size = a.size();
  if (size != b.size()) return false;
  if (size == 0) return true;
  if (size > 16) return std::memcmp(a.data(), b.data(), size) == 0;
  return !anyByte(shortBlock(a.data(), size) ^ shortBlock(b.data(), size));
}

/// Copies `text` with 'A' to 'Z' in lower case; the places do not overlap.
inline void copyLower(char* to, std::string_view text) {
  const char* from = text.data();
  const std::size_t size = text.size();
  const auto put = [&](std::size_t at) {
    const Block block = lowerBlock(loadWord<Block>(from + at));
    std::memcpy(to + at, &block, sizeof block);
  };
  if (size >= 16) {
    for (std::size_t at = 0; at + 16 < size; at += 16) put(at);
    return put(size - 16);
  }
  if (size == 0) return;
  const Halves lower = halvesOf(lowerBlock(shortBlock(from, size)));
  if (size >= 8) {
    std::memcpy(to, &lower.first, 8);
    std::memcpy(to + size - 8, &lower.last, 8);
  } else if (size >= 4) {
    const auto first = static_cast<std::uint32_t>(lower.first >> 32);
    const auto last = static_cast<std::uint32_t>(lower.first);
    std::memcpy(to, &first, sizeof first);
    std::memcpy(to + size - 4, &last, sizeof last);
  } else {
    to[0] = static_cast<char>(lower.first >> 16);
    to[size / 2] = static_cast<char>(lower.first >> 8);
    to[size - 1] = static_cast<char>(lower.first);
  }
}

}  // namespace postern::base
