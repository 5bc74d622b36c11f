// The two fixed tables of RFC 7541: static fields (appendix A) and the Huffman code (appendix B).
// The code is canonical, so the lengths are enough to make it.
#include "base/words.h"
#include "codec/hpack.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace postern::codec {
namespace {

constexpr std::array<HpackStaticField, kHpackStaticCount> kStatic = {{
    {":authority", ""},
    {":method", "GET"},
    {":method", "POST"},
    {":path", "/"},
    {":path", "/index.html"},
    {":scheme", "http"},
    {":scheme", "https"},
    {":status", "200"},
    {":status", "204"},
    {":status", "206"},
    {":status", "304"},
    {":status", "400"},
    {":status", "404"},
    {":status", "500"},
    {"accept-charset", ""},
    {"accept-encoding", "gzip, deflate"},
    {"accept-language", ""},
    {"accept-ranges", ""},
    {"accept", ""},
    {"access-control-allow-origin", ""},
    {"age", ""},
    {"allow", ""},
    {"authorization", ""},
    {"cache-control", ""},
    {"content-disposition", ""},
    {"content-encoding", ""},
    {"content-language", ""},
    {"content-length", ""},
    {"content-location", ""},
    {"content-range", ""},
    {"content-type", ""},
    {"cookie", ""},
    {"date", ""},
    {"etag", ""},
    {"expect", ""},
    {"expires", ""},
    {"from", ""},
    {"host", ""},
    {"if-match", ""},
    {"if-modified-since", ""},
    {"if-none-match", ""},
    {"if-range", ""},
    {"if-unmodified-since", ""},
    {"last-modified", ""},
    {"link", ""},
    {"location", ""},
    {"max-forwards", ""},
    {"proxy-authenticate", ""},
    {"proxy-authorization", ""},
    {"range", ""},
    {"referer", ""},
    {"refresh", ""},
    {"retry-after", ""},
    {"server", ""},
    {"set-cookie", ""},
    {"strict-transport-security", ""},
    {"transfer-encoding", ""},
    {"user-agent", ""},
    {"vary", ""},
    {"via", ""},
    {"www-authenticate", ""},
}};

constexpr std::size_t kSymbols = 257;  // the last is EOS
constexpr unsigned kLongest = 30;
// clang-format off
constexpr std::array<std::uint8_t, kSymbols> kLengths = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
};
// clang-format on

struct Huffman {
  std::array<std::uint32_t, kSymbols> code{};
  std::array<std::uint16_t, kSymbols> sorted{};        // symbols by code
  std::array<std::uint32_t, kLongest + 1> first{};     // first code of a length
  std::array<std::uint32_t, kLongest + 1> first_at{};  // its place in `sorted`
  std::array<std::uint64_t, kLongest + 1> limit{};     // codes below, left-aligned to 32 bits

  constexpr Huffman() {
    std::uint32_t next = 0;
    std::uint32_t at = 0;
    for (unsigned length = 1; length <= kLongest; ++length) {
      next <<= 1;
      first[length] = next;
      first_at[length] = at;
      for (std::size_t symbol = 0; symbol < kSymbols; ++symbol) {
        if (kLengths[symbol] != length) continue;
        code[symbol] = next++;
        sorted[at++] = static_cast<std::uint16_t>(symbol);
      }
      limit[length] = static_cast<std::uint64_t>(next) << (32 - length);
    }
  }
};
constexpr Huffman kHuffman;

/// Symbols of codes of at most 8 bits (all letters and digits) by the next 8 bits.
struct ShortCodes {
  struct Entry {
    std::uint8_t symbol = 0;
    std::uint8_t length = 0;  // 0: longer than 8 bits
  };
  std::array<Entry, 256> entries{};
  constexpr ShortCodes() {
    for (std::size_t symbol = 0; symbol < 256; ++symbol) {
      const unsigned length = kLengths[symbol];
      if (length > 8) continue;
      const std::size_t first = std::size_t{kHuffman.code[symbol]} << (8 - length);
      for (std::size_t i = 0; i < (std::size_t{1} << (8 - length)); ++i) {
        entries[first + i] = {static_cast<std::uint8_t>(symbol), static_cast<std::uint8_t>(length)};
      }
    }
  }
};
constexpr ShortCodes kShortCodes;

/// The first static field of each name, at a place that no two names share.
struct StaticNames {
  static constexpr std::size_t kPlaces = 128;
  std::array<std::uint8_t, kPlaces> first{};  // 0: none
  bool shared = false;

  static constexpr std::size_t place(std::string_view name) {
    const auto byte = [name](std::size_t at) {
      return std::size_t{static_cast<unsigned char>(name[at])};
    };
    const std::size_t size = name.size();
    return ((size * 358 + byte(size - 1) * 104 + byte(size / 2) * 295 + byte(0) * 404) >> 2) %
           kPlaces;
  }
  constexpr StaticNames() {
    for (std::size_t i = kHpackStaticCount; i > 0; --i) {
      std::uint8_t& to = first[place(kStatic[i - 1].name)];
      shared = shared || (to != 0 && kStatic[to - 1].name != kStatic[i - 1].name);
      to = static_cast<std::uint8_t>(i);
    }
  }
};
constexpr StaticNames kStaticNames;
static_assert(!kStaticNames.shared);

