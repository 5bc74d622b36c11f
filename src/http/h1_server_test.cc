#include "http/h1_server.h"

#include "http/h1_client.h"

#include <gtest/gtest.h>

#include <deque>

namespace postern::http {
namespace {

/// A transport that answers reads from a script: "" is kAgain. What is written is kept.
class ScriptedTransport final : public net::Transport {
 public:
  explicit ScriptedTransport(std::string& written) : written_(written) {}
  std::deque<std::string> reads;
  bool stuck = false;   // takes nothing
  bool broken = false;  // writing fails
  bool failed = false;  // after the script
  bool ended = false;   // after the script
  net::TransportObserver* observer = nullptr;

  void setObserver(net::TransportObserver* o) override { observer = o; }
  net::IoResult read(base::Buffer& into, std::size_t) override {
    if (reads.empty() && failed) return {net::IoStatus::kError};
    if (reads.empty()) return {ended ? net::IoStatus::kEof : net::IoStatus::kAgain};
    std::string next = std::move(reads.front());
    reads.pop_front();
    if (next.empty()) return {net::IoStatus::kAgain};
    into.append(next);
    return {net::IoStatus::kOk, next.size()};
  }
  net::IoResult write(base::Buffer& from) override {
    if (broken) return {net::IoStatus::kError};
    if (stuck) return {net::IoStatus::kAgain};
    written_ += from.toString();
    std::size_t count = from.size();
    from.clear();
    return {net::IoStatus::kOk, count};
  }
  void resumeRead() override {}
  void shutdownWrite() override {}
  void resetOnClose() override {}
  base::Error error() const override { return {}; }
  const net::Address& local() const override { return address_; }
  const net::Address& remote() const override { return address_; }
  const net::PeerInfo& peer() const override { return peer_; }
  int fd() const override { return -1; }

