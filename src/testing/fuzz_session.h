// What the fuzz targets of whole HTTP connections share: a connection of ours over a wire in memory
// on which hostile bytes come, and observers that read, answer and reset as they go. The first byte
// of an input chooses the side, the second how the rest is cut. No crash, no leak, and every
// exchange ends exactly once.
#pragma once

#include "base/check.h"
#include "http/client.h"
#include "http/server.h"
#include "testing/h2_script.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::testing {

/// One exchange, of either side.
struct FuzzPeer final : http::StreamObserver {
  http::Stream* stream = nullptr;
  bool server = false;
  bool over = false;
  unsigned number = 0;  // from 1

  void onHeaders(HeaderMap headers, End end) override {
    POSTERN_CHECK(!over && !headers.empty());
    if (!server) over = end == End::kYes;
    if (server && number % 7 == 6) {
      over = true;
      return stream->reset(http::ResetReason::kRefused);
    }
    if (server && (number % 3 == 0 || end == End::kYes)) return answer();
    if (!over) stream->read();
  }
  void onInformational(HeaderMap headers) override { POSTERN_CHECK(!over && !headers.empty()); }
  void onData(base::Buffer& data, End end) override {
    POSTERN_CHECK(!over && data.size() <= http::kReadBytes);
    data.clear();
    if (end == End::kNo) return stream->read();
    requestOrAnswerEnded();
  }
  void onTrailers(HeaderMap) override {
    POSTERN_CHECK(!over);
    requestOrAnswerEnded();
  }
  void onReset(http::ResetReason) override {
    POSTERN_CHECK(!over);
    over = true;
  }

 private:
  void requestOrAnswerEnded() {
    if (server) return answer();
    over = true;
  }
  void answer() {
    over = true;
    base::Buffer body(std::string(number * 5000U % 100'000, 'b'));
    stream->sendHeaders({{":status", "200"}}, End::kNo);
    if (number % 2 == 0) {
      stream->sendData(body, End::kYes);
    } else {
      stream->sendData(body, End::kNo);
      stream->sendTrailers({{"t", "v"}});
    }
  }
};

/// Whom the connection tells. A client's requests are made by `ask`, as soon as they may be.
struct FuzzOwner final : http::ServerObserver, http::ClientObserver {
  using Ask = void (*)(FuzzPeer& peer);
  static constexpr std::size_t kRequestsMax = 50;

  explicit FuzzOwner(Ask how) : ask(how) {}
  http::StreamObserver* onStream(http::ServerConnection&, http::Stream& stream) override {
    FuzzPeer& peer = add();
    peer.server = true;
    peer.stream = &stream;
    return &peer;
  }
  void onClosed(http::ServerConnection&) override { closed = true; }
  void onConnected(http::ClientConnection&) override {}
  void onAvailable(http::ClientConnection& connection) override {
    while (connection.canOpen() && peers.size() < kRequestsMax) {
      FuzzPeer& peer = add();
      peer.stream = &connection.open(peer);
      ask(peer);
    }
  }
  void onDraining(http::ClientConnection&) override {}
  void onClosed(http::ClientConnection&, base::Error) override { closed = true; }

  Ask ask;
  std::vector<std::unique_ptr<FuzzPeer>> peers;
  bool closed = false;

 private:
  FuzzPeer& add() {
    peers.push_back(std::make_unique<FuzzPeer>());
    peers.back()->number = static_cast<unsigned>(peers.size());
    return *peers.back();
  }
};

/// One input: start serve() or call() by server(), then run().
class FuzzSession {
 public:
  static constexpr std::size_t kInputBytesMin = 2;

  /// `size` is at least kInputBytesMin.
  FuzzSession(const std::uint8_t* data, std::size_t size, FuzzOwner::Ask ask)
      : owner(ask),
        server_((data[0] & 1) != 0),
        piece_(1 + data[1] * 8U),
        bytes_(reinterpret_cast<const char*>(data) + kInputBytesMin, size - kInputBytesMin) {}

  bool server() const { return server_; }
  std::unique_ptr<net::Transport> transport() { return std::make_unique<MemoryTransport>(wire); }
  void serve(http::ServerConnection* connection) { in_ = connection; }
  void call(http::ClientConnection* connection) {
    out_ = connection;
    wire.observer->onConnected();
    owner.onAvailable(*out_);
  }

  void run() {
    while (!bytes_.empty() && !owner.closed) {
      wire.to_us.append(bytes_.substr(0, piece_));
      bytes_.remove_prefix(std::min(piece_, bytes_.size()));
      if (wire.observer != nullptr) wire.observer->onReadable();
      if (piece_ % 3 != 0) loop.runOnce();  // otherwise all of it comes in one turn
    }
    for (int i = 0; i < kTurnsAtEnd; ++i) loop.runOnce();
    wire.eof = true;
    if (wire.observer != nullptr) wire.observer->onReadable();
    if (!owner.closed) server_ ? in_->close() : out_->close();
    loop.runOnce();
    POSTERN_CHECK(owner.closed);
    for (const auto& peer : owner.peers) POSTERN_CHECK(peer->over);
  }

  event::Loop loop;
  Wire wire;
  FuzzOwner owner;

 private:
  static constexpr int kTurnsAtEnd = 4;

  const bool server_;
  const std::size_t piece_;
  std::string_view bytes_;
  http::ServerConnection* in_ = nullptr;
  http::ClientConnection* out_ = nullptr;
};

}  // namespace postern::testing
