#include "streaming/test_client.h"

#include "base/check.h"

#include <cerrno>
#include <chrono>

#include <sys/socket.h>

namespace postern::streaming {

TestNode::TestNode() {
  // As a program does: a write to a process that is gone is an error, no signal.
  event::Loop::blockSignals({});
  http = http::Server::make(
      loop, {}, [this](http::Request request, std::unique_ptr<http::Responder> responder) {
        if (!streams->handle(request, responder)) responder->respond(404, {}, "not ours\n");
      });
}

TestClient::TestClient(TestNode& node) : node_(node) {
  int ends[2];
  POSTERN_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  fd_ = base::Fd(ends[0]);
  node.http->serve(base::Fd(ends[1]));
}

std::string TestClient::ask(const std::string& method, const std::string& target,
                            const std::string& headers) {
  send(method + " " + target + " HTTP/1.1\r\nHost: node\r\n" + headers + "\r\n");
  until([this] {
    std::size_t end = received.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    if (received.starts_with("HTTP/1.1 101")) return true;
    std::size_t length = received.find("content-length: ");
    return length != std::string::npos &&
           received.size() >= end + 4 + std::stoul(received.substr(length + 16));
  });
  std::size_t end =
      received.starts_with("HTTP/1.1 101") ? received.find("\r\n\r\n") + 4 : received.size();
  std::string out = received.substr(0, end);
  received.erase(0, end);
  return out;
}

void TestClient::flush() {
  while (fd_ && !unsent_.empty()) {
    ssize_t n = ::send(fd_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    unsent_.erase(0, static_cast<std::size_t>(n));
  }
}

void TestClient::readAll() {
  char bytes[65536];
  while (fd_ && !ended) {
    ssize_t n = ::recv(fd_.get(), bytes, sizeof bytes, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) ended = true;
    if (n > 0) received.append(bytes, static_cast<std::size_t>(n));
  }
}

bool TestClient::until(const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (std::chrono::steady_clock::now() < end) {
    flush();
    readAll();
    if (done()) return true;
    node_.loop.runOnce(std::chrono::milliseconds(2));
  }
  return false;
}

void TestClient::turn(int turns) {
  for (int i = 0; i < turns; ++i) {
    flush();
    node_.loop.runOnce(std::chrono::milliseconds(1));
  }
}

void SpdyClient::take() {
  parser.feed(wire.received);
  wire.received.clear();
  while (true) {
    auto frame = parser.next();
    POSTERN_CHECK(frame.has_value());
    if (!*frame) return;
    codec::SpdyFrame& f = **frame;
    switch (f.type) {
      case codec::SpdyType::kSynReply:
        replied.insert(f.stream);
        break;
      case codec::SpdyType::kData:
        data[f.stream] += f.data;
        if (f.fin) ended.insert(f.stream);
        break;
      case codec::SpdyType::kRstStream:
        reset[f.stream] = f.value;
        break;
      case codec::SpdyType::kPing:
        pings.insert(f.value);
        break;
      default:
        break;
    }
  }
}

void WebSocketClient::frame(int opcode, std::string_view payload) {
  std::string out(1, static_cast<char>(0x80 | opcode));
  if (payload.size() < 126) {
    out.push_back(static_cast<char>(0x80 | payload.size()));
  } else {
    POSTERN_CHECK(payload.size() < 65536);
    out.push_back(static_cast<char>(0x80 | 126));
    out.push_back(static_cast<char>(payload.size() >> 8));
    out.push_back(static_cast<char>(payload.size() & 0xff));
  }
  constexpr char kMask[] = {1, 2, 3, 4};
  out.append(kMask, 4);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    out.push_back(static_cast<char>(payload[i] ^ kMask[i % 4]));
  }
  wire.send(out);
}

void WebSocketClient::take() {
  std::string& in = wire.received;
  auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(in[at]); };
  while (in.size() >= 2) {
    std::size_t head = 2;
    std::size_t size = byte(1);
    POSTERN_CHECK((size & 0x80) == 0);  // a server does not mask
    if (size == 126) {
      head = 4;
      if (in.size() < head) return;
      size = static_cast<std::size_t>(byte(2)) << 8 | byte(3);
    }
    if (in.size() < head + size) return;
    std::string payload = in.substr(head, size);
    int opcode = byte(0) & 0x0f;
    in.erase(0, head + size);
    if (opcode == 8) {
      close_code =
          static_cast<std::uint8_t>(payload[0]) << 8 | static_cast<std::uint8_t>(payload[1]);
    } else if (opcode == 10) {
      last_pong = payload;
    } else {
      tunnel += payload;
      if (!payload.empty()) {
        channels[static_cast<std::uint8_t>(payload[0])] += payload.substr(1);
      }
    }
  }
}

}  // namespace postern::streaming