 private:
  std::string& written_;
  net::Address address_;
  net::PeerInfo peer_;
};

/// Answers every request at once with 204.
struct Answerer : ServerObserver, StreamObserver {
  Stream* stream = nullptr;
  int requests = 0;
  StreamObserver* onStream(ServerConnection&, Stream& s) override {
    stream = &s;
    return this;
  }
  void onClosed(ServerConnection&) override {}
  void onHeaders(HeaderMap, End) override {
    ++requests;
    stream->sendHeaders({{":status", "204"}}, End::kYes);
  }
  void onData(base::Buffer&, End) override {}
  void onTrailers(HeaderMap) override {}
  void onReset(ResetReason) override {}
};

TEST(H1Server, IsFullAboveItsLimitAndHasRoomAtAQuarter) {
  struct Sender final : Answerer {
    int writable = 0;
    void onHeaders(HeaderMap, End) override {
      stream->sendHeaders({{":status", "200"}, {"content-length", "2000"}}, End::kNo);
    }
    void onWritable() override { ++writable; }
  } sender;
  event::Loop loop;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  ServerLimits limits;
  limitUnsent(limits, 500);
  ServerConnection* connection = startH1Server(loop, std::move(owned), {}, limits, sender);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  loop.runOnce();
  transport.stuck = true;
  base::Buffer little{std::string(500, 'x')};
  EXPECT_EQ(sender.stream->sendData(little, End::kNo), Flow::kOpen);
  base::Buffer more{"x"};
  EXPECT_EQ(sender.stream->sendData(more, End::kNo), Flow::kFull);
  loop.runOnce();
  EXPECT_EQ(sender.writable, 0);
  transport.stuck = false;
  transport.observer->onWritable();
  loop.runOnce();
  EXPECT_EQ(sender.writable, 1);
  connection->close();
  loop.runOnce();
}

TEST(H1Server, GivesAnAbsoluteFormWithoutPathTheRoot) {
  struct Paths final : Answerer {
    std::string seen;
    void onHeaders(HeaderMap headers, End end) override {
      seen += std::string(headers.authority()) + std::string(headers.path()) + " ";
      Answerer::onHeaders(std::move(headers), end);
    }
  } answerer;
  event::Loop loop;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  ServerConnection* connection = startH1Server(loop, std::move(owned), {}, {}, answerer);
  for (const char* target : {"http://b", "http://b?q", "http://b/p?q"}) {
    transport.reads = {"GET " + std::string(target) + " HTTP/1.1\r\nhost: a\r\n\r\n"};
    transport.observer->onReadable();
    loop.runOnce();
  }
  EXPECT_EQ(answerer.seen, "b/ b/?q b/p?q ");
  connection->close();
  loop.runOnce();
}

TEST(H1Server, ConnectionsWithDifferentLimitsReadTheirHeadsInTurns) {
  event::Loop loop;
  Answerer narrow;
  Answerer wide;
  std::string narrow_out;
  std::string wide_out;
  auto first = std::make_unique<ScriptedTransport>(narrow_out);
  auto second = std::make_unique<ScriptedTransport>(wide_out);
  ScriptedTransport& to_narrow = *first;
  ScriptedTransport& to_wide = *second;
  ServerConnection* refusing =
      startH1Server(loop, std::move(first), {}, ServerLimits{.header_count_max = 2}, narrow);
  ServerConnection* lasting = startH1Server(loop, std::move(second), {}, {}, wide);
  const auto send = [&](ScriptedTransport& to, const char* bytes) {
    to.reads = {bytes};
    to.observer->onReadable();
    loop.runOnce();
  };
  send(to_narrow, "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n");
  send(to_wide, "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\ny: 2\r\n\r\n");
  send(to_wide, "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n");
  EXPECT_EQ(wide.requests, 1);
  send(to_narrow, "\r\n");
  EXPECT_EQ(narrow.requests, 1);
  send(to_wide, "y: 2\r\n\r\n");
  EXPECT_EQ(wide.requests, 2);
  send(to_narrow, "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\ny: 2\r\n\r\n");
  EXPECT_EQ(narrow.requests, 1);
  EXPECT_NE(narrow_out.find(" 431 "), std::string::npos) << narrow_out;
  refusing->close();  // it waits for what its client still sends
  lasting->close();
  loop.runOnce();
}

TEST(H1Server, WritesACompleteAnswerBeforeAClientThatHasEndedIsLeft) {
  struct Late final : Answerer {
    void onHeaders(HeaderMap, End) override { ++requests; }
  } answerer;
  event::Loop loop;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  startH1Server(loop, std::move(owned), {}, {}, answerer);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  loop.runOnce();
  ASSERT_EQ(answerer.requests, 1);
  // In one turn: the answer, and the client's end before anything is flushed.
  answerer.stream->sendHeaders({{":status", "204"}}, End::kYes);
  transport.ended = true;
  transport.observer->onReadable();
  loop.runOnce();
  EXPECT_TRUE(written.starts_with("HTTP/1.1 204")) << written;
}

TEST(H1Server, TakesNoMorePipelinedRequestsThanItsClientReadsAnswersOf) {
  struct Large final : Answerer {
    void onHeaders(HeaderMap, End) override {
      ++requests;
      stream->sendHeaders({{":status", "200"}, {"content-length", "4000"}}, End::kNo);
      base::Buffer body(std::string(4000, 'b'));
      stream->sendData(body, End::kYes);
    }
  } answerer;
  constexpr int kRequests = 400;
  event::Loop loop;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  ServerConnection* connection = startH1Server(loop, std::move(owned), {}, {}, answerer);
  std::string all;
  for (int i = 0; i < kRequests; ++i) all += "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
  transport.reads = {all};
  transport.stuck = true;
  transport.observer->onReadable();
  const auto run = [&] {
    for (int i = 0; i < 200; ++i) loop.runOnce(std::chrono::milliseconds(0));
  };
  run();
  EXPECT_LE(answerer.requests, 9);  // 32 KiB
  transport.stuck = false;
  for (int i = 0; i < 200 && answerer.requests < kRequests; ++i) {
    transport.observer->onWritable();
    run();
  }
  EXPECT_EQ(answerer.requests, kRequests);
  EXPECT_GE(written.size(), 4000U * kRequests);
  connection->close();
  loop.runOnce();
}

TEST(ServerConnection, HandsOverWhenItsProtocolIsKnown) {
  struct Keeper final : Answerer {
    ServerConnection* kept = nullptr;
    int replaced = 0;
    int closed = 0;
    void onProtocol(ServerConnection& before, ServerConnection& now) override {
      EXPECT_EQ(kept, &before);
      kept = &now;
      ++replaced;
    }
    StreamObserver* onStream(ServerConnection& connection, Stream& s) override {
      EXPECT_EQ(kept, &connection);
      return Answerer::onStream(connection, s);
    }
    void onClosed(ServerConnection& connection) override {
      EXPECT_EQ(kept, &connection);
      ++closed;
    }
  } keeper;
  event::Loop loop;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  keeper.kept = ServerConnection::start(loop, std::move(owned), Protocol::kAuto, {}, keeper);
  keeper.kept->drain();  // reaches the connection that is not there yet
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  for (int i = 0; i < 3; ++i) loop.runOnce();
  EXPECT_EQ(keeper.replaced, 1);
  EXPECT_EQ(keeper.requests, 1);
  EXPECT_NE(written.find("connection: close"), std::string::npos) << written;
  EXPECT_EQ(keeper.closed, 1);
}

TEST(H1Server, ReadsOncePerReportAndAnswersWhatALaterReportBrings) {
  event::Loop loop;
  Answerer answerer;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  ServerConnection* connection = startH1Server(loop, std::move(owned), {}, {}, answerer);
  // A report without bytes, then one with a request: a short read says that nothing more is there,
  // so the next bytes come with a report of their own (edge-triggered), also in the turn that
  // answers.
  transport.reads = {"", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  EXPECT_EQ(answerer.requests, 0);
  transport.observer->onReadable();
  EXPECT_EQ(answerer.requests, 1);
  EXPECT_EQ(transport.reads.size(), 1U);
  transport.observer->onReadable();
  loop.runOnce();
  EXPECT_TRUE(written.starts_with("HTTP/1.1 204"));
  EXPECT_EQ(answerer.requests, 2);
  connection->close();
  loop.runOnce();
}

/// Answers what the codec refuses.
struct Refuser : Answerer {
  std::string details;
  int status = 0;
  bool idle = false;
  bool closed = false;
  bool onRefused(int code, std::string_view why) override {
    details = why;
    status = code;
    stream->sendHeaders({{":status", "499"}}, End::kYes);
    return true;
  }
  void onEvent(ServerConnection&, Event event) override {
    idle = idle || event == Event::kIdleTimeout;
  }
  void onClosed(ServerConnection&) override { closed = true; }
};

bool turnUntil(event::Loop& loop, const bool& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (!done && std::chrono::steady_clock::now() < end)
    loop.runOnce(std::chrono::milliseconds(5));
  return done;
}

TEST(H1Server, AnObserverAnswersWhatIsRefused) {
  event::Loop loop;
  Refuser refuser;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  startH1Server(loop, std::move(owned), {},
                ServerLimits{.delayed_close_timeout = std::chrono::milliseconds(20)}, refuser);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\nrest", "more"};
  transport.observer->onReadable();
  loop.runOnce();
  EXPECT_EQ(refuser.details, "http1.codec_error");
  EXPECT_EQ(refuser.requests, 0);
  EXPECT_EQ(written, "HTTP/1.1 499 Unknown\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
  EXPECT_FALSE(refuser.closed);  // the client's end is waited for, but not for ever
  EXPECT_TRUE(turnUntil(loop, refuser.closed));
  loop.runOnce();
}

TEST(H1Server, AHeadThatIsSlowIsRefusedAlsoOnAConnectionThatWasIdle) {
  event::Loop loop;
  Refuser refuser;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  startH1Server(loop, std::move(owned), {},
                ServerLimits{.headers_timeout = std::chrono::milliseconds(30),
                             .delayed_close_timeout = std::chrono::milliseconds(0)},
                refuser);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  loop.runOnce();
  EXPECT_EQ(refuser.requests, 1);
  transport.reads = {"GET / HTTP"};
  transport.observer->onReadable();
  EXPECT_TRUE(turnUntil(loop, refuser.closed));
  EXPECT_EQ(refuser.status, 408);
  EXPECT_EQ(refuser.details, "request_header_timeout");
  loop.runOnce();
}

TEST(H1Server, AnIdleConnectionThatDrainsTakesARequestThatIsOnItsWay) {
  event::Loop loop;
  Refuser refuser;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  ServerConnection* connection = startH1Server(
      loop, std::move(owned), {}, ServerLimits{.drain_timeout = std::chrono::seconds(60)}, refuser);
  connection->drain();
  EXPECT_FALSE(refuser.closed);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  EXPECT_TRUE(turnUntil(loop, refuser.closed));
  EXPECT_EQ(written, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
  loop.runOnce();
}

TEST(H1Server, IdleConnectionsEnd) {
  event::Loop loop;
  Refuser refuser;
  std::string written;
  startH1Server(loop, std::make_unique<ScriptedTransport>(written), {},
                ServerLimits{.idle_timeout = std::chrono::milliseconds(20)}, refuser);
  EXPECT_TRUE(turnUntil(loop, refuser.closed));
  EXPECT_TRUE(refuser.idle);
  loop.runOnce();
}

TEST(H1Server, AnEmptyLineIsNoRequest) {
  event::Loop loop;
  Refuser refuser;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  startH1Server(loop, std::move(owned), {},
                ServerLimits{.idle_timeout = std::chrono::milliseconds(20),
                             .headers_timeout = std::chrono::milliseconds(0)},
                refuser);
  transport.reads = {"\r\n"};
  transport.observer->onReadable();
  EXPECT_TRUE(turnUntil(loop, refuser.closed));
  EXPECT_TRUE(refuser.idle);
  loop.runOnce();
}

TEST(H1Server, AConnectionWhoseSwitchIsNotTakenEnds) {
  struct Switcher final : Answerer {
    bool closed = false;
    int resets = 0;
    bool taken = false;
    void onHeaders(HeaderMap, End) override {
      stream->sendHeaders({{":status", "101"}, {"connection", "upgrade"}, {"upgrade", "x"}},
                          End::kNo);
      base::Buffer unread;
      taken = stream->takeTransport(unread) != nullptr;
    }
    void onReset(ResetReason) override { ++resets; }
    void onClosed(ServerConnection&) override { closed = true; }
  } switcher;
  event::Loop loop;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  transport.stuck = true;
  startH1Server(loop, std::move(owned), {}, {}, switcher);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"};
  transport.observer->onReadable();
  loop.runOnce();
  EXPECT_FALSE(switcher.taken);
  EXPECT_TRUE(switcher.closed);
  EXPECT_EQ(switcher.resets, 0);  // who asked for it may be gone
}

TEST(H1Server, AClientThatDoesNotTakeItsAnswerIsGivenUp) {
  event::Loop loop;
  Refuser refuser;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  transport.stuck = true;
  startH1Server(loop, std::move(owned), {},
                ServerLimits{.flush_timeout = std::chrono::milliseconds(20)}, refuser);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  EXPECT_TRUE(turnUntil(loop, refuser.closed));
  EXPECT_FALSE(refuser.idle);
  loop.runOnce();
}

/// Begins an answer and gives it up.
struct Quitter : Refuser {
  void onHeaders(HeaderMap, End) override {
    stream->sendHeaders({{":status", "200"}, {"content-length", "5"}}, End::kNo);
    base::Buffer some{std::string_view("abc")};
    stream->sendData(some, End::kNo);
    stream->reset(ResetReason::kLocal);
  }
};

TEST(H1Server, AnAnswerThatIsGivenUpIsCutOffNotMissing) {
  event::Loop loop;
  Quitter quitter;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  startH1Server(loop, std::move(owned), {}, {}, quitter);
  transport.reads = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n"};
  transport.observer->onReadable();
  EXPECT_TRUE(turnUntil(loop, quitter.closed));
  EXPECT_EQ(written, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc");
  loop.runOnce();
}

struct Asker : ClientObserver, StreamObserver {
  int status = 0;
  int informational = 0;
  bool ended = false;
  void onConnected(ClientConnection&) override {}
  void onAvailable(ClientConnection&) override {}
  void onDraining(ClientConnection&) override {}
  void onClosed(ClientConnection&, base::Error) override {}
  void onHeaders(HeaderMap headers, End end) override {
    status = headers.status();
    ended = end == End::kYes;
  }
  void onInformational(HeaderMap) override { ++informational; }
  void onData(base::Buffer&, End) override {}
  void onTrailers(HeaderMap) override {}
  void onReset(ResetReason) override {}
};

/// One request of a client over a scripted transport, sent as far as `end` says.
struct Asked {
  event::Loop loop;
  std::string written;
  ScriptedTransport* transport;
  ClientConnection* connection;
  Stream* stream;

  template <class Observer>
  Asked(Observer& observer, HeaderMap headers, End end = End::kYes) {
    auto owned = std::make_unique<ScriptedTransport>(written);
    transport = owned.get();
    connection = startH1Client(loop, std::move(owned), {}, observer);
    transport->observer->onConnected();
    stream = &connection->open(observer);
    stream->sendHeaders(headers, end);
    loop.runOnce();
  }
  void turns(int count) {
    for (int i = 0; i < count; ++i) loop.runOnce();
  }
};

HeaderMap headersOf(std::string_view method) {
  return {{":method", method}, {":path", "/"}, {":authority", "a"}};
}

TEST(H1Client, RemembersAcrossA1xxThatHeadHasNoBody) {
  Asker asker;
  Asked a(asker, headersOf("HEAD"));
  EXPECT_TRUE(a.written.starts_with("HEAD / HTTP/1.1\r\nhost: a\r\n"));
  a.transport->reads = {
      "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"};
  a.transport->observer->onReadable();
  EXPECT_EQ(asker.informational, 1);
  EXPECT_EQ(asker.status, 200);
  EXPECT_TRUE(asker.ended);
  a.connection->close();
  a.turns(1);
}

/// What a client makes of these bytes of an answer to GET.
struct Verdict : Asker {
  bool reset = false;
  void onReset(ResetReason reason) override { reset = reason == ResetReason::kProtocol; }
};

void answerWith(const std::string& bytes, Verdict& verdict) {
  Asked a(verdict, headersOf("GET"));
  a.transport->reads = {bytes};
  a.transport->observer->onReadable();
  if (!verdict.reset) a.connection->close();
  a.turns(1);
}

TEST(H1Client, TakesNoSwitchThatNobodyAskedForAndFewInformationalAnswers) {
  Verdict switched;
  answerWith("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", switched);
  EXPECT_TRUE(switched.reset);
  std::string hints;
  for (int i = 0; i < 17; ++i) hints += "HTTP/1.1 103 Early Hints\r\n\r\n";
  Verdict many;
  answerWith(hints + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", many);
  EXPECT_TRUE(many.reset);
  EXPECT_EQ(many.informational, 16);
}

/// What became of a request: "reset", or the status of the answer.
struct Outcome : Asker {
  bool reset = false;
  bool closed = false;
  void onReset(ResetReason) override { reset = true; }
  void onClosed(ClientConnection&, base::Error) override { closed = true; }
};

TEST(H1Client, AfterAFailedWriteReadingTellsWhetherAnAnswerCameFirst) {
  for (const bool answered : {false, true}) {
    SCOPED_TRACE(answered);
    Outcome outcome;
    HeaderMap headers = headersOf("POST");
    headers.add("content-length", "3");
    Asked a(outcome, headers, End::kNo);
    a.transport->broken = a.transport->ended = true;
    if (answered) a.transport->reads = {"HTTP/1.1 413 no\r\ncontent-length: 0\r\n\r\n"};
    base::Buffer body{"abc"};
    a.stream->sendData(body, End::kYes);
    a.transport->observer->onWritable();  // the write fails
    a.transport->observer->onReadable();  // and the poller reports the same reset
    a.turns(3);
    EXPECT_EQ(outcome.status, answered ? 413 : 0);
    EXPECT_EQ(outcome.reset, !answered);
    EXPECT_TRUE(outcome.closed);
  }
}

TEST(H1Client, ReportsAfterTheEndEndNothingTwice) {
  Outcome outcome;
  Asked a(outcome, headersOf("GET"));
  // A body until the end of the connection, all of which was taken; its end was not asked for.
  a.transport->reads = {"HTTP/1.1 200 OK\r\n\r\nbody"};
  a.transport->ended = true;
  a.stream->read();
  a.transport->observer->onReadable();
  a.turns(1);
  EXPECT_EQ(outcome.status, 200);
  for (int i = 0; i < 3; ++i) a.transport->observer->onReadable();
  EXPECT_FALSE(outcome.reset);
  a.stream->read();
  a.turns(3);
  EXPECT_TRUE(outcome.closed);
}

TEST(H1Client, AnAnswerThatCameWholeOutlivesABrokenConnection) {
  for (const char* length : {"4", "5"}) {
    SCOPED_TRACE(length);
    Outcome outcome;
    Asked a(outcome, headersOf("GET"));
    a.transport->reads = {"HTTP/1.1 200 OK\r\ncontent-length: " + std::string(length) +
                          "\r\n\r\nbody"};
    a.transport->observer->onReadable();
    a.transport->failed = true;
    a.transport->observer->onReadable();
    EXPECT_FALSE(outcome.reset);
    for (int i = 0; i < 2 && !outcome.closed; ++i) {
      a.stream->read();
      a.turns(1);
    }
    EXPECT_EQ(outcome.reset, length[0] == '5');
    EXPECT_TRUE(outcome.closed);
    a.turns(1);
  }
}

}  // namespace
}  // namespace postern::http
