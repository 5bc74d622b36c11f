// The HTTP/2 server: windows, limits, drain, time. What it refuses: h2_server_refusal_test.cc.
#include "testing/h2_server_side.h"

#include <gtest/gtest.h>

namespace postern::http {
namespace {

using codec::H2Error;
using testing::Script;
using testing::Seen;
using testing::ServerSide;

/// Within a time that some timeout of the test ends.
bool closes(ServerSide& s) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!s.closed && std::chrono::steady_clock::now() < end) {
    s.loop.runOnce(std::chrono::milliseconds(20));
    s.turn();
  }
  return s.closed;
}

TEST(H2Server, AnswersWithTrailersAndJoinsCookies) {
  ServerSide s;
  HeaderMap fields{{":method", "GET"}, {":scheme", "http"}, {":path", "/x"}, {"host", "h"}};
  fields.add("cookie", "a=1");
  fields.add("cookie", "b=2");
  s.headers(1, fields, End::kYes);
  s.send();
  ASSERT_EQ(s.seen.size(), 1u);
  EXPECT_EQ(s.seen[0]->headers.value("cookie"), "a=1; b=2");
  EXPECT_EQ(s.seen[0]->headers.authority(), "h");
  EXPECT_FALSE(s.seen[0]->headers.has("host"));
  Stream& stream = *s.seen[0]->stream;
  stream.sendHeaders({{":status", "103"}, {"link", "x"}}, End::kNo);
  stream.sendHeaders({{":status", "200"}, {"transfer-encoding", "chunked"}}, End::kNo);
  base::Buffer body{"text"};
  stream.sendData(body, End::kNo);
  stream.sendTrailers({{"t", "v"}});
  stream.setObserver(nullptr);  // within the turn an ended stream may still be touched
  stream.reset(ResetReason::kLocal);
  s.turn();
  Script::Answer& answer = s.answers[1];
  EXPECT_EQ(answer.headers.value(":status"), "103");
  EXPECT_EQ(answer.body, "text");
  EXPECT_EQ(answer.trailers.value("t"), "v");
  EXPECT_TRUE(answer.ended);
  EXPECT_FALSE(answer.reset);
}

