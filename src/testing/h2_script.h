// The other end of an HTTP/2 connection for tests, frame by frame in memory: a script sends what it
// likes, also wrong things, and sees what our side answers.
#pragma once

#include "base/check.h"
#include "codec/h2_frame.h"
#include "codec/h2_writer.h"
#include "codec/hpack.h"
#include "event/loop.h"
#include "http/headers.h"
#include "http/stream.h"
#include "net/transport.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace postern::testing {

using http::End;
using http::HeaderMap;

/// A wire in memory: what we write is kept in `written`, up to `room` bytes.
struct Wire {
  base::Buffer to_us;
  std::string written;
  std::size_t room = SIZE_MAX;
  bool eof = false;
  bool broken = false;    // reading fails after what is there, writing at once
  bool ended = false;     // our direction
  bool peer_ends = true;  // then the peer ends its own, too
  net::TransportObserver* observer = nullptr;

  void answerEnd() {
    if (!ended || !peer_ends || std::exchange(eof, true)) return;
    if (observer != nullptr) observer->onReadable();
  }
};

class MemoryTransport final : public net::Transport {
 public:
  explicit MemoryTransport(Wire& wire) : wire_(wire) {}
  ~MemoryTransport() override { wire_.observer = nullptr; }
  void setObserver(net::TransportObserver* o) override { wire_.observer = o; }
  net::IoResult read(base::Buffer& into, std::size_t max) override {
    const std::size_t count = std::min(max, wire_.to_us.size());
    if (count == 0 && wire_.broken) return {net::IoStatus::kError};
    if (count == 0) return {wire_.eof ? net::IoStatus::kEof : net::IoStatus::kAgain};
    into.append(wire_.to_us, count);
    return {net::IoStatus::kOk, count};
  }
  net::IoResult write(base::Buffer& from) override {
    if (wire_.broken) return {net::IoStatus::kError};
    const std::size_t count = std::min(from.size(), wire_.room);
    base::Buffer part;
    part.append(from, count);
    wire_.written += part.toString();
    wire_.room -= count;
    return {from.empty() ? net::IoStatus::kOk : net::IoStatus::kAgain, count};
  }
  void resumeRead() override {}
  void shutdownWrite() override { wire_.ended = true; }
  void resetOnClose() override {}
  base::Error error() const override { return {}; }
  const net::Address& local() const override { return address_; }
  const net::Address& remote() const override { return address_; }
  const net::PeerInfo& peer() const override { return peer_; }
  int fd() const override { return -1; }

 private:
  Wire& wire_;
  net::Address address_;
  net::PeerInfo peer_;
};

/// The other end of the wire, written by hand.
struct Script {
  explicit Script(const base::Clock& clock = base::systemClock()) : loop(clock) {}
  Wire wire;
  event::Loop loop;
  codec::HpackEncoder encoder;
  codec::HpackDecoder decoder{1 << 20, 1000};
  struct Answer {
    HeaderMap headers;
    HeaderMap trailers;
    std::string body;
    bool ended = false;
    std::optional<codec::H2Error> reset;
  };
  std::map<std::uint32_t, Answer> answers;
  std::optional<codec::H2Error> goaway;
  std::uint32_t goaway_last = 0;
  std::map<std::uint32_t, std::uint64_t> window_updates;
  int ping_acks = 0;
  int pings = 0;
  std::string last_ping;
  std::map<codec::H2SettingId, std::uint32_t> settings_seen;
  std::size_t parsed = 0;
  base::Buffer out;

