// What the HTTP/2 server refuses, and whom it tells.
#include "testing/h2_server_side.h"

#include <gtest/gtest.h>

namespace postern::http {
namespace {

using codec::H2Error;
using testing::ServerSide;

TEST(H2Server, RefusesMalformedRequestsAndGoesOn) {
  ServerSide s({.h2 = {.resets_burst_max = 50}});
  std::uint32_t id = 1;
  const auto refused = [&](HeaderMap more, End end = End::kYes) {
    s.request(id, end, std::move(more));
    s.send();
    const auto reset = s.answers[id].reset;
    id += 2;
    return reset == H2Error::kProtocol;
  };
  EXPECT_TRUE(refused({{"connection", "close"}}));
  EXPECT_TRUE(refused({{"transfer-encoding", "chunked"}}));
  EXPECT_TRUE(refused({{"upgrade", "x"}}));
  EXPECT_TRUE(refused({{"te", "gzip"}}));
  EXPECT_TRUE(refused({{"bad name", "x"}}));
  EXPECT_TRUE(refused({{"x", "a\r\nb: c"}}));
  EXPECT_TRUE(refused({{"x", " padded"}}));
  EXPECT_TRUE(refused({{":path", ""}}));
  EXPECT_TRUE(refused({{":path", "no-slash"}}));
  EXPECT_TRUE(refused({{":path", "/a b"}}));
  EXPECT_TRUE(refused({{":status", "200"}}));
  EXPECT_TRUE(refused({{":method", "BAD METHOD"}}));
  EXPECT_TRUE(refused({{":method", "CONNECT"}}));  // with scheme and path
  EXPECT_TRUE(refused({{":authority", "user@host"}}));
  EXPECT_TRUE(refused({{"content-length", "5"}}));  // and no body
  EXPECT_TRUE(refused({{"content-length", "x"}}));
  EXPECT_TRUE(s.seen.empty());
  EXPECT_FALSE(refused({{"te", "trailers"}, {"content-length", "0"}}));
  EXPECT_EQ(s.seen.size(), 1u);
  EXPECT_FALSE(s.closed);
}

TEST(H2Server, HoldsTheBodyToItsContentLength) {
  ServerSide s;
  s.request(1, End::kNo, {{"content-length", "4"}});
  s.data(1, "12345", End::kYes);
  s.request(3, End::kNo, {{"content-length", "4"}});
  s.data(3, "123", End::kYes);
  s.request(5, End::kNo, {{"content-length", "4"}});
  s.data(5, "12", End::kNo);
  s.data(5, "34", End::kYes);
  s.send();
  EXPECT_EQ(s.answers[1].reset, H2Error::kProtocol);
  EXPECT_EQ(s.seen[0]->reset, ResetReason::kProtocol);
  EXPECT_EQ(s.answers[3].reset, H2Error::kProtocol);
  EXPECT_FALSE(s.answers[5].reset);
  s.seen[2]->stream->read();
  s.turn();
  EXPECT_EQ(s.seen[2]->body, "1234");
  EXPECT_TRUE(s.seen[2]->ended);
}

TEST(H2Server, EndsAConnectionThatResetsWithoutPause) {
  ServerSide s({.h2 = {.resets_burst_max = 20, .resets_per_second = 0}});
  for (std::uint32_t id = 1; id < 43 && !s.closed; id += 2) {
    s.request(id);
    codec::writeH2Reset(s.out, id, H2Error::kCancel);
  }
  s.send();
  EXPECT_TRUE(s.closed);
  EXPECT_EQ(s.goaway, H2Error::kEnhanceYourCalm);
  EXPECT_EQ(s.seen.size(), 21u);
  EXPECT_EQ(s.seen[0]->reset, ResetReason::kCancel);
}

TEST(H2Server, CountsResetsThatThePeerProvokes) {
  ServerSide s({.h2 = {.resets_burst_max = 20, .resets_per_second = 0}});
  for (std::uint32_t id = 1; id < 43; id += 2) {
    s.request(id);
    codec::writeH2WindowUpdate(s.out, id, 0);  // makes us reset
  }
  s.send();
  EXPECT_TRUE(s.closed);
  EXPECT_EQ(s.goaway, H2Error::kEnhanceYourCalm);
}

TEST(H2Server, AnswersTooLargeHeadersWith431) {
  ServerSide s({.header_bytes_max = 2000});
  s.request(1, End::kYes, {{"x", std::string(1900, 'v')}});
  s.send();
  EXPECT_EQ(s.answers[1].headers.value(":status"), "431");
  EXPECT_TRUE(s.seen.empty());
  s.request(3, End::kNo, {{"x", std::string(1900, 'v')}});
  s.request(5);
  s.send();
  EXPECT_EQ(s.answers[3].reset, H2Error::kNone);
  EXPECT_EQ(s.seen.size(), 1u);  // the table stayed in step
}

/// An owner that is told of requests nobody can read.
struct ToldSide : ServerSide, StreamObserver {
  using ServerSide::ServerSide;
  StreamObserver* onInvalidRequest(ServerConnection&, Stream& stream) override {
    invalid = &stream;
    return this;
  }
  void onHeaders(HeaderMap, End) override {}
  void onData(base::Buffer&, End) override {}
  void onTrailers(HeaderMap) override {}
  bool onRefused(int status, std::string_view text) override {
    details = std::to_string(status) + ' ' + std::string(text);
    if (answers_itself) invalid->sendHeaders({{":status", "431"}, {"x-by", "owner"}}, End::kYes);
    return answers_itself;
  }
  void onReset(ResetReason reason) override { reset = reason; }
  Stream* invalid = nullptr;
  bool answers_itself = true;
  std::string details;
  std::optional<ResetReason> reset;
};

TEST(H2Server, LetsTheOwnerAnswerTooLargeHeaders) {
  ToldSide s({.header_bytes_max = 2000, .header_count_max = 20});
  s.request(1, End::kYes, {{"x", std::string(1900, 'v')}});
  s.send();
  EXPECT_EQ(s.details, "431 http2.header_list_size_too_large");
  EXPECT_EQ(s.answers[1].headers.value("x-by"), "owner");
  EXPECT_FALSE(s.reset);
  s.answers_itself = false;
  HeaderMap many;
  for (int i = 0; i < 20; ++i) many.add("x" + std::to_string(i), "v");
  s.request(3, End::kYes, many);
  s.send();
  EXPECT_EQ(s.details, "431 http2.too_many_headers");
  EXPECT_EQ(s.answers[3].headers.value(":status"), "431");
  EXPECT_FALSE(s.answers[3].headers.has("x-by"));
  EXPECT_EQ(s.reset, ResetReason::kOverflow);
}

TEST(H2Server, TellsTheOwnerOfABlockThatCannotBeDecoded) {
  ToldSide s;
  codec::writeH2Headers(s.out, 1, "\xff\xff\xff\xff\xff\xff", codec::kH2EndStream);
  s.send();
  EXPECT_EQ(s.goaway, H2Error::kCompression);
  EXPECT_EQ(s.goaway_last, 1u);
  EXPECT_EQ(s.reset, ResetReason::kProtocol);
}

TEST(H2Server, TellsTheOwnerOfABlockThatIsNotReadToItsEnd) {
  ToldSide s({.header_bytes_max = 2000});
  s.request(1);
  codec::writeH2Headers(s.out, 3, std::string(20'000, 'x'), 0);
  s.send();
  EXPECT_EQ(s.goaway, H2Error::kEnhanceYourCalm);
  EXPECT_EQ(s.reset, ResetReason::kOverflow);
  ASSERT_EQ(s.seen.size(), 1u);
  EXPECT_EQ(s.seen[0]->reset, ResetReason::kProtocol);  // the other request is told of its own
}

TEST(H2Server, TakesNoConnectWithoutPort) {
  ServerSide s;
  s.headers(1, {{":method", "CONNECT"}, {":authority", "h:443"}}, End::kNo);
  s.headers(3, {{":method", "CONNECT"}, {":authority", "h"}}, End::kNo);
  s.send();
  EXPECT_FALSE(s.answers[1].reset);
  EXPECT_EQ(s.answers[3].reset, H2Error::kProtocol);
}

TEST(H2Server, AnInvalidMessageEndsTheConnectionUnlessConfiguredSo) {
  ServerSide s({.h2 = {.invalid_message_ends_stream = false}});
  s.request(1);
  s.request(3, End::kYes, {{"connection", "close"}});
  s.send();
  EXPECT_TRUE(s.closed);
  EXPECT_EQ(s.goaway, H2Error::kProtocol);
  EXPECT_EQ(s.seen[0]->reset, ResetReason::kInvalidField);
  EXPECT_EQ(s.events[H2Event::kMessagingError], 1);
}

TEST(H2Server, TakesExtendedConnectOnlyIfItWasOffered) {
  const HeaderMap connect{{":method", "CONNECT"}, {":protocol", "websocket"}};
  ServerSide no;
  no.request(1, End::kNo, connect);
  no.send();
  EXPECT_EQ(no.answers[1].reset, H2Error::kProtocol);
  ServerSide yes({.h2 = {.extended_connect = true}});
  yes.request(1, End::kNo, connect);
  yes.send();
  ASSERT_EQ(yes.seen.size(), 1u);
  EXPECT_EQ(yes.seen[0]->headers.value(":protocol"), "websocket");
}

}  // namespace
}  // namespace postern::http
