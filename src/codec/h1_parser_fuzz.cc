// Heads and chunks from hostile peers: no crash, and the verdict does not depend on how the bytes
// were cut.
#include "base/check.h"
#include "codec/h1_parser.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace {

using postern::codec::H1ChunkDecoder;
using postern::codec::H1HeadParser;
using postern::codec::H1Limits;

constexpr H1Limits kLimits{.head_bytes_max = 2048, .field_count_max = 16};

struct Verdict {
  H1HeadParser::Status status = H1HeadParser::Status::kNeedMore;
  std::string text;
};

Verdict parse(std::string_view bytes, std::size_t piece, H1HeadParser::Role role) {
  H1HeadParser parser(role, kLimits);
  Verdict out;
  while (!bytes.empty() && out.status == H1HeadParser::Status::kNeedMore) {
    std::string part(bytes.substr(0, piece));
    std::size_t consumed = 0;
    out.status = parser.feed(part, consumed);
    POSTERN_CHECK(consumed <= part.size() &&
                  (consumed > 0 || out.status != H1HeadParser::Status::kNeedMore));
    bytes.remove_prefix(consumed);
    if (out.status != H1HeadParser::Status::kDone) continue;
    out.text = std::string(parser.head().method) + " " + std::string(parser.head().target);
    for (const auto& field : parser.head().fields) {
      out.text += "|" + std::string(field.name) + ":" + std::string(field.value);
    }
  }
  return out;
}

std::string decode(std::string_view bytes, std::size_t piece) {
  H1ChunkDecoder decoder(kLimits);
  std::string out;
  while (!bytes.empty()) {
    std::string part(bytes.substr(0, piece));
    std::size_t consumed = 0;
    std::string_view data;
    H1ChunkDecoder::Event event = decoder.next(part, consumed, data);
    if (event == H1ChunkDecoder::Event::kError) return "error";
    if (event == H1ChunkDecoder::Event::kEnd) return out + "|end";
    if (event == H1ChunkDecoder::Event::kData) out += data;
    POSTERN_CHECK(consumed > 0);
    bytes.remove_prefix(consumed);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (auto role : {H1HeadParser::Role::kRequest, H1HeadParser::Role::kResponse}) {
    Verdict whole = parse(bytes, size + 1, role);
    Verdict pieces = parse(bytes, 3, role);
    // Only a complete head is a verdict: an error may be seen earlier or later in pieces.
    if (whole.status == H1HeadParser::Status::kDone &&
        pieces.status == H1HeadParser::Status::kDone) {
      POSTERN_CHECK(whole.text == pieces.text);
    }
  }
  POSTERN_CHECK(decode(bytes, size + 1) == decode(bytes, 2));
  return 0;
}
