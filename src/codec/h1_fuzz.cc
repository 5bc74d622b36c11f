// HTTP/1 parsers on any bytes. The first byte chooses role and piece size; whatever the pieces, the
// result must be the one of parsing all at once: how TCP cuts a message must not change its
// meaning.
#include "codec/h1_parser.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace postern::codec {
namespace {

constexpr H1Limits kLimits{.head_bytes_max = 4096, .field_count_max = 32};

void require(bool condition) {
  if (!condition) std::abort();
}

/// Everything a caller can see of one head, as text.
std::string headText(H1HeadParser::Role role, std::string_view bytes, std::size_t piece,
                     std::size_t& used) {
  H1HeadParser parser(role, kLimits);
  parser.reset("GET");
  auto status = H1HeadParser::Status::kNeedMore;
  used = 0;
  // The parser keeps what came in pieces, so a piece may vanish after each call.
  std::string held;
  while (status == H1HeadParser::Status::kNeedMore && used < bytes.size()) {
    held = bytes.substr(used, piece);
    std::size_t consumed = 0;
    status = parser.feed(held, consumed);
    require(consumed <= held.size());
    used += consumed;
    if (status == H1HeadParser::Status::kNeedMore && consumed == 0) break;
  }
  if (status == H1HeadParser::Status::kError) return "error";
  if (status == H1HeadParser::Status::kNeedMore) return "more";
  const H1Head& head = parser.head();
  require(head.fields.size() <= kLimits.field_count_max);
  std::string out(head.method);
  (out += ' ').append(head.target);
  (out += ' ') += std::to_string(head.status) + ' ' + std::to_string(head.content_length);
  out += ' ' + std::to_string(static_cast<int>(head.body)) + (head.keep_alive ? "k" : "c");
  for (const H1Field& field : head.fields) {
    require(!field.name.empty());
    require(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
    (out += '\n').append(field.name);
    (out += ':').append(field.value);
  }
  return out;
}

/// The decoded content, and how it ended.
std::string chunkText(std::string_view bytes, std::size_t piece) {
  H1ChunkDecoder decoder(kLimits);
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    std::string_view held = bytes.substr(at, piece);
    std::size_t consumed = 0;
    std::string_view data;
    H1ChunkDecoder::Event event = decoder.next(held, consumed, data);
    require(consumed <= held.size());
    at += consumed;
    if (event == H1ChunkDecoder::Event::kData) {
      require(data.data() >= held.data() && data.size() <= held.size());
      out += data;
    } else if (event == H1ChunkDecoder::Event::kEnd) {
      return out + " end " + std::to_string(at) + ' ' + std::to_string(decoder.trailers().size());
    } else if (event == H1ChunkDecoder::Event::kError) {
      // What was delivered before the error may differ with the pieces; that it is one may not.
      return "error";
    } else {
      require(consumed == held.size());
    }
  }
  return out + " more";
}

void fuzzOne(const std::uint8_t* data, std::size_t size) {
  const std::uint8_t choice = data[0];
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = 1 + (choice >> 2);
  if ((choice & 3) == 2) {
    require(chunkText(bytes, piece) == chunkText(bytes, size));
    return;
  }
  const auto role =
      (choice & 3) == 0 ? H1HeadParser::Role::kRequest : H1HeadParser::Role::kResponse;
  std::size_t used_whole = 0;
  std::size_t used_pieces = 0;
  const std::string whole = headText(role, bytes, std::max<std::size_t>(size, 1), used_whole);
  const std::string pieces = headText(role, bytes, piece, used_pieces);
  // Pieces may be refused earlier (a bare LF) than the whole, never later and never otherwise.
  if (whole != "error" && pieces != "error") {
    require(whole == pieces);
    require(whole == "more" || used_whole == used_pieces);
  }
}

}  // namespace
}  // namespace postern::codec

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) postern::codec::fuzzOne(data, size);
  return 0;
}