std::uint64_t bigEndian(std::uint64_t word) {
  return std::endian::native == std::endian::little ? __builtin_bswap64(word) : word;
}

/// The bits of a Huffman code from the top of a word; those behind the end are ones, as padding is.
/// Kept inverted, so that what is shifted in is right.
class CodeBits {
 public:
  explicit CodeBits(std::string_view in) : in_(in) {}
  /// Has at least 56 bits afterwards, or all that are left. What is already there may be read
  /// again.
  void fill() {
    std::uint64_t next = 0;
    const std::size_t size = std::min(in_.size(), sizeof next);
    std::memcpy(&next, in_.data(), size);
    next = ~bigEndian(next);
    if (size < sizeof next) next &= ~(~std::uint64_t{0} >> 8 * size);
    inverted_ |= next >> count_;
    const std::size_t bytes = std::min<std::size_t>(size, (63 - count_) / 8);
    in_.remove_prefix(bytes);
    count_ += static_cast<unsigned>(8 * bytes);
  }
  bool more() const { return !in_.empty(); }
  std::uint64_t word() const { return ~inverted_; }
  unsigned count() const { return count_; }
  void take(unsigned bits) {
    inverted_ <<= bits;
    count_ -= bits;
  }

 private:
  std::string_view in_;
  std::uint64_t inverted_ = 0;
  unsigned count_ = 0;  // at most 63
};

}  // namespace

const HpackStaticField& hpackStatic(std::size_t index) { return kStatic[index - 1]; }

std::size_t huffmanSize(std::string_view in) {
  std::size_t bits = 0;
  for (char c : in) bits += kLengths[static_cast<unsigned char>(c)];
  return (bits + 7) / 8;
}

char* huffmanEncode(std::string_view in, char* to) {
  std::uint64_t bits = 0;
  unsigned count = 0;
  for (char c : in) {
    const auto symbol = static_cast<unsigned char>(c);
    bits = bits << kLengths[symbol] | kHuffman.code[symbol];
    count += kLengths[symbol];
    while (count >= 8) {
      count -= 8;
      *to++ = static_cast<char>(bits >> count & 0xff);
    }
  }
  if (count > 0) *to++ = static_cast<char>((bits << (8 - count) | (0xffU >> count)) & 0xff);
  return to;
}

bool huffmanDecode(std::string_view in, std::string& out, std::size_t max) {
  constexpr std::size_t kShortest = 5;  // bits
  const std::size_t begin = out.size();
  if (begin > max) return false;
  const std::size_t room = std::min(max - begin, in.size() * 8 / kShortest);
  bool good = true;
  out.resize_and_overwrite(begin + room, [&](char* bytes, std::size_t) {
    char* to = bytes + begin;
    char* const end = to + room;
    CodeBits bits(in);
    for (;;) {
      if (bits.more()) bits.fill();
      // Codes of letters and digits have at most eight bits.
      while (bits.count() >= 8 && to != end) {
        const ShortCodes::Entry quick = kShortCodes.entries[bits.word() >> 56];
        if (quick.length == 0) break;
        *to++ = static_cast<char>(quick.symbol);
        bits.take(quick.length);
      }
      if (bits.count() < kLongest && bits.more()) continue;
      if (bits.count() == 0) break;
      const std::uint64_t window = bits.word() >> 32;
      unsigned length = kShortest;
      while (length < kLongest && window >= kHuffman.limit[length]) ++length;
      if (length > bits.count()) {
        // Not a whole code: must be less than a byte of ones.
        good = bits.count() < 8 && (~bits.word() >> (64 - bits.count())) == 0;
        break;
      }
      const auto code = static_cast<std::uint32_t>(window >> (32 - length));
      const std::uint16_t symbol =
          kHuffman.sorted[kHuffman.first_at[length] + (code - kHuffman.first[length])];
      if (symbol == 256 || to == end) {
        good = false;
        break;
      }
      *to++ = static_cast<char>(symbol);
      bits.take(length);
    }
    return static_cast<std::size_t>(to - bytes);
  });
  return good;
}

HpackStaticMatch hpackStaticFind(std::string_view name, std::string_view value) {
  HpackStaticMatch out;
  if (name.empty()) return out;
  const std::size_t first = kStaticNames.first[StaticNames::place(name)];
  if (first == 0 || !base::sameBytes(kStatic[first - 1].name, name)) return out;
  out.name = first;
  if (value.empty()) return out;
  std::size_t i = first;
  do {
    if (base::sameBytes(kStatic[i - 1].value, value)) {
      out.field = i;
      return out;
    }
  } while (++i <= kHpackStaticCount && base::sameBytes(kStatic[i - 1].name, name));
  return out;
}

}  // namespace postern::codec
