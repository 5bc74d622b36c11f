#include "codec/h2_reader.h"

#include "codec/grpc_frame.h"
#include "codec/h2_writer.h"

#include <gtest/gtest.h>

namespace postern::codec {
namespace {

using Event = H2FrameReader::Event;
using ReaderRole = H2FrameReader::Role;

std::string frame(H2Type type, unsigned flags, std::uint32_t stream, std::string_view payload) {
  base::Buffer out;
  writeH2Header(out, payload.size(), type, flags, stream);
  out.append(payload);
  return out.toString();
}
const std::string kSettings = frame(H2Type::kSettings, 0, 0, "");

/// A reader that has seen SETTINGS, and its input.
struct Fed {
  base::Buffer in;
  H2FrameReader reader;
  explicit Fed(std::string_view bytes, const H2ReaderLimits& limits = {})
      : reader(ReaderRole::kClient, limits) {
    in.append(kSettings);
    in.append(bytes);
    EXPECT_EQ(reader.next(in), Event::kSettings);
  }
  Event next() { return reader.next(in); }
};

/// The code of the connection error the bytes cause.
H2Error errorOf(std::string_view bytes) {
  Fed fed(bytes);
  for (int i = 0; i < 100000; ++i) {
    const Event event = fed.next();
    if (event == Event::kError) return fed.reader.code();
    if (event == Event::kNeedMore) break;
    if (event == Event::kData) fed.in.drain(fed.reader.dataBytes());
  }
  return H2Error::kNone;
}

std::string settingsFrame(std::uint16_t id, std::uint32_t value) {
  base::Buffer out;
  writeH2Settings(out, {{static_cast<H2SettingId>(id), value}});
  return out.toString();
}

TEST(H2Reader, WantsThePrefaceThenSettings) {
  H2FrameReader reader(ReaderRole::kServer);
  base::Buffer in{kH2Preface.substr(0, 10)};
  EXPECT_EQ(reader.next(in), Event::kNeedMore);
  in.append(kH2Preface.substr(10));
  in.append(settingsFrame(4, 1000));
  EXPECT_EQ(reader.next(in), Event::kSettings);
  EXPECT_EQ(reader.settings().initial_window, 1000u);

  H2FrameReader wrong(ReaderRole::kServer);
  base::Buffer http1{"GET / HTTP/1.1\r\n"};
  EXPECT_EQ(wrong.next(http1), Event::kError);

  H2FrameReader no_settings(ReaderRole::kClient);
  base::Buffer ping{frame(H2Type::kPing, 0, 0, "12345678")};
  EXPECT_EQ(no_settings.next(ping), Event::kError);
}

TEST(H2Reader, HandsOnDataAsItComesWithoutPadding) {
  std::string payload = std::string(1, '\x03') + "hello" + "ppp";
  std::string bytes = frame(H2Type::kData, kH2Padded | kH2EndStream, 5, payload);
  Fed fed(bytes.substr(0, 12));  // header, padding length, "he"
  ASSERT_EQ(fed.next(), Event::kData);
  EXPECT_EQ(fed.reader.stream(), 5u);
  EXPECT_EQ(fed.reader.dataBytes(), 2u);
  EXPECT_EQ(fed.reader.flowBytes(), 9u);
  EXPECT_EQ(fed.reader.paddingBytes(), 4u);
  EXPECT_FALSE(fed.reader.endStream());
  fed.in.drain(2);
  EXPECT_EQ(fed.next(), Event::kNeedMore);
  fed.in.append(bytes.substr(12));
  ASSERT_EQ(fed.next(), Event::kData);
  EXPECT_EQ(fed.reader.flowBytes(), 0u);
  EXPECT_EQ(fed.reader.paddingBytes(), 0u);
  EXPECT_TRUE(fed.reader.endStream());
  EXPECT_EQ(fed.in.front().substr(0, 3), "llo");
  fed.in.drain(3);
  EXPECT_EQ(fed.next(), Event::kNeedMore);
  EXPECT_TRUE(fed.in.empty());
}

TEST(H2Reader, JoinsAHeaderBlockAndDropsPaddingAndPriority) {
  std::string first = std::string(1, '\x01') + std::string("\0\0\0\x01\x10", 5) + "abc" + "p";
  Fed fed(frame(H2Type::kHeaders, kH2Padded | kH2Priority | kH2EndStream, 3, first) +
          frame(H2Type::kContinuation, 0, 3, "def") +
          frame(H2Type::kContinuation, kH2EndHeaders, 3, "ghi"));
  ASSERT_EQ(fed.next(), Event::kHeaders);
  EXPECT_EQ(fed.reader.block(), "abcdefghi");
  EXPECT_TRUE(fed.reader.endStream());
  EXPECT_FALSE(fed.reader.selfDependent());
}

TEST(H2Reader, WritesHeadersThatAreReadBack) {
  base::Buffer out;
  const std::string block(40000, 'b');
  writeH2Headers(out, 7, block, kH2EndStream);
  Fed fed(out.toString());
  ASSERT_EQ(fed.next(), Event::kHeaders);
  EXPECT_EQ(fed.reader.block(), block);
  EXPECT_TRUE(fed.reader.endStream());
  EXPECT_EQ(fed.next(), Event::kNeedMore);
}

TEST(H2Reader, RefusesFramesOutOfOrderSizeOrPlace) {
  using T = H2Type;
  const std::string opened = frame(T::kHeaders, 0, 1, "a");
  EXPECT_EQ(errorOf(opened + frame(T::kData, 0, 1, "x")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(opened + frame(T::kContinuation, 0, 3, "x")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kContinuation, 0, 1, "x")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kData, 0, 0, "x")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kHeaders, 4, 0, "x")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kSettings, 0, 1, "")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kPing, 0, 1, "12345678")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kPushPromise, 4, 1, "1234")), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kPing, 0, 0, "1234567")), H2Error::kFrameSize);
  EXPECT_EQ(errorOf(frame(T::kSettings, 0, 0, "12345")), H2Error::kFrameSize);
  EXPECT_EQ(errorOf(frame(T::kSettings, kH2Ack, 0, "123456")), H2Error::kFrameSize);
  EXPECT_EQ(errorOf(frame(T::kRstStream, 0, 1, "123")), H2Error::kFrameSize);
  EXPECT_EQ(errorOf(frame(T::kWindowUpdate, 0, 1, "123")), H2Error::kFrameSize);
  EXPECT_EQ(errorOf(frame(T::kGoAway, 0, 0, "1234567")), H2Error::kFrameSize);
  EXPECT_EQ(errorOf(frame(T::kData, 0, 1, std::string(16385, 'x'))), H2Error::kFrameSize);
  EXPECT_EQ(errorOf(frame(T::kWindowUpdate, 0, 0, std::string(4, '\0'))), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kData, kH2Padded, 1,
                          "\x05"
                          "abcd")),
            H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(T::kPriority, 0, 1, std::string("\0\0\0\x01\0", 5))), H2Error::kProtocol);
  EXPECT_EQ(errorOf(frame(static_cast<T>(0x7f), 0xff, 9, "unknown")), H2Error::kNone);
}

