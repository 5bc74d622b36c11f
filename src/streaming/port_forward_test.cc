#include "net/socket.h"
#include "streaming/spdy_mux.h"
#include "streaming/test_client.h"

#include <gtest/gtest.h>

#include <list>

namespace postern::streaming {
namespace {

/// Sends back what it gets, then "bye" when its peer has ended.
class EchoServer {
 public:
  explicit EchoServer(event::Loop& loop)
      : loop_(loop),
        acceptor_(loop, std::move(*net::listenSocket(net::Address::loopback(0))),
                  [this](base::Fd fd, const net::Address&) {
                    connections_.emplace_back(loop_, std::move(fd));
                  }) {}
  std::string port() const { return std::to_string(acceptor_.local().port()); }

 private:
  struct Connection final : net::TransportObserver {
    Connection(event::Loop& loop, base::Fd fd)
        : transport(net::makeSocketTransport(loop, std::move(fd))) {
      transport->setObserver(this);
    }
    void onReadable() override {
      while (true) {
        auto result = transport->read(out, 65536);
        if (result.status == net::IoStatus::kEof) {
          out.append("bye");
          ended = true;
        }
        if (result.status != net::IoStatus::kOk) break;
      }
      onWritable();
    }
    void onWritable() override {
      transport->write(out);
      if (ended && out.empty()) transport->shutdownWrite();
    }
    void onError(base::Error) override {}
    std::unique_ptr<net::Transport> transport;
    base::Buffer out;
    bool ended = false;
  };
  event::Loop& loop_;
  std::list<Connection> connections_;
  net::Acceptor acceptor_;
};

constexpr const char* kForwardHeaders =
    "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    "X-Stream-Protocol-Version: portforward.k8s.io\r\n";

struct PortForwardTest : ::testing::Test {
  TestNode node;
  EchoServer echo{node.loop};
  TestClient wire{node};
  SpdyClient spdy{wire};

