// The preset dictionary of SPDY/3 header blocks (a constant of the draft). For codec/spdy3 only.
#pragma once

#include <array>
#include <cstddef>

namespace postern::codec {

inline constexpr std::size_t kSpdyDictionaryBytes = 1423;
extern const std::array<unsigned char, kSpdyDictionaryBytes> kSpdyDictionary;

}  // namespace postern::codec