TEST(H2Reader, RefusesWrongSettings) {
  EXPECT_EQ(errorOf(settingsFrame(2, 2)), H2Error::kProtocol);
  EXPECT_EQ(errorOf(settingsFrame(4, 0x80000000U)), H2Error::kFlowControl);
  EXPECT_EQ(errorOf(settingsFrame(5, 16383)), H2Error::kProtocol);
  EXPECT_EQ(errorOf(settingsFrame(5, 16777216)), H2Error::kProtocol);
  EXPECT_EQ(errorOf(settingsFrame(8, 2)), H2Error::kProtocol);
  EXPECT_EQ(errorOf(settingsFrame(0x99, 7)), H2Error::kNone);
}

TEST(H2Reader, TellsStreamErrorsWithoutEndingTheConnection) {
  Fed fed(frame(H2Type::kWindowUpdate, 0, 3, std::string(4, '\0')) +
          frame(H2Type::kPriority, 0, 5, "abc"));
  ASSERT_EQ(fed.next(), Event::kStreamError);
  EXPECT_EQ(fed.reader.stream(), 3u);
  EXPECT_EQ(fed.reader.code(), H2Error::kProtocol);
  ASSERT_EQ(fed.next(), Event::kStreamError);
  EXPECT_EQ(fed.reader.code(), H2Error::kFrameSize);
  EXPECT_EQ(fed.next(), Event::kNeedMore);
}

TEST(H2Reader, BoundsAHeaderBlock) {
  Fed bytes(frame(H2Type::kHeaders, 0, 1, std::string(600, 'a')) +
                frame(H2Type::kContinuation, 0, 1, std::string(600, 'b')),
            {.block_bytes_max = 1000});
  EXPECT_EQ(bytes.next(), Event::kError);
  EXPECT_EQ(bytes.reader.code(), H2Error::kEnhanceYourCalm);
  std::string many = frame(H2Type::kHeaders, 0, 1, "a");
  for (int i = 0; i < 5; ++i) many += frame(H2Type::kContinuation, 0, 1, "");
  Fed frames(many, {.continuations_max = 4});
  EXPECT_EQ(frames.next(), Event::kError);
  EXPECT_EQ(frames.reader.code(), H2Error::kEnhanceYourCalm);
}

