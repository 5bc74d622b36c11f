// An HTTP/2 origin for tests, frame by frame: it records requests and a function answers each.
#pragma once

#include "base/check.h"
#include "base/function.h"
#include "codec/h2_frame.h"
#include "codec/h2_writer.h"
#include "codec/hpack.h"
#include "http/headers.h"
#include "proxy/http_fixture_test.h"

#include <map>

namespace postern::proxy {

class H2Origin {
 public:
  class Connection final : public Peer {
   public:
    Connection(H2Origin& origin, std::unique_ptr<net::Transport> transport)
        : Peer(std::move(transport)), origin_(origin) {
      codec::writeH2Settings(out_, {{codec::H2SettingId::kMaxConcurrentStreams, origin.streams_max},
                                    {codec::H2SettingId::kEnableConnectProtocol, 1}});
      flush();
    }
    void headers(std::uint32_t id, const http::HeaderMap& fields, http::End end) {
      std::string block;
      encoder_.begin(block);
      fields.each([&](std::string_view n, std::string_view v) { encoder_.encode(n, v, block); });
      codec::writeH2Headers(out_, id, block,
                            end == http::End::kYes ? unsigned{codec::kH2EndStream} : 0U);
      flush();
    }
    void data(std::uint32_t id, std::string_view bytes, http::End end) {
      codec::writeH2Header(out_, bytes.size(), codec::H2Type::kData,
                           end == http::End::kYes ? unsigned{codec::kH2EndStream} : 0U, id);
      out_.append(bytes);
      flush();
    }
    void ok(std::uint32_t id) { headers(id, {{":status", "200"}}, http::End::kYes); }
    void refuse(std::uint32_t id) {
      codec::writeH2Reset(out_, id, codec::H2Error::kRefusedStream);
      flush();
    }
    void goAway(std::uint32_t last) {
      codec::writeH2GoAway(out_, last, codec::H2Error::kNone, "");
      flush();
    }

   private:
    void onBytes() override;
    H2Origin& origin_;
    codec::HpackEncoder encoder_;
    codec::HpackDecoder decoder_{1 << 20, 1000};
    std::size_t parsed_ = 0;
  };
  struct Request {
    Connection* connection;
    std::uint32_t id;
    http::HeaderMap headers;
    std::string body;
    bool ended = false;
    bool reset = false;
    int pings = 0;
  };

  explicit H2Origin(event::Loop& loop) : loop_(loop) {
    auto socket = net::listenSocket(net::Address::loopback(0));
    EXPECT_TRUE(socket);
    port_ = net::localAddress(socket->get()).port();
    acceptor_ = std::make_unique<net::Acceptor>(
        loop, std::move(*socket), [this](base::Fd fd, const net::Address&) {
          connections.push_back(
              std::make_unique<Connection>(*this, net::makeSocketTransport(loop_, std::move(fd))));
        });
  }
  std::uint16_t port() const { return port_; }
  Request* find(const Connection& connection, std::uint32_t id) {
    for (auto& each : requests)
      if (each.connection == &connection && each.id == id) return &each;
    return nullptr;
  }

  std::uint32_t streams_max = 100;
  int pings = 0;
  std::deque<Request> requests;
  base::Function<void(Request&)> on_request;  // its headers came
  std::vector<std::unique_ptr<Connection>> connections;

 private:
  event::Loop& loop_;
  std::uint16_t port_ = 0;
  std::unique_ptr<net::Acceptor> acceptor_;
};

inline void H2Origin::Connection::onBytes() {
  struct Sink final : codec::HpackSink {
    http::HeaderMap map;
    void onField(std::string_view n, std::string_view v) override { map.add(n, v); }
  };
  if (parsed_ == 0) {
    if (received_.size() < codec::kH2Preface.size()) return;
    parsed_ = codec::kH2Preface.size();
  }
  while (received_.size() - parsed_ >= codec::kH2HeaderBytes) {
    const std::string_view rest = std::string_view(received_).substr(parsed_);
    const codec::H2FrameHeader header = codec::parseH2Header(rest);
    if (rest.size() < codec::kH2HeaderBytes + header.length) return;
    const std::string payload(rest.substr(codec::kH2HeaderBytes, header.length));
    parsed_ += codec::kH2HeaderBytes + header.length;
    Request* request = origin_.find(*this, header.stream);
    if (request != nullptr && header.has(codec::kH2EndStream) &&
        (header.type == codec::H2Type::kData || header.type == codec::H2Type::kHeaders)) {
      request->ended = true;
    }
    switch (header.type) {
      case codec::H2Type::kHeaders: {
        Sink sink;
        POSTERN_CHECK(decoder_.decode(payload, sink) == codec::HpackDecoder::Status::kOk);
        if (request != nullptr) break;
        origin_.requests.push_back(
            {this, header.stream, std::move(sink.map), "", header.has(codec::kH2EndStream)});
        if (origin_.on_request) origin_.on_request(origin_.requests.back());
        break;
      }
      case codec::H2Type::kData:
        if (request != nullptr) request->body += payload;
        break;
      case codec::H2Type::kRstStream:
        if (request != nullptr) request->reset = true;
        break;
      case codec::H2Type::kPing:
        ++origin_.pings;
        break;
      default:
        break;
    }
  }
}

}  // namespace postern::proxy