  void send() {
    wire.to_us.append(out);
    if (wire.observer != nullptr) wire.observer->onReadable();
    turn();
    // A transport tells the end in a turn of its own.
    if (wire.eof && wire.observer != nullptr) wire.observer->onReadable();
    turn();
  }
  void turn() {
    for (int i = 0; i < 3; ++i) {
      loop.runOnce();
      wire.answerEnd();
    }
    parse();
  }
  void headers(std::uint32_t id, const HeaderMap& fields, End end) {
    std::string block;
    encoder.begin(block);
    fields.each([&](std::string_view n, std::string_view v) { encoder.encode(n, v, block); });
    codec::writeH2Headers(out, id, block, end == End::kYes ? unsigned{codec::kH2EndStream} : 0U);
  }
  void data(std::uint32_t id, std::string_view bytes, End end) {
    codec::writeH2Header(out, bytes.size(), codec::H2Type::kData,
                         end == End::kYes ? unsigned{codec::kH2EndStream} : 0U, id);
    out.append(bytes);
  }
  void request(std::uint32_t id, End end = End::kYes, HeaderMap more = {}) {
    HeaderMap fields{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}};
    more.each([&](std::string_view n, std::string_view v) { fields.set(n, v); });
    headers(id, fields, end);
  }

 private:
  void parse() {
    std::string_view rest = std::string_view(wire.written).substr(parsed);
    if (parsed == 0 && rest.starts_with("PRI")) rest.remove_prefix(codec::kH2Preface.size());
    while (rest.size() >= codec::kH2HeaderBytes) {
      const codec::H2FrameHeader header = codec::parseH2Header(rest);
      if (rest.size() < codec::kH2HeaderBytes + header.length) break;
      on(header, rest.substr(codec::kH2HeaderBytes, header.length));
      rest.remove_prefix(codec::kH2HeaderBytes + header.length);
    }
    parsed = wire.written.size() - rest.size();
  }
  void on(const codec::H2FrameHeader& header, std::string_view payload) {
    struct Sink final : codec::HpackSink {
      HeaderMap map;
      void onField(std::string_view n, std::string_view v) override { map.add(n, v); }
    } sink;
    Answer& answer = answers[header.stream];
    const bool end = header.has(codec::kH2EndStream);
    switch (header.type) {
      case codec::H2Type::kHeaders:
        POSTERN_CHECK(decoder.decode(payload, sink) == codec::HpackDecoder::Status::kOk);
        (answer.headers.empty() ? answer.headers : answer.trailers) = std::move(sink.map);
        answer.ended = answer.ended || end;
        break;
      case codec::H2Type::kData:
        answer.body += payload;
        answer.ended = answer.ended || end;
        break;
      case codec::H2Type::kRstStream:
        answer.reset = static_cast<codec::H2Error>(codec::readU32(payload));
        break;
      case codec::H2Type::kGoAway:
        goaway_last = codec::readU32(payload);
        goaway = static_cast<codec::H2Error>(codec::readU32(payload.substr(4)));
        break;
      case codec::H2Type::kWindowUpdate:
        window_updates[header.stream] += codec::readU32(payload);
        break;
      case codec::H2Type::kPing:
        if (header.has(codec::kH2Ack)) {
          ++ping_acks;
        } else {
          ++pings;
          last_ping = payload;
        }
        break;
      case codec::H2Type::kSettings:
        for (; payload.size() >= 6; payload.remove_prefix(6)) {
          settings_seen[static_cast<codec::H2SettingId>(codec::readU32(payload) >> 16)] =
              codec::readU32(payload.substr(2));
        }
        break;
      default:
        break;
    }
  }
};

/// One request as the server's observer sees it.
struct Seen : http::StreamObserver {
  http::Stream* stream = nullptr;
  HeaderMap headers;
  HeaderMap trailers;
  std::string body;
  bool ended = false;
  int writable = 0;
  std::optional<http::ResetReason> reset;
  void onHeaders(HeaderMap h, End end) override {
    headers = std::move(h);
    ended = end == End::kYes;
  }
  void onData(base::Buffer& data, End end) override {
    body += data.toString();
    data.clear();
    ended = end == End::kYes;
  }
  void onTrailers(HeaderMap t) override {
    trailers = std::move(t);
    ended = true;
  }
  void onWritable() override { ++writable; }
  void onReset(http::ResetReason reason) override { reset = reason; }
};

}  // namespace postern::testing
