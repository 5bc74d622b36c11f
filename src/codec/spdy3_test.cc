#include "codec/spdy3.h"

#include "base/strings.h"

#include <gtest/gtest.h>

#include <string>

namespace postern::codec {
namespace {

using base::Errc;

std::string fromHex(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

/// All frames of `bytes` given in pieces; ends at the first error.
struct Outcome {
  std::vector<SpdyFrame> frames;
  std::optional<base::Error> error;
};
Outcome parse(std::string_view bytes, std::size_t piece, SpdyLimits limits = {}) {
  SpdyParser parser(limits);
  Outcome out;
  while (!bytes.empty() && !out.error) {
    parser.feed(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
    while (true) {
      auto frame = parser.next();
      if (!frame) out.error = frame.error();
      if (!frame || !*frame) break;
      out.frames.push_back(std::move(**frame));
    }
  }
  return out;
}

TEST(Spdy3, HeadersSurviveTheirCompressionInAnyPieces) {
  SpdyWriter writer;
  const SpdyHeaders headers{{"streamtype", "stdin"}, {"port", "80"}, {"requestid", "0"}};
  std::string bytes = writer.synStream(1, false, headers);
  bytes += writer.synReply(1, true);
  bytes += writer.synStream(3, true, headers);
  for (std::size_t piece : {std::size_t{1}, std::size_t{7}, bytes.size()}) {
    Outcome out = parse(bytes, piece);
    ASSERT_FALSE(out.error) << out.error->text;
    ASSERT_EQ(out.frames.size(), 3U);
    EXPECT_EQ(out.frames[0].type, SpdyType::kSynStream);
    EXPECT_EQ(out.frames[0].headers, headers);
    EXPECT_FALSE(out.frames[0].fin);
    EXPECT_EQ(out.frames[1].type, SpdyType::kSynReply);
    EXPECT_TRUE(out.frames[1].headers.empty());
    EXPECT_EQ(out.frames[2].stream, 3U);
    EXPECT_EQ(out.frames[2].headers, headers);
    EXPECT_TRUE(out.frames[2].fin);
  }
}

// A SYN_STREAM as CPython's zlib makes it with the draft's dictionary (level 9, sync flush).
constexpr const char* kForeignSynStream =
    "800300010000002a0000000500000000000078f9e3c6a7c202a62346703a2b294a4dcc8516256cc0"
    "c202183b00000000ffff";

TEST(Spdy3, ReadsWhatAnotherCompressorWrote) {
  Outcome out = parse(fromHex(kForeignSynStream), 5);
  ASSERT_FALSE(out.error) << out.error->text;
  ASSERT_EQ(out.frames.size(), 1U);
  EXPECT_EQ(out.frames[0].stream, 5U);
  EXPECT_EQ(out.frames[0].headers, (SpdyHeaders{{"streamtype", "resize"}}));
}

TEST(Spdy3, DataComesInPiecesAndEndsWithTheLast) {
  const std::string body(300000, 'x');
  std::string bytes = SpdyWriter::dataHead(7, true, body.size()) + body;
  Outcome out = parse(bytes, 1000);
  ASSERT_FALSE(out.error);
  std::string seen;
  for (std::size_t i = 0; i < out.frames.size(); ++i) {
    EXPECT_EQ(out.frames[i].stream, 7U);
    EXPECT_EQ(out.frames[i].fin, i + 1 == out.frames.size());
    seen += out.frames[i].data;
  }
  EXPECT_EQ(seen, body);
}

TEST(Spdy3, EmptyDataWithFinIsAnEnd) {
  Outcome out = parse(SpdyWriter::dataHead(1, true, 0), 8);
  ASSERT_EQ(out.frames.size(), 1U);
  EXPECT_TRUE(out.frames[0].fin);
}

TEST(Spdy3, SmallControlFrames) {
  std::string bytes = SpdyWriter::ping(9) + SpdyWriter::rstStream(3, SpdyStatus::kCancel) +
                      SpdyWriter::goAway(5) + SpdyWriter::windowUpdate(1, 4096) +
                      fromHex(
                          "8003000400000004"
                          "00000000");  // SETTINGS without entries
  Outcome out = parse(bytes, 3);
  ASSERT_FALSE(out.error);
  ASSERT_EQ(out.frames.size(), 5U);
  EXPECT_EQ(out.frames[0].value, 9U);
  EXPECT_EQ(out.frames[1].stream, 3U);
  EXPECT_EQ(out.frames[1].value, 5U);
  EXPECT_EQ(out.frames[2].type, SpdyType::kGoAway);
  EXPECT_EQ(out.frames[2].stream, 5U);
  EXPECT_EQ(out.frames[3].value, 4096U);
  EXPECT_EQ(out.frames[4].type, SpdyType::kSettings);
}

TEST(Spdy3, SkipsControlFramesItDoesNotKnow) {
  Outcome out = parse(fromHex("8003000c00000002ffff") + SpdyWriter::ping(1), 100);
  ASSERT_FALSE(out.error);
  ASSERT_EQ(out.frames.size(), 1U);
  EXPECT_EQ(out.frames[0].type, SpdyType::kPing);
}

TEST(Spdy3, RefusesWhatBreaksTheProtocol) {
  for (const char* hex : {
           "8002000100000000",          // version 2
           "0000000000000001",          // data on stream 0
           "800300030000000400000001",  // RST_STREAM of 4 bytes
           "8003000100000004"
           "00000001",  // SYN_STREAM without its fixed part
           "800300020000000600000001"
           "ffff",  // a block that is no zlib stream
           "800300020000000a00000001"
           "78bb00000001",  // another dictionary
       }) {
    Outcome out = parse(fromHex(hex), 100);
    ASSERT_TRUE(out.error) << hex;
    EXPECT_EQ(out.error->code, Errc::kProtocol) << hex;
  }
  SpdyWriter writer;
  std::string on_zero = writer.synStream(0, false, {});
  EXPECT_EQ(parse(on_zero, 100).error->code, Errc::kProtocol);
}

TEST(Spdy3, LimitsAreReached) {
  // A control frame that only announces its size.
  EXPECT_EQ(parse(fromHex("80030001000f0000"), 100).error->code, Errc::kLimitExceeded);

  SpdyLimits limits;
  limits.header_count_max = 2;
  SpdyHeaders three{{"a", "1"}, {"b", "2"}, {"c", "3"}};
  EXPECT_EQ(parse(SpdyWriter().synReply(1, false, three), 100, limits).error->code,
            Errc::kLimitExceeded);
  three.pop_back();
  EXPECT_FALSE(parse(SpdyWriter().synReply(1, false, three), 100, limits).error);

  // 1 MiB of zeros is 1 KiB on the wire.
  SpdyHeaders bomb{{"a", std::string(1024 * 1024, '0')}};
  EXPECT_EQ(parse(SpdyWriter().synReply(1, false, bomb), 1 << 16).error->code,
            Errc::kLimitExceeded);
}

}  // namespace
}  // namespace postern::codec
