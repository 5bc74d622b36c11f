// Which bytes HTTP allows where (RFC 9110 5).
#pragma once

#include "base/words.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postern::codec {

constexpr std::array<bool, 256> makeTokenTable() {
  std::array<bool, 256> table{};
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  for (std::size_t c = '0'; c <= '9'; ++c) table[c] = true;
  for (std::size_t c = 'a'; c <= 'z'; ++c) table[c] = true;
  for (std::size_t c = 'A'; c <= 'Z'; ++c) table[c] = true;
  return table;
}
inline constexpr auto kToken = makeTokenTable();

/// How many bytes of a token `text` begins with.
inline std::size_t tokenSize(std::string_view text) {
  std::size_t size = 0;
  while (size + sizeof(base::Block) <= text.size()) {
    const auto block = base::loadWord<base::Block>(text.data() + size);
    const std::size_t plain = base::firstByte(
        ~(base::betweenBytes(block | std::uint8_t{0x20}, 'a', 'z') | base::equalBytes(block, '-')));
    size += plain;
    if (plain == sizeof(base::Block)) continue;
    if (!kToken[static_cast<unsigned char>(text[size])]) return size;
    ++size;
  }
  while (size < text.size() && kToken[static_cast<unsigned char>(text[size])]) ++size;
  return size;
}

inline bool isToken(std::string_view text) {
  return !text.empty() && tokenSize(text) == text.size();
}

/// Whether a token is `lower`, which holds letters and '-' only, in any case: the bit that makes
/// capitals small makes no other byte of a token one of these.
template <std::size_t N>
bool isName(std::string_view token, const char (&lower)[N]) {
  constexpr std::size_t kSize = N - 1;
  constexpr std::uint64_t kSmall = 0x20 * base::kEachByte;
  static_assert(kSize >= 4);
  if (token.size() != kSize) return false;
  if constexpr (kSize >= 8) {
    const auto differs = [&](std::size_t at) {
      return (base::loadWord<std::uint64_t>(token.data() + at) | kSmall) ^
             base::loadWord<std::uint64_t>(lower + at);
    };
    std::uint64_t all = differs(kSize - 8);
    for (std::size_t at = 0; at + 8 < kSize; at += 8) all |= differs(at);
    return all == 0;
  } else {
    const auto differs = [&](std::size_t at) {
      return (base::loadWord<std::uint32_t>(token.data() + at) |
              static_cast<std::uint32_t>(kSmall)) ^
             base::loadWord<std::uint32_t>(lower + at);
    };
    return (differs(0) | differs(kSize - 4)) == 0;
  }
}

/// field-value: HTAB, SP, VCHAR, obs-text.
inline bool isValue(std::string_view text) {
  return !base::anyByte(base::anyOfBlocks(text, [](base::Block block) {
    return (base::betweenBytes(block, 0, 0x1f) & ~base::equalBytes(block, '\t')) |
           base::equalBytes(block, 0x7f);
  }));
}

/// A token without upper case, as names are in HTTP/2 (RFC 9113 8.2.1).
inline bool isLowerToken(std::string_view text) {
  const bool plain = !base::anyByte(base::anyOfBlocks(text, [](base::Block block) {
    return ~(base::betweenBytes(block, 'a', 'z') | base::betweenBytes(block, '0', '9') |
             base::equalBytes(block, '-'));
  }));
  if (plain) return !text.empty();
  for (const char c : text) {
    if (!kToken[static_cast<unsigned char>(c)] || (c >= 'A' && c <= 'Z')) return false;
  }
  return true;
}

}  // namespace postern::codec
