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
  net::TransportObserver* observer = nullptr;

  void setObserver(net::TransportObserver* o) override { observer = o; }
  net::IoResult read(base::Buffer& into, std::size_t) override {
    if (reads.empty()) return {net::IoStatus::kAgain};
    std::string next = std::move(reads.front());
    reads.pop_front();
    if (next.empty()) return {net::IoStatus::kAgain};
    into.append(next);
    return {net::IoStatus::kOk, next.size()};
  }
  net::IoResult write(base::Buffer& from) override {
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

TEST(H1Client, RemembersAcrossA1xxThatHeadHasNoBody) {
  event::Loop loop;
  Asker asker;
  std::string written;
  auto owned = std::make_unique<ScriptedTransport>(written);
  ScriptedTransport& transport = *owned;
  ClientConnection* connection = startH1Client(loop, std::move(owned), {}, asker);
  transport.observer->onConnected();
  connection->open(asker).sendHeaders({{":method", "HEAD"}, {":path", "/"}, {":authority", "a"}},
                                      End::kYes);
  loop.runOnce();
  EXPECT_TRUE(written.starts_with("HEAD / HTTP/1.1\r\nhost: a\r\n"));
  transport.reads = {
      "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"};
  transport.observer->onReadable();
  EXPECT_EQ(asker.informational, 1);
  EXPECT_EQ(asker.status, 200);
  EXPECT_TRUE(asker.ended);
  connection->close();
  loop.runOnce();
}

}  // namespace
}  // namespace postern::http
