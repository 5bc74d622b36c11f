// Text eight bytes at a time, in ordinary 64-bit registers: for what every message passes through.
// Functions whose name ends in "Bytes" answer in the top bit of each byte: set where it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace postern::base {

inline constexpr std::uint64_t kEachByte = 0x0101010101010101ULL;
inline constexpr std::uint64_t kTopBits = 0x80 * kEachByte;

template <class Word>
Word loadWord(const char* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

/// Bytes below `limit`, which is at most 0x80.
constexpr std::uint64_t belowBytes(std::uint64_t word, unsigned limit) {
  return ~((word & ~kTopBits) + (0x80 - limit) * kEachByte) & ~word & kTopBits;
}
/// Bytes that are `byte`, which is below 0x80.
constexpr std::uint64_t equalBytes(std::uint64_t word, unsigned byte) {
  return belowBytes(word ^ byte * kEachByte, 1);
}
/// 'A' to 'Z' become lower case.
constexpr std::uint64_t lowerWord(std::uint64_t word) {
  const std::uint64_t capital = belowBytes(word, 'Z' + 1) & ~belowBytes(word, 'A');
  return word | capital >> 2;
}

/// Applies `visit(word)` to words that hold all bytes of the text, in any order and some of them
/// twice, and stops when it is false. A text below four bytes comes filled up with `filler`.
template <class Visit>
bool eachWord(std::string_view text, char filler, Visit&& visit) {
  const char* from = text.data();
  const std::size_t size = text.size();
  if (size >= 8) {
    std::size_t at = 0;
    for (; at + 8 < size; at += 8) {
      if (!visit(loadWord<std::uint64_t>(from + at))) return false;
    }
    return visit(loadWord<std::uint64_t>(from + size - 8));
  }
  if (size >= 4) {
    return visit(std::uint64_t{loadWord<std::uint32_t>(from)} << 32 |
                 std::uint64_t{loadWord<std::uint32_t>(from + size - 4)});
  }
  if (size == 0) return true;
  const auto byte = [&](std::size_t at) {
    return std::uint64_t{static_cast<unsigned char>(from[at])};
  };
  const std::uint64_t rest = static_cast<unsigned char>(filler) * (kEachByte & ~0xffffffULL);
  return visit(rest | byte(0) << 16 | byte(size / 2) << 8 | byte(size - 1));
}

/// Copies `text` with 'A' to 'Z' in lower case; the places do not overlap.
inline void copyLower(char* to, std::string_view text) {
  const char* from = text.data();
  const std::size_t size = text.size();
  const auto put = [&](std::size_t at) {
    const std::uint64_t word = lowerWord(loadWord<std::uint64_t>(from + at));
    std::memcpy(to + at, &word, sizeof word);
  };
  if (size >= 8) {
    for (std::size_t at = 0; at + 8 < size; at += 8) put(at);
    return put(size - 8);
  }
  if (size >= 4) {
    const std::uint64_t both = lowerWord(std::uint64_t{loadWord<std::uint32_t>(from)} << 32 |
                                         std::uint64_t{loadWord<std::uint32_t>(from + size - 4)});
    const auto first = static_cast<std::uint32_t>(both >> 32);
    const auto last = static_cast<std::uint32_t>(both);
    std::memcpy(to, &first, sizeof first);
    return static_cast<void>(std::memcpy(to + size - 4, &last, sizeof last));
  }
  for (std::size_t i = 0; i < size; ++i) {
    to[i] = from[i] >= 'A' && from[i] <= 'Z' ? static_cast<char>(from[i] + 32) : from[i];
  }
}

}  // namespace postern::base
