// Which bytes HTTP/1 allows where. Internal to codec/.
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
  while (size < text.size() && kToken[static_cast<unsigned char>(text[size])]) ++size;
  return size;
}

inline bool isToken(std::string_view text) {
  return !text.empty() && tokenSize(text) == text.size();
}

/// field-value: HTAB, SP, VCHAR, obs-text.
inline bool isValue(std::string_view text) {
  return base::eachWord(text, ' ', [](std::uint64_t word) {
    const std::uint64_t control = base::belowBytes(word, 0x20) & ~base::equalBytes(word, '\t');
    return (control | base::equalBytes(word, 0x7f)) == 0;
  });
}

}  // namespace postern::codec