TEST(H2Reader, EndsAFloodOfFramesThatBringNothing) {
  const auto flood = [](const std::string& one) {
    std::string out;
    for (int i = 0; i < 1100; ++i) out += one;
    return errorOf(out);
  };
  EXPECT_EQ(flood(frame(H2Type::kPing, 0, 0, "12345678")), H2Error::kEnhanceYourCalm);
  EXPECT_EQ(flood(kSettings), H2Error::kEnhanceYourCalm);
  EXPECT_EQ(flood(frame(H2Type::kPriority, 0, 1, std::string("\0\0\0\x03\0", 5))),
            H2Error::kEnhanceYourCalm);
  EXPECT_EQ(flood(frame(H2Type::kData, 0, 1, "")), H2Error::kEnhanceYourCalm);
  EXPECT_EQ(flood(frame(H2Type::kWindowUpdate, 0, 1, std::string("\0\0\0\x01", 4))),
            H2Error::kEnhanceYourCalm);
  EXPECT_EQ(flood(frame(static_cast<H2Type>(0x20), 0, 1, "")), H2Error::kEnhanceYourCalm);
  // Body bytes pay for what their sender asks besides.
  EXPECT_EQ(flood(frame(H2Type::kData, 0, 1, "x") + frame(H2Type::kPing, 0, 0, "12345678")),
            H2Error::kNone);
}

TEST(H2Reader, CountsFramesByWhatTheyAreFor) {
  const std::string priority = frame(H2Type::kPriority, 0, 1, std::string("\0\0\0\x03\0", 5));
  const std::string update = frame(H2Type::kWindowUpdate, 0, 1, std::string("\0\0\0\x01", 4));
  const std::string empty = frame(H2Type::kData, 0, 1, "");
  const auto times = [](int count, const std::string& one) {
    std::string out;
    for (int i = 0; i < count; ++i) out += one;
    return out;
  };
  const H2ReaderLimits limits{
      .empty_frames_max = 2, .priority_frames_per_stream = 3, .window_updates_per_data_frame = 1};
  const auto end = [&](const std::string& bytes, int streams, int frames) {
    Fed fed(bytes, limits);
    for (int i = 0; i < streams; ++i) fed.reader.streamOpened();
    for (int i = 0; i < frames; ++i) fed.reader.dataSent();
    Event event = fed.next();
    while (event != Event::kError && event != Event::kNeedMore) event = fed.next();
    return fed.reader.flood();
  };
  using Flood = H2FrameReader::Flood;
  EXPECT_EQ(end(times(6, priority), 1, 0), Flood::kNone);
  EXPECT_EQ(end(times(7, priority), 1, 0), Flood::kPriority);
  EXPECT_EQ(end(times(5 + 2 * (1 + 4), update), 1, 4), Flood::kNone);
  EXPECT_EQ(end(times(6 + 2 * (1 + 4), update), 1, 4), Flood::kWindowUpdate);
  EXPECT_EQ(end(times(2, empty) + frame(H2Type::kData, 1, 1, "") + times(2, empty), 1, 0),
            Flood::kNone);
  EXPECT_EQ(end(times(3, empty), 1, 0), Flood::kEmptyFrames);
  EXPECT_EQ(end(times(1001, frame(H2Type::kPing, 0, 0, "12345678")), 1, 0), Flood::kControl);
}

TEST(H2Reader, TakesBackCreditThatIsGranted) {
  std::string pings;
  for (int i = 0; i < 1500; ++i) pings += frame(H2Type::kPing, 0, 0, "12345678");
  Fed fed(pings);
  fed.reader.grant(600);
  Event event = Event::kPing;
  while (event == Event::kPing) event = fed.next();
  EXPECT_EQ(event, Event::kNeedMore);
}

TEST(GrpcReader, TakesMessagesInAnyPieces) {
  base::Buffer whole;
  const std::string big(50'000, 'b');
  writeGrpcMessage(whole, "one");
  writeGrpcMessage(whole, "");
  writeGrpcMessage(whole, big);
  const std::string bytes = whole.toString();
  for (std::size_t piece : {1u, 7u, 20000u, 100000u}) {
    GrpcReader reader(1 << 20);
    base::Buffer in;
    std::vector<std::string> got;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      in.append(std::string_view(bytes).substr(at, piece));
      while (reader.next(in) == GrpcReader::Event::kMessage) got.emplace_back(reader.message());
    }
    EXPECT_EQ(got, (std::vector<std::string>{"one", "", big})) << piece;
    EXPECT_FALSE(reader.inside(in));
  }
}

TEST(GrpcReader, RefusesLargeAndCompressedMessages) {
  GrpcReader reader(10);
  base::Buffer large;
  writeGrpcMessage(large, "elevenbytes");
  EXPECT_EQ(reader.next(large), GrpcReader::Event::kTooLarge);
  GrpcReader other(10);
  base::Buffer compressed{std::string_view("\1\0\0\0\0", 5)};
  EXPECT_EQ(other.next(compressed), GrpcReader::Event::kCompressed);
}

TEST(GrpcText, EscapesAndTakesMalformedEscapesAsTheyAre) {
  EXPECT_EQ(encodeGrpcText("a b%\n\xc3"), "a b%25%0A%C3");
  EXPECT_EQ(decodeGrpcText("a b%25%0a%C3"), "a b%\n\xc3");
  EXPECT_EQ(decodeGrpcText("100%"), "100%");
  EXPECT_EQ(decodeGrpcText("%4"), "%4");
  EXPECT_EQ(decodeGrpcText("%zz"), "%zz");
  EXPECT_EQ(decodeGrpcText("%41"), "A");
}

}  // namespace
}  // namespace postern::codec
