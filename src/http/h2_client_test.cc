// The HTTP/2 client frame by frame: our side against a script, in memory.
#include "http/h2_client.h"

#include "testing/h2_script.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

namespace postern::http {
namespace {

using codec::H2Error;
using testing::MemoryTransport;
using testing::Script;
using testing::Seen;

struct ClientSide : Script, ClientObserver {
  ClientConnection* connection = nullptr;
  bool closed = false;
  int available = 0;
  bool draining = false;

  explicit ClientSide(ClientLimits limits = {}) {
    connection = startH2Client(loop, std::make_unique<MemoryTransport>(wire), limits, *this);
    wire.observer->onConnected();
    codec::writeH2Settings(out, {});
    send();
  }
  ~ClientSide() override {
    if (!closed) connection->close();
    loop.runOnce();
  }
  void onConnected(ClientConnection&) override {}
  void onAvailable(ClientConnection&) override { ++available; }
  void onDraining(ClientConnection&) override { draining = true; }
  void onClosed(ClientConnection&, base::Error) override { closed = true; }
  Stream& open(Seen& seen, End end = End::kYes, std::string_view method = "GET") {
    seen.stream = &connection->open(seen);
    seen.stream->sendHeaders(
        {{":method", method}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}, end);
    turn();
    return *seen.stream;
  }
};

TEST(H2Client, TakesAnswersInAnyOrder) {
  ClientSide c;
  Seen one, two;
  c.open(one);
  c.open(two);
  EXPECT_TRUE(c.answers[1].ended && c.answers[3].ended);
  c.headers(3, {{":status", "100"}}, End::kNo);
  c.headers(3, {{":status", "204"}}, End::kYes);
  c.headers(1, {{":status", "200"}}, End::kNo);
  c.data(1, "body", End::kNo);
  c.headers(1, {{"t", "v"}}, End::kYes);
  c.send();
  EXPECT_TRUE(two.ended);
  EXPECT_EQ(one.headers.status(), 200);
  one.stream->read();
  c.turn();
  EXPECT_EQ(one.body, "body");
  EXPECT_FALSE(one.ended);
  one.stream->read();
  c.turn();
  EXPECT_EQ(one.trailers.value("t"), "v");
  EXPECT_EQ(c.connection->activeStreams(), 0u);
}

/// What a proxy does with an answer for a client of HTTP/1.
struct Forwarding : Seen {
  event::TurnEnd flush;
  std::string body_at_flush = "none";
  explicit Forwarding(event::Loop& loop)
      : flush(loop, [this] { body_at_flush = body; }, event::TurnEnd::When::kPrompt) {}
  void onHeaders(HeaderMap fields, End end) override {
    Seen::onHeaders(std::move(fields), end);
    flush.schedule();
    stream->read();
  }
};

TEST(H2Client, GivesABodyThatCameWithItsHeadBeforeAnythingIsFlushed) {
  ClientSide c;
  Forwarding seen(c.loop);
  c.open(seen);
  c.headers(1, {{":status", "200"}}, End::kNo);
  c.data(1, "body", End::kYes);
  c.send();
  EXPECT_EQ(seen.body_at_flush, "body");
  EXPECT_TRUE(seen.ended);
}

TEST(H2Client, AsksASilentPeerBeforeANewStream) {
  ClientLimits limits;
  limits.h2.keepalive = {.timeout = std::chrono::milliseconds(30),
                         .idle_interval = std::chrono::milliseconds(20)};
  ClientSide c(limits);
  Seen one;
  c.open(one);
  EXPECT_EQ(c.pings, 0);
  c.headers(1, {{":status", "204"}}, End::kYes);
  c.send();
  for (int i = 0; i < 6; ++i) c.loop.runOnce(std::chrono::milliseconds(5));
  Seen two;
  c.open(two);
  EXPECT_EQ(c.pings, 1);
  for (int i = 0; i < 40 && !c.closed; ++i) c.loop.runOnce(std::chrono::milliseconds(5));
  EXPECT_TRUE(c.closed);
  EXPECT_EQ(two.reset, ResetReason::kLostBeforeReply);
}

TEST(H2Client, RefusesABodyWhereThereIsNone) {
  ClientSide c;
  Seen one;
  c.open(one, End::kYes, "HEAD");
  c.headers(1, {{":status", "200"}, {"content-length", "4"}}, End::kNo);
  c.data(1, "body", End::kYes);
  c.send();
  EXPECT_EQ(one.reset, ResetReason::kProtocol);
}

TEST(H2Client, KeepsACompleteAnswerWhenTheRestOfTheRequestIsRefused) {
  ClientSide c;
  Seen seen;
  c.open(seen, End::kNo);
  c.headers(1, {{":status", "200"}}, End::kNo);
  c.data(1, "early", End::kYes);
  codec::writeH2Reset(c.out, 1, H2Error::kNone);
  c.send();
  seen.stream->read();
  c.turn();
  EXPECT_EQ(seen.body, "early");
  EXPECT_TRUE(seen.ended);
  EXPECT_FALSE(seen.reset);
}

TEST(H2Client, ObeysThePeersStreamLimit) {
  ClientSide c;
  codec::writeH2Settings(c.out, {{codec::H2SettingId::kMaxConcurrentStreams, 1}});
  c.send();
  Seen one;
  c.open(one);
  EXPECT_FALSE(c.connection->canOpen());
  const int before = c.available;
  c.headers(1, {{":status", "204"}}, End::kYes);
  c.send();
  EXPECT_TRUE(c.connection->canOpen());
  EXPECT_GT(c.available, before);
}

TEST(H2Client, RefusedAndUnprocessedRequestsMayBeTriedAgain) {
  ClientSide c;
  Seen one, two, three;
  c.open(one);
  c.open(two);
  c.open(three);
  codec::writeH2Reset(c.out, 3, H2Error::kRefusedStream);
  codec::writeH2GoAway(c.out, 1, H2Error::kNone, {});
  c.send();
  EXPECT_EQ(two.reset, ResetReason::kRefused);
  EXPECT_EQ(three.reset, ResetReason::kRefused);
  EXPECT_FALSE(one.reset);
  EXPECT_TRUE(c.draining);
  EXPECT_FALSE(c.connection->canOpen());
  c.headers(1, {{":status", "204"}}, End::kYes);
  c.send();
  EXPECT_TRUE(one.ended);
  EXPECT_TRUE(c.closed);
}

TEST(H2Client, ReadsWholeAnswersAfterTheServersEnd) {
  ClientSide c;
  Seen whole, half;
  c.open(whole);
  c.open(half);
  c.headers(1, {{":status", "200"}}, End::kNo);
  c.data(1, "all", End::kYes);
  c.headers(3, {{":status", "200"}}, End::kNo);
  c.data(3, "some", End::kNo);
  c.wire.eof = true;
  c.send();
  EXPECT_EQ(half.reset, ResetReason::kConnectionLost);
  EXPECT_FALSE(whole.reset);
  whole.stream->read();
  c.turn();
  EXPECT_EQ(whole.body, "all");
  EXPECT_TRUE(c.closed);
}

TEST(H2Client, WholeAnswersOutliveABrokenConnection) {
  ClientSide c;
  Seen whole, part;
  c.open(whole);
  c.open(part);
  c.headers(1, {{":status", "200"}}, End::kNo);
  c.data(1, std::string(16'000, 'b'), End::kNo);
  for (int i = 0; i < 8; ++i) c.data(1, std::string(16'000, 'b'), End::kNo);
  c.data(1, "end", End::kYes);
  c.headers(3, {{":status", "200"}}, End::kNo);
  c.data(3, "part", End::kNo);
  c.send();
  c.wire.broken = true;
  c.wire.observer->onReadable();
  EXPECT_FALSE(whole.reset);
  EXPECT_EQ(part.reset, ResetReason::kConnectionLost);
  c.wire.observer->onReadable();  // the poller once more
  for (int i = 0; i < 5 && !whole.ended; ++i) {
    whole.stream->read();
    c.turn();
  }
  EXPECT_TRUE(whole.ended);
  EXPECT_EQ(whole.body.size(), 144'003U);
  EXPECT_TRUE(c.closed);
}

TEST(H2Client, ThreeThatReadNothingLeaveTheFourthARollingWindow) {
  std::array<Seen, 4> seen;
  ClientSide c;
  for (Seen& each : seen) c.open(each);
  std::uint64_t sent = 0;
  const std::string piece(16'000, 'b');
  for (std::uint32_t id : {1U, 3U, 5U, 7U}) c.headers(id, {{":status", "200"}}, End::kNo);
  for (std::uint32_t id : {1U, 3U, 5U}) {
    for (int i = 0; i < 16; ++i, sent += piece.size()) c.data(id, piece, End::kNo);
  }
  c.send();
  for (int i = 0; i < 100; ++i) {
    ASSERT_GE(65'535 + c.window_updates[0], sent + piece.size()) << i;
    c.data(7, piece, End::kNo);
    sent += piece.size();
    seen[3].stream->read();
    c.send();
  }
  EXPECT_EQ(seen[3].body.size(), 100 * piece.size());
}

TEST(H2Client, ALateAnswerOfAResetStreamIsNothingHoweverManyEndedSince) {
  std::vector<std::unique_ptr<Seen>> seen;
  ClientSide c;
  for (int i = 0; i < 90; ++i) {
    seen.push_back(std::make_unique<Seen>());
    c.open(*seen.back());
  }
  seen[1]->stream->reset(ResetReason::kCancel);
  for (std::uint32_t i = 2; i < 80; ++i) c.headers(2 * i + 1, {{":status", "204"}}, End::kYes);
  c.headers(1, {{":status", "204"}}, End::kYes);  // the lowest number ends last
  c.headers(3, {{":status", "200"}}, End::kNo);
  c.data(3, "late", End::kYes);
  c.headers(161, {{":status", "204"}}, End::kYes);
  c.send();
  EXPECT_FALSE(c.goaway);
  EXPECT_TRUE(seen[80]->ended);
  EXPECT_FALSE(c.closed);
}

TEST(H2Client, TakesFewInformationalAnswers) {
  ClientSide c;
  Seen seen;
  c.open(seen);
  for (int i = 0; i < 17; ++i) c.headers(1, {{":status", "103"}}, End::kNo);
  c.send();
  EXPECT_EQ(seen.reset, ResetReason::kProtocol);
  EXPECT_FALSE(c.closed);
}

TEST(H2Client, RefusesMalformedAnswers) {
  ClientSide c;
  Seen seen[5];
  for (Seen& each : seen) c.open(each);
  c.headers(1, {{":status", "20"}}, End::kYes);
  c.headers(3, {{"x", "no status"}}, End::kYes);
  c.headers(5, {{":status", "200"}, {"connection", "x"}}, End::kYes);
  c.data(7, "before headers", End::kYes);
  c.headers(9, {{":status", "101"}}, End::kNo);
  c.send();
  EXPECT_EQ(seen[1].reset, ResetReason::kProtocol);  // no status
  EXPECT_EQ(seen[2].reset, ResetReason::kInvalidField);
  for (Seen& each : seen) EXPECT_TRUE(each.reset.has_value());
  EXPECT_FALSE(c.closed);
}

TEST(H2Client, TellsLostConnections) {
  ClientSide c;
  Seen one, two;
  c.open(one);
  c.open(two);
  c.headers(1, {{":status", "200"}}, End::kNo);
  c.send();
  c.wire.observer->onError({base::Errc::kReset, "reset"});
  EXPECT_EQ(one.reset, ResetReason::kConnectionLost);
  EXPECT_EQ(two.reset, ResetReason::kLostBeforeReply);
  EXPECT_TRUE(c.closed);
}

TEST(H2Client, CancelsAStream) {
  ClientSide c;
  Seen seen;
  c.open(seen, End::kNo).reset(ResetReason::kCancel);
  c.turn();
  EXPECT_EQ(c.answers[1].reset, H2Error::kCancel);
  c.headers(1, {{":status", "200"}}, End::kYes);  // was on its way
  c.send();
  EXPECT_FALSE(c.closed);
  EXPECT_TRUE(seen.headers.empty());
}

TEST(H2Client, SendsPlainConnectWithoutSchemeAndPath) {
  Seen seen;  // outlives the connection, which is closed with its stream open
  ClientSide c;
  c.open(seen, End::kNo, "CONNECT");
  EXPECT_FALSE(c.answers[1].headers.has(":path"));
  EXPECT_FALSE(c.answers[1].headers.has(":scheme"));
  EXPECT_EQ(c.answers[1].headers.authority(), "a");
}

}  // namespace
}  // namespace postern::http