TEST(H2Server, OpensTheWindowOnlyAsTheBodyIsRead) {
  ServerSide s({.h2 = {.stream_window_bytes = 100'000, .connection_window_bytes = 1'000'000}});
  s.request(1, End::kNo);
  for (int i = 0; i < 10; ++i) s.data(1, std::string(10'000, 'x'), End::kNo);
  s.send();
  EXPECT_EQ(s.window_updates[1], 0u);
  Seen& seen = *s.seen[0];
  EXPECT_EQ(seen.body, "");
  seen.stream->read();
  s.turn();
  EXPECT_EQ(seen.body.size(), kReadBytes);  // one piece per read
  EXPECT_EQ(s.window_updates[1], kReadBytes);
  seen.stream->read();
  s.turn();
  EXPECT_EQ(seen.body.size(), 100'000u);
  // Beyond the window: an error of the stream, the connection goes on.
  for (int i = 0; i < 7; ++i) s.data(1, std::string(10'000, 'x'), End::kNo);
  s.send();
  EXPECT_EQ(s.answers[1].reset, H2Error::kFlowControl);
  EXPECT_FALSE(s.closed);
}

TEST(H2Server, AnIdleConnectionEndsWhateverTheOtherTimesAre) {
  const ServerLimits limits{.idle_timeout = std::chrono::milliseconds(30),
                            .headers_timeout = std::chrono::milliseconds(0),
                            .flush_timeout = std::chrono::milliseconds(0)};
  ServerSide served(limits);
  served.request(1);
  served.send();
  served.seen[0]->stream->sendHeaders({{":status", "204"}}, End::kYes);
  served.turn();
  EXPECT_TRUE(closes(served));
  EXPECT_EQ(served.goaway, H2Error::kNone);
  EXPECT_EQ(served.events[H2Event::kProtocolError], 0);
  ServerSide silent(limits, false);
  EXPECT_TRUE(closes(silent));
  ServerSide half(limits);  // of a frame
  half.out.append(std::string_view("\0\0", 2));
  half.send();
  EXPECT_TRUE(closes(half));
}

TEST(H2Server, PingsAreNoActivity) {
  ServerSide s({.idle_timeout = std::chrono::milliseconds(50)});
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!s.closed && std::chrono::steady_clock::now() < end) {
    codec::writeH2Ping(s.out, "12345678", codec::H2PingKind::kAsk);
    s.send();
    s.loop.runOnce(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(s.closed);
  EXPECT_GT(s.ping_acks, 0);
}

TEST(H2Server, ARequestThatRunsIsNoIdleConnection) {
  ServerSide s({.idle_timeout = std::chrono::milliseconds(20)});
  s.request(1);
  s.send();
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
  while (std::chrono::steady_clock::now() < end) s.loop.runOnce(std::chrono::milliseconds(10));
  EXPECT_FALSE(s.closed);
  s.seen[0]->stream->sendHeaders({{":status", "204"}}, End::kYes);
  EXPECT_TRUE(closes(s));
}

TEST(H2Server, EndsAndTrailersDoNotWaitForTheConnectionsWindow) {
  ServerSide s;
  for (const std::uint32_t id : {1U, 3U, 5U}) s.request(id);
  s.send();
  for (const auto& each : s.seen) each->stream->sendHeaders({{":status", "200"}}, End::kNo);
  base::Buffer most{std::string(65'536, 'x')};
  s.seen[0]->stream->sendData(most, End::kNo);
  s.turn();
  ASSERT_EQ(s.answers[1].body.size(), 65'535u);
  s.seen[1]->stream->sendTrailers({{"grpc-status", "0"}});
  base::Buffer one{"y"};
  s.seen[2]->stream->sendData(one, End::kYes);
  s.turn();
  EXPECT_TRUE(s.answers[3].ended);
  EXPECT_EQ(s.answers[3].trailers.value("grpc-status"), "0");
  EXPECT_FALSE(s.answers[5].ended);
  codec::writeH2WindowUpdate(s.out, 1, 1);
  codec::writeH2WindowUpdate(s.out, 0, 2);
  s.send();
  EXPECT_EQ(s.answers[1].body.size(), 65'536u);
  EXPECT_TRUE(s.answers[5].ended);
}

TEST(H2Server, TrailersBringNoFraming) {
  ServerSide s;
  s.request(1, End::kNo);
  s.headers(1, {{"content-length", "5"}, {"host", "b"}, {"te", "trailers"}, {"x-sum", "1"}},
            End::kYes);
  s.send();
  Seen& seen = *s.seen[0];
  seen.stream->read();
  s.turn();
  ASSERT_TRUE(seen.ended);
  EXPECT_FALSE(seen.trailers.has("content-length"));
  EXPECT_FALSE(seen.trailers.has("host"));
  EXPECT_FALSE(seen.trailers.has("te"));
  EXPECT_EQ(seen.trailers.value("x-sum"), "1");
}

/// A client that sends one body over a way of `way`, each time as much as it may within a round
/// trip.
struct LongWay {
  explicit LongWay(http::ServerLimits limits = {}) : s(limits, true, clock) {
    s.request(1, End::kNo);
    s.send();
    s.seen[0]->stream->read();
  }
  void upload(std::size_t bytes) {
    const std::string piece(8192, 'x');
    for (std::size_t sent = 0; sent < bytes; sent += piece.size()) {
      s.data(1, piece, End::kNo);
      s.send();
      s.seen[0]->stream->read();
      s.turn();
    }
  }
  void answerPing() {
    codec::writeH2Ping(s.out, s.last_ping, codec::H2PingKind::kAck);
    s.send();
  }
  std::uint32_t window() { return s.settings_seen[codec::H2SettingId::kInitialWindowSize]; }

  base::ManualClock clock;
  ServerSide s;
};

TEST(H2Server, GrowsItsWindowsWhenARoundTripUsesThemUp) {
  LongWay way;
  ServerSide& s = way.s;
  EXPECT_EQ(way.window(), 256U * 1024);
  constexpr std::uint64_t kMiB = 1024 * 1024;
  std::uint64_t connection = 65'535 + s.window_updates[0];
  EXPECT_EQ(connection, kMiB);
  int asked = 0;
  for (std::uint32_t window = 256 * 1024; window < 16 * kMiB; window *= 4) {
    way.upload(window / 2);  // a WINDOW_UPDATE is due, and a PING with it
    ASSERT_EQ(s.pings, ++asked);
    way.clock.advance(std::chrono::milliseconds(50));
    way.upload(window / 2);
    const std::uint64_t before = s.window_updates[0];
    way.answerPing();
    ASSERT_EQ(way.window(), window * 4);
    const std::uint64_t wider = std::min(4 * connection, 24 * kMiB);
    ASSERT_EQ(s.window_updates[0] - before, wider - connection);
    connection = wider;
  }
  way.upload(32 * kMiB);
  EXPECT_EQ(s.pings, asked);  // this is the most
  EXPECT_EQ(way.window(), 16U * kMiB);
  s.request(3, End::kNo);  // a new stream has it at once
  for (std::size_t sent = 0; sent < 8 * kMiB; sent += 16 * 1024) {
    s.data(3, std::string(16 * 1024, 'x'), End::kNo);
    s.send();
  }
  EXPECT_FALSE(s.answers[3].reset);
  EXPECT_FALSE(s.goaway);
}

TEST(H2Server, LeavesTheWindowsWhereTheyAreWideEnough) {
  LongWay way;
  ServerSide& s = way.s;
  way.upload(128 * 1024);
  ASSERT_EQ(s.pings, 1);
  way.clock.advance(std::chrono::milliseconds(1));  // no way at all
  way.upload(256 * 1024);
  way.answerPing();
  EXPECT_EQ(way.window(), 256U * 1024);
  way.upload(1024 * 1024);
  EXPECT_EQ(s.pings, 1);
  way.clock.advance(std::chrono::milliseconds(1100));
  way.upload(128 * 1024);
  ASSERT_EQ(s.pings, 2);  // it looks again, but not often
  way.clock.advance(std::chrono::milliseconds(50));
  way.upload(100 * 1024);  // a client that had more to send would have
  way.answerPing();
  way.answerPing();  // nobody asked for this one
  EXPECT_EQ(way.window(), 256U * 1024);
  EXPECT_FALSE(s.closed);
}

TEST(H2Server, LeavesTheWindowsToAReaderThatIsSlow) {
  LongWay way;
  ServerSide& s = way.s;
  way.upload(128 * 1024);
  ASSERT_EQ(s.pings, 1);
  way.clock.advance(std::chrono::milliseconds(50));
  for (int i = 0; i < 32; ++i) s.data(1, std::string(8192, 'x'), End::kNo);  // all it may
  s.send();
  way.answerPing();
  EXPECT_EQ(way.window(), 256U * 1024);
  EXPECT_FALSE(s.answers[1].reset);
}

TEST(H2Server, LeavesWindowsThatAreFixed) {
  LongWay way({.h2 = {.window_growth_max = 1}});
  way.upload(1024 * 1024);
  EXPECT_EQ(way.s.pings, 0);
}

TEST(H2Server, GivesTheConnectionWindowBackForBytesNobodyReads) {
  ServerSide s({.h2 = {.stream_window_bytes = 100'000, .connection_window_bytes = 200'000}});
  const std::uint64_t initial = s.window_updates[0];
  for (std::uint32_t id = 1; id < 9; id += 2) {
    s.request(id, End::kNo);
    for (int i = 0; i < 5; ++i) s.data(id, std::string(10'000, 'x'), End::kNo);
    s.send();
    s.seen.back()->stream->reset(ResetReason::kCancel);
    s.turn();
    for (int i = 0; i < 5; ++i) s.data(id, std::string(10'000, 'x'), End::kNo);  // on their way
    s.send();
  }
  EXPECT_FALSE(s.closed);
  EXPECT_GE(s.window_updates[0] - initial, 300'000u);
}

TEST(H2Server, ClosesWhenTheConnectionWindowIsPassed) {
  ServerSide s({.h2 = {.stream_window_bytes = 100'000, .connection_window_bytes = 65'535}});
  s.request(1, End::kNo);
  for (int i = 0; i < 7; ++i) s.data(1, std::string(10'000, 'x'), End::kNo);
  s.send();
  EXPECT_TRUE(s.closed);
  EXPECT_EQ(s.goaway, H2Error::kFlowControl);
  EXPECT_EQ(s.seen[0]->reset, ResetReason::kProtocol);
}

TEST(H2Server, SendsAsTheWindowsAllowAndTellsWhenThereIsRoom) {
  ServerSide s;
  s.request(1);
  s.send();
  Seen& seen = *s.seen[0];
  seen.stream->sendHeaders({{":status", "200"}}, End::kNo);
  base::Buffer body{std::string(200'000, 'x')};
  EXPECT_EQ(seen.stream->sendData(body, End::kNo), Flow::kFull);
  s.turn();
  EXPECT_EQ(s.answers[1].body.size(), 65'535u);
  EXPECT_EQ(seen.writable, 0);
  codec::writeH2WindowUpdate(s.out, 1, 1'000'000);
  s.send();
  EXPECT_EQ(s.answers[1].body.size(), 65'535u);  // the connection's own window
  codec::writeH2WindowUpdate(s.out, 0, 1'000'000);
  s.send();
  EXPECT_EQ(s.answers[1].body.size(), 200'000u);
  EXPECT_EQ(seen.writable, 1);
  base::Buffer rest{"end"};
  seen.stream->sendData(rest, End::kYes);
  s.turn();
  EXPECT_TRUE(s.answers[1].ended);
}

TEST(H2Server, AStreamIsFullAboveItsLimitAndHasRoomAtAQuarter) {
  ServerSide s({.h2 = {.stream_unsent_bytes_max = 1000}});
  s.request(1);
  s.send();
  Seen& seen = *s.seen[0];
  seen.stream->sendHeaders({{":status", "200"}}, End::kNo);
  base::Buffer most{std::string(1000, 'x')};
  EXPECT_EQ(seen.stream->sendData(most, End::kNo), Flow::kOpen);
  codec::writeH2Settings(s.out, {{codec::H2SettingId::kInitialWindowSize, 0}});
  s.request(3);
  s.send();
  Seen& shut = *s.seen[1];
  shut.stream->sendHeaders({{":status", "200"}}, End::kNo);
  base::Buffer full{std::string(1001, 'x')};
  EXPECT_EQ(shut.stream->sendData(full, End::kNo), Flow::kFull);
  codec::writeH2WindowUpdate(s.out, 3, 750);
  s.send();
  EXPECT_EQ(shut.writable, 0);
  codec::writeH2WindowUpdate(s.out, 3, 1);
  s.send();
  EXPECT_EQ(shut.writable, 1);
}

TEST(H2Server, ChangesWindowsWithSettingsEvenBelowZero) {
  ServerSide s;
  s.request(1);
  s.send();
  s.seen[0]->stream->sendHeaders({{":status", "200"}}, End::kNo);
  base::Buffer body{std::string(1'000, 'x')};
  s.seen[0]->stream->sendData(body, End::kNo);
  s.turn();
  codec::writeH2Settings(s.out, {{codec::H2SettingId::kInitialWindowSize, 500}});
  s.send();
  base::Buffer more{std::string(100, 'y')};
  s.seen[0]->stream->sendData(more, End::kYes);
  s.turn();
  EXPECT_EQ(s.answers[1].body.size(), 1'000u);  // the window is at -500
  codec::writeH2WindowUpdate(s.out, 1, 550);
  s.send();
  EXPECT_EQ(s.answers[1].body.size(), 1'050u);
  codec::writeH2Settings(s.out, {{codec::H2SettingId::kInitialWindowSize, 550}});
  s.send();
  EXPECT_EQ(s.answers[1].body.size(), 1'100u);
  EXPECT_TRUE(s.answers[1].ended);
}

TEST(H2Server, SharesTheConnectionBetweenStreams) {
  ServerSide s;
  for (std::uint32_t id : {1u, 3u}) s.request(id);
  s.send();
  for (auto& seen : s.seen) {
    seen->stream->sendHeaders({{":status", "200"}}, End::kNo);
    base::Buffer body{std::string(60'000, 'x')};
    seen->stream->sendData(body, End::kYes);
  }
  s.turn();
  EXPECT_EQ(s.answers[1].body.size() + s.answers[3].body.size(), 65'535u);
  EXPECT_GT(s.answers[1].body.size(), 30'000u);
  EXPECT_GT(s.answers[3].body.size(), 30'000u);
}

TEST(H2Server, RefusesStreamsAboveTheLimit) {
  ServerSide s({.h2 = {.concurrent_streams_max = 2}});
  for (std::uint32_t id : {1u, 3u, 5u}) s.request(id);
  s.send();
  EXPECT_EQ(s.seen.size(), 2u);
  EXPECT_EQ(s.answers[5].reset, H2Error::kRefusedStream);
  s.seen[0]->stream->sendHeaders({{":status", "204"}}, End::kYes);
  s.turn();
  s.request(7);
  s.send();
  EXPECT_EQ(s.seen.size(), 3u);
}

TEST(H2Server, StopsReadingWhenAnswersAreNotTaken) {
  ServerSide s;
  s.wire.room = 0;
  std::uint32_t id = 1;
  for (int round = 0; round < 2000; ++round, id += 2) {
    s.request(id);
    s.send();
    if (s.seen.size() <= static_cast<std::size_t>(round)) break;
    s.seen.back()->stream->sendHeaders({{":status", "200"}, {"x", std::string(1'000, 'x')}},
                                       End::kYes);
  }
  const std::size_t taken = s.seen.size();
  EXPECT_LT(taken, 1500u);
  EXPECT_FALSE(s.closed);
  s.wire.room = SIZE_MAX;
  s.wire.observer->onWritable();
  s.turn();
  s.wire.observer->onReadable();
  s.turn();
  EXPECT_GT(s.seen.size(), taken);
}

TEST(H2Server, EndsTheRequestEarlyWithNoError) {
  ServerSide s;
  s.request(1, End::kNo);
  s.send();
  s.seen[0]->stream->sendHeaders({{":status", "403"}}, End::kYes);
  s.turn();
  EXPECT_TRUE(s.answers[1].ended);
  EXPECT_EQ(s.answers[1].reset, H2Error::kNone);
  s.data(1, "late", End::kYes);
  s.send();
  EXPECT_FALSE(s.closed);
}

TEST(H2Server, DrainsInTwoSteps) {
  ServerSide s;
  s.request(1);
  s.send();
  s.connection->drain();
  s.turn();
  EXPECT_EQ(s.goaway_last, 0x7fffffffU);
  s.request(3);  // was on its way
  codec::writeH2Ping(s.out, "drain...", codec::H2PingKind::kAck);
  s.send();
  EXPECT_EQ(s.seen.size(), 2u);
  EXPECT_EQ(s.goaway_last, 3u);
  s.request(5, End::kNo);
  s.data(5, "unwanted", End::kNo);
  codec::writeH2WindowUpdate(s.out, 5, 1);
  codec::writeH2Reset(s.out, 5, H2Error::kCancel);
  s.send();
  EXPECT_EQ(s.seen.size(), 2u);
  EXPECT_EQ(s.goaway, H2Error::kNone);
  EXPECT_FALSE(s.closed);
  for (auto& seen : s.seen) seen->stream->sendHeaders({{":status", "204"}}, End::kYes);
  s.turn();
  EXPECT_TRUE(s.answers[3].ended);
  s.wire.eof = true;
  s.send();
  EXPECT_TRUE(s.closed);
}

TEST(H2Server, DrainedBeforeThePrefaceItStillTakesTheFirstRequests) {
  ServerSide s({}, false);
  s.connection->drain();
  s.turn();
  ASSERT_FALSE(s.closed);
  s.out.append(codec::kH2Preface);
  codec::writeH2Settings(s.out, {});
  s.request(1);
  s.send();
  ASSERT_EQ(s.seen.size(), 1u);
  EXPECT_EQ(s.goaway_last, 0x7fffffffU);
  codec::writeH2Ping(s.out, "drain...", codec::H2PingKind::kAck);
  s.send();
  EXPECT_EQ(s.goaway_last, 1u);
  s.seen[0]->stream->sendHeaders({{":status", "204"}}, End::kYes);
  s.turn();
  EXPECT_TRUE(s.answers[1].ended);
  s.wire.eof = true;
  s.send();
  EXPECT_TRUE(s.closed);
}

TEST(H2Server, OfConnectNobodySeesAHostBesideTheAuthority) {
  ServerSide s;
  s.headers(1, {{":method", "CONNECT"}, {":authority", "a:1"}, {"host", "x"}}, End::kNo);
  s.send();
  ASSERT_EQ(s.seen.size(), 1U);
  EXPECT_EQ(s.seen[0]->headers.authority(), "a:1");
  EXPECT_FALSE(s.seen[0]->headers.has("host"));
}

TEST(H2Server, DrainedItEndsAClientThatTakesNothingAndSaysNothing) {
  using std::chrono::milliseconds;
  ServerSide s({.idle_timeout = milliseconds(50),
                .delayed_close_timeout = milliseconds(50),
                .flush_timeout = milliseconds(50)});
  s.wire.room = 0;
  s.wire.peer_ends = false;
  s.connection->drain();
  // A second for the acknowledgement that does not come, then the timeouts.
  for (int i = 0; i < 500 && !s.closed; ++i) s.loop.runOnce(milliseconds(10));
  EXPECT_TRUE(s.closed);
}

TEST(H2Server, ResetsAnswersThatTheClientDoesNotTake) {
  ServerSide s({.idle_timeout = std::chrono::seconds(1),
                .headers_timeout = std::chrono::hours(1),
                .flush_timeout = std::chrono::milliseconds(20)});
  s.request(1);
  s.send();
  s.seen[0]->stream->sendHeaders({{":status", "200"}}, End::kNo);
  base::Buffer body{std::string(100'000, 'x')};
  s.seen[0]->stream->sendData(body, End::kYes);
  for (int i = 0; i < 40 && !s.answers[1].reset; ++i) {
    s.loop.runOnce(std::chrono::milliseconds(20));
    s.turn();
  }
  EXPECT_EQ(s.answers[1].reset, H2Error::kInternal);
  EXPECT_TRUE(closes(s));  // and then it is idle
}

TEST(H2Server, ClosesAClientThatSendsNoPrefaceInTime) {
  ServerSide s({.headers_timeout = std::chrono::milliseconds(20)}, false);
  EXPECT_TRUE(closes(s));
}

TEST(H2Server, ClosesAClientThatDoesNotFinishAFrame) {
  ServerSide s({.headers_timeout = std::chrono::milliseconds(20)});
  s.request(1);
  const std::string whole = s.out.toString();
  s.out.clear();
  s.out.append(std::string_view(whole).substr(0, 12));
  s.send();
  EXPECT_TRUE(closes(s));
}

TEST(H2Server, LimitsTheHeadersThatUnfinishedRequestsHold) {
  ServerSide s({.h2 = {.held_header_bytes_max = 3000}});
  const HeaderMap big{{"x", std::string(900, 'v')}};
  for (std::uint32_t id : {1u, 3u, 5u, 7u}) s.request(id, End::kYes, big);
  s.send();
  EXPECT_EQ(s.seen.size(), 2u);
  EXPECT_EQ(s.answers[7].reset, H2Error::kRefusedStream);
  EXPECT_GT(s.held, 2000);
  s.seen[0]->stream->sendHeaders({{":status", "204"}}, End::kYes);
  s.turn();
  s.request(9, End::kYes, big);
  s.send();
  EXPECT_EQ(s.seen.size(), 3u);
  for (int i : {1, 2}) s.seen[static_cast<std::size_t>(i)]->stream->reset(ResetReason::kLocal);
  s.turn();
  EXPECT_EQ(s.held, 0);
}

TEST(H2Server, BearsLittleWhereItsOwnerIsShort) {
  ServerSide s;
  s.held_max = 1000;
  const HeaderMap big{{"x", std::string(40'000, 'v')}};
  for (std::uint32_t id : {1u, 3u}) s.request(id, End::kYes, big);
  s.send();
  EXPECT_EQ(s.seen.size(), 1u);
  EXPECT_EQ(s.answers[3].reset, H2Error::kRefusedStream);
  s.request(5);
  s.send();
  EXPECT_EQ(s.seen.size(), 2u);
}

TEST(H2Server, TakesSoManyRequestsInATurn) {
  ServerSide s;
  for (std::uint32_t id = 1; id < 81; id += 2) s.request(id);
  s.wire.to_us.append(s.out);
  s.wire.observer->onReadable();
  EXPECT_EQ(s.seen.size(), 32u);
  s.wire.observer->onReadable();
  EXPECT_EQ(s.seen.size(), 40u);
}

TEST(H2Server, EndsAConnectionWhoseControlFramesWait) {
  ServerSide s({.h2 = {.outbound_control_frames_max = 50}});
  s.wire.room = 0;
  for (int i = 0; i < 60; ++i) codec::writeH2Ping(s.out, "12345678", codec::H2PingKind::kAsk);
  s.send();
  EXPECT_FALSE(s.closed);  // GOAWAY waits behind them
  s.wire.room = SIZE_MAX;
  s.wire.observer->onWritable();
  s.turn();
  EXPECT_EQ(s.goaway, H2Error::kEnhanceYourCalm);
  EXPECT_TRUE(s.closed);
  EXPECT_EQ(s.events[H2Event::kOutboundControlFlood], 1);
}

TEST(H2Server, EndsAConnectionWhoseFramesWait) {
  ServerSide s({.h2 = {.outbound_frames_max = 20}});
  s.wire.room = 0;
  for (std::uint32_t id = 1; id < 61 && s.events[H2Event::kOutboundFlood] == 0; id += 2) {
    s.request(id);
    s.send();
    if (s.events[H2Event::kOutboundFlood] == 0)
      s.seen.back()->stream->sendHeaders({{":status", "204"}}, End::kYes);
  }
  s.wire.room = SIZE_MAX;
  s.wire.observer->onWritable();
  s.turn();
  EXPECT_EQ(s.goaway, H2Error::kEnhanceYourCalm);
  EXPECT_TRUE(s.closed);
  EXPECT_EQ(s.events[H2Event::kOutboundFlood], 1);
}

TEST(H2Server, AfterGoAwayItWaitsForTheClientsEnd) {
  ServerSide s({.delayed_close_timeout = std::chrono::minutes(1)});
  s.wire.peer_ends = false;
  s.request(1, End::kNo);
  codec::writeH2WindowUpdate(s.out, 0, 0);
  s.send();
  EXPECT_EQ(s.goaway, H2Error::kProtocol);
  EXPECT_TRUE(s.wire.ended);
  EXPECT_EQ(s.seen[0]->reset, ResetReason::kProtocol);
  EXPECT_FALSE(s.closed);
  const std::size_t told = s.wire.written.size();
  s.request(3);
  codec::writeH2Ping(s.out, "12345678", codec::H2PingKind::kAsk);
  s.send();
  EXPECT_EQ(s.wire.to_us.size(), 0u);  // read, so that the kernel has nothing to reset for
  EXPECT_EQ(s.seen.size(), 1u);
  s.connection->drain();
  s.turn();
  EXPECT_EQ(s.wire.written.size(), told);
  s.wire.eof = true;
  s.send();
  EXPECT_TRUE(s.closed);
  EXPECT_FALSE(s.timed_out);
}

TEST(H2Server, AClientThatGoesOnAfterGoAwayIsNotReadForEver) {
  constexpr std::size_t kMegabyte = 1024 * 1024;
  ServerSide s({.delayed_close_timeout = std::chrono::milliseconds(500)});
  s.wire.peer_ends = false;
  codec::writeH2WindowUpdate(s.out, 0, 0);
  s.send();
  for (int i = 0; i < 4; ++i) {
    s.out.append(std::string(kMegabyte, 'x'));
    s.send();
  }
  EXPECT_GT(s.wire.to_us.size(), 2 * kMegabyte);
  EXPECT_FALSE(s.closed);
  EXPECT_TRUE(closes(s));
  EXPECT_TRUE(s.timed_out);
}

TEST(H2Server, AClientThatTakesNothingIsNotWaitedFor) {
  ServerSide s;
  s.wire.room = 0;
  s.request(1);
  codec::writeH2WindowUpdate(s.out, 0, 1'000'000);
  codec::writeH2WindowUpdate(s.out, 1, 1'000'000);
  s.send();
  s.seen[0]->stream->sendHeaders({{":status", "200"}}, End::kNo);
  base::Buffer body{std::string(500'000, 'x')};
  s.seen[0]->stream->sendData(body, End::kYes);
  s.turn();
  codec::writeH2WindowUpdate(s.out, 0, 0);
  s.send();
  EXPECT_TRUE(s.closed);
}

TEST(H2Server, WithoutADelayItClosesWithGoAway) {
  ServerSide s({.delayed_close_timeout = std::chrono::milliseconds(0)});
  s.wire.peer_ends = false;
  codec::writeH2WindowUpdate(s.out, 0, 0);
  s.send();
  EXPECT_EQ(s.goaway, H2Error::kProtocol);
  EXPECT_TRUE(s.closed);
}

TEST(H2Server, WhatWasSentDoesNotCountAsWaiting) {
  ServerSide s({.h2 = {.outbound_control_frames_max = 50}});
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 30; ++i) codec::writeH2Ping(s.out, "12345678", codec::H2PingKind::kAsk);
    s.send();
  }
  EXPECT_FALSE(s.closed);
  EXPECT_EQ(s.ping_acks, 600);
}

TEST(H2Server, AsksASilentClientAndEndsWithIt) {
  H2Keepalive keepalive{.interval = std::chrono::milliseconds(30),
                        .timeout = std::chrono::milliseconds(40)};
  ServerSide s({.h2 = {.keepalive = keepalive}});
  const auto run = [&](auto done) {
    for (int i = 0; i < 60 && !done(); ++i) {
      s.loop.runOnce(std::chrono::milliseconds(5));
      s.turn();
    }
    return done();
  };
  EXPECT_TRUE(run([&] { return s.pings == 1; }));
  codec::writeH2Ping(s.out, s.last_ping, codec::H2PingKind::kAck);
  s.send();
  EXPECT_TRUE(run([&] { return s.pings == 2; }));
  codec::writeH2WindowUpdate(s.out, 0, 1);  // any sign of life will do
  s.send();
  EXPECT_TRUE(run([&] { return s.pings == 3; }));
  EXPECT_TRUE(run([&] { return s.closed; }));
  EXPECT_EQ(s.events[H2Event::kKeepaliveTimeout], 1);
}

TEST(H2Server, AConfiguredTableIsToldAndUsed) {
  ServerSide s({.h2 = {.header_table_bytes = 0}});
  s.encoder.setPeerTableSize(0);
  s.request(1, End::kYes, {{"x", "same"}});
  s.send();
  s.request(3, End::kYes, {{"x", "same"}});
  s.send();
  ASSERT_EQ(s.seen.size(), 2u);
  EXPECT_EQ(s.settings_seen[codec::H2SettingId::kHeaderTableSize], 0u);
  // Our own encoder keeps nothing either: equal answers have equal size.
  s.seen[0]->stream->sendHeaders({{":status", "200"}, {"y", "same"}}, End::kYes);
  s.turn();
  const std::size_t before = s.wire.written.size();
  s.seen[1]->stream->sendHeaders({{":status", "200"}, {"y", "same"}}, End::kYes);
  s.turn();
  EXPECT_GT(s.wire.written.size() - before, codec::kH2HeaderBytes + 5);
}

TEST(H2Server, AcknowledgesPings) {
  ServerSide s;
  codec::writeH2Ping(s.out, "12345678", codec::H2PingKind::kAsk);
  s.send();
  EXPECT_EQ(s.ping_acks, 1);
}

}  // namespace
}  // namespace postern::http