  void SetUp() override {
    std::string head = wire.ask("POST", "/portForward/default/p", kForwardHeaders);
    ASSERT_TRUE(head.starts_with("HTTP/1.1 101")) << head;
    EXPECT_NE(head.find("x-stream-protocol-version: portforward.k8s.io\r\n"), std::string::npos);
  }
  /// As kubectl does: the error stream first, ended at once.
  void connect(std::uint32_t id, const std::string& port) {
    const std::string request = std::to_string(id);
    spdy.open(id, {{"streamtype", "error"}, {"port", port}, {"requestid", request}});
    spdy.write(id, "", true);
    spdy.open(id + 2, {{"streamtype", "data"}, {"port", port}, {"requestid", request}});
  }
};

TEST_F(PortForwardTest, JoinsBothDirectionsWithTheirEnds) {
  for (std::uint32_t id : {1U, 5U}) {
    connect(id, echo.port());
    spdy.write(id + 2, "hello ");
    ASSERT_TRUE(spdy.until([&] { return spdy.data[id + 2] == "hello "; }));
    spdy.write(id + 2, "", true);
    ASSERT_TRUE(spdy.until([&] { return spdy.ended.contains(id + 2); }));
    EXPECT_EQ(spdy.data[id + 2], "hello bye");
    ASSERT_TRUE(spdy.until([&] { return spdy.ended.contains(id); }));
    EXPECT_EQ(spdy.data[id], "");
  }
}

TEST_F(PortForwardTest, ManyConnectionsAtOnceWithMuchData) {
  const std::string body(3000000, 'x');
  for (std::uint32_t id : {1U, 5U, 9U}) {
    connect(id, echo.port());
    spdy.write(id + 2, body, true);
  }
  ASSERT_TRUE(spdy.until([&] { return spdy.ended.size() >= 6; }));
  for (std::uint32_t id : {3U, 7U, 11U}) EXPECT_EQ(spdy.data[id].size(), body.size() + 3);
}

TEST_F(PortForwardTest, RefusedPortIsToldOnTheErrorStream) {
  std::string free;
  {
    base::Fd unused = std::move(*net::listenSocket(net::Address::loopback(0)));
    free = std::to_string(net::localAddress(unused.get()).port());
  }
  connect(1, free);
  ASSERT_TRUE(spdy.until([&] { return spdy.ended.contains(1) && spdy.ended.contains(3); }));
  EXPECT_NE(spdy.data[1].find("error forwarding port " + free + " to pod default/p: dial tcp4"),
            std::string::npos)
      << spdy.data[1];
  // The connection goes on.
  connect(5, echo.port());
  spdy.write(7, "x");
  EXPECT_TRUE(spdy.until([&] { return spdy.data[7] == "x"; }));
}

TEST_F(PortForwardTest, MalformedStreamsAreRefused) {
  spdy.open(1, {{"streamtype", "data"}, {"port", "0"}, {"requestid", "1"}});
  spdy.open(3, {{"streamtype", "data"}, {"port", "70000"}, {"requestid", "1"}});
  spdy.open(5, {{"streamtype", "other"}, {"port", "80"}, {"requestid", "1"}});
  spdy.open(7, {{"streamtype", "data"}, {"requestid", "1"}});
  spdy.open(4, {{"streamtype", "data"}, {"port", "80"}, {"requestid", "1"}});  // a server's id
  ASSERT_TRUE(spdy.until([&] { return spdy.reset.size() == 5; }));
}

TEST_F(PortForwardTest, StreamsOpenAtOnceAreLimited) {
  const auto last = static_cast<std::uint32_t>(2 * SpdyMux::kStreamsMax + 1);
  for (std::uint32_t id = 1; id <= last; id += 2) {
    spdy.open(id, {{"streamtype", "error"}, {"port", "80"}, {"requestid", std::to_string(id)}});
  }
  ASSERT_TRUE(spdy.until([&] { return !spdy.reset.empty(); }));
  EXPECT_EQ(spdy.reset.begin()->first, last);
  EXPECT_EQ(spdy.reset.size(), 1U);
}

TEST_F(PortForwardTest, ResetOfTheDataStreamEndsTheConnection) {
  connect(1, echo.port());
  spdy.write(3, "x");
  ASSERT_TRUE(spdy.until([&] { return spdy.data[3] == "x"; }));
  wire.send(codec::SpdyWriter::rstStream(3, codec::SpdyStatus::kCancel));
  EXPECT_TRUE(spdy.until([&] { return spdy.ended.contains(1); }));
}

TEST(PortForwardOverWebSocket, TunnelsSpdyInMessages) {
  TestNode node;
  EchoServer echo(node.loop);
  TestClient wire(node);
  std::string head = wire.ask("GET", "/portForward/default/p",
                              "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                              "Sec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                              "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n");
  ASSERT_TRUE(head.starts_with("HTTP/1.1 101")) << head;
  EXPECT_NE(head.find("sec-websocket-protocol: SPDY/3.1+portforward.k8s.io\r\n"),
            std::string::npos);
  WebSocketClient socket(wire);
  codec::SpdyWriter writer;
  std::string bytes = writer.synStream(
      1, true, {{"streamtype", "error"}, {"port", echo.port()}, {"requestid", "0"}});
  bytes += writer.synStream(3, false,
                            {{"streamtype", "data"}, {"port", echo.port()}, {"requestid", "0"}});
  bytes += codec::SpdyWriter::dataHead(3, true, 5) + "hello";
  // Messages cut frames anywhere.
  for (std::size_t at = 0; at < bytes.size(); at += 7) socket.frame(2, bytes.substr(at, 7));
  EXPECT_TRUE(socket.until([&] { return socket.tunnel.find("bye") != std::string::npos; }));
  EXPECT_NE(socket.tunnel.find("hello"), std::string::npos);
  socket.frame(8, std::string("\x03\xe8", 2));
  EXPECT_TRUE(wire.until([&] { return node.streams->sessions() == 0; }));
}

}  // namespace
}  // namespace postern::streaming
