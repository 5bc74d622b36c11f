// For the tests of this folder: a node's server over a ProcessBackend on one loop, and a client's
// end of a connection to it, driven by hand.
#pragma once

#include "codec/spdy3.h"
#include "streaming/process_backend.h"
#include "streaming/server.h"

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace postern::streaming {

struct TestNode {
  event::Loop loop;
  ProcessBackend backend{loop};
  std::unique_ptr<Server> streams = Server::make(loop, backend);
  std::unique_ptr<http::Server> http;
  TestNode();
};

/// Bytes both ways; the loop turns only inside until().
class TestClient {
 public:
  explicit TestClient(TestNode& node);
  /// Sends a request's head; gives the head of the answer, and its body when it is none of a 101.
  std::string ask(const std::string& method, const std::string& target, const std::string& headers);
  void send(std::string_view bytes) { unsent_.append(bytes); }
  /// Turns the loop until `done`, for at most 10 seconds.
  bool until(const std::function<bool()>& done);
  /// Turns it `turns` times without reading.
  void turn(int turns);
  void hangUp() { fd_.reset(); }
  std::size_t unsent() const { return unsent_.size(); }

  std::string received;
  bool ended = false;

 private:
  void flush();
  void readAll();
  TestNode& node_;
  base::Fd fd_;
  std::string unsent_;
};

/// The SPDY of a client.
struct SpdyClient {
  explicit SpdyClient(TestClient& connection) : wire(connection) {}
  TestClient& wire;
  codec::SpdyWriter writer;
  codec::SpdyParser parser;
  std::map<std::uint32_t, std::string> data;
  std::set<std::uint32_t> replied;
  std::set<std::uint32_t> ended;
  std::map<std::uint32_t, std::uint32_t> reset;  // stream: status
  std::set<std::uint32_t> pings;

  void open(std::uint32_t id, const codec::SpdyHeaders& headers, bool fin = false) {
    wire.send(writer.synStream(id, fin, headers));
  }
  void write(std::uint32_t id, std::string_view bytes, bool fin = false) {
    wire.send(codec::SpdyWriter::dataHead(id, fin, bytes.size()));
    wire.send(bytes);
  }
  /// Takes apart what came.
  void take();
  bool until(const std::function<bool()>& done) {
    return wire.until([&] {
      take();
      return done();
    });
  }
};

/// The WebSocket of a client.
struct WebSocketClient {
  explicit WebSocketClient(TestClient& connection) : wire(connection) {}
  TestClient& wire;
  std::map<int, std::string> channels;
  std::string tunnel;  // all payloads in a row
  std::string last_pong;
  int close_code = 0;

  void frame(int opcode, std::string_view payload);
  void write(int channel, std::string_view bytes) {
    frame(2, std::string(1, static_cast<char>(channel)) + std::string(bytes));
  }
  void take();
  bool until(const std::function<bool()>& done) {
    return wire.until([&] {
      take();
      return done();
    });
  }
};

inline constexpr const char* kSpdyHeaders =
    "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
    "X-Stream-Protocol-Version: channel.k8s.io\r\n";
inline constexpr const char* kWebSocketHeaders =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n";

}  // namespace postern::streaming
