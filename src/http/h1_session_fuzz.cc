// Whole HTTP/1 connections against hostile bytes: the first byte chooses the side, the second how
// the rest is cut. Observers read, answer and reset as they go. No crash, no leak, and every
// exchange ends exactly once.
#include "base/check.h"
#include "http/h1_client.h"
#include "http/h1_server.h"
#include "testing/h2_script.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace {

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own
using http::End;
using http::HeaderMap;

struct Peer final : http::StreamObserver {
  http::Stream* stream = nullptr;
  bool server = false;
  bool over = false;
  unsigned number = 0;

  void onHeaders(HeaderMap headers, End end) override {
    POSTERN_CHECK(!over && !headers.empty());
    if (!server) over = end == End::kYes;
    if (server && number % 5 == 4) {
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
    server ? answer() : finish();
  }
  void onTrailers(HeaderMap) override {
    POSTERN_CHECK(!over);
    server ? answer() : finish();
  }
  void onReset(http::ResetReason) override {
    POSTERN_CHECK(!over);
    over = true;
  }
  void finish() { over = true; }
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

struct Owner final : http::ServerObserver, http::ClientObserver {
  std::vector<std::unique_ptr<Peer>> peers;
  bool closed = false;
  Peer& add(bool server) {
    peers.push_back(std::make_unique<Peer>());
    peers.back()->server = server;
    peers.back()->number = static_cast<unsigned>(peers.size());
    return *peers.back();
  }
  http::StreamObserver* onStream(http::ServerConnection&, http::Stream& stream) override {
    Peer& peer = add(true);
    peer.stream = &stream;
    return &peer;
  }
  void onClosed(http::ServerConnection&) override { closed = true; }
  void onConnected(http::ClientConnection&) override {}
  void onAvailable(http::ClientConnection& connection) override {
    if (!connection.canOpen() || peers.size() >= 20) return;
    constexpr const char* kMethods[] = {"GET", "POST", "HEAD", "CONNECT"};
    Peer& peer = add(false);
    peer.stream = &connection.open(peer);
    const char* method = kMethods[peer.number % 4];
    const End end = peer.number % 4 == 1 ? End::kNo : End::kYes;
    peer.stream->sendHeaders(
        {{":method", method}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}, end);
    if (end == End::kYes) return;
    base::Buffer body(std::string(peer.number * 3000U, 'q'));
    peer.stream->sendData(body, End::kYes);
  }
  void onDraining(http::ClientConnection&) override {}
  void onClosed(http::ClientConnection&, base::Error) override { closed = true; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const bool server = (data[0] & 1) != 0;
  const std::size_t piece = 1 + data[1] * 8U;
  event::Loop loop;
  testing::Wire wire;
  Owner owner;
  http::ServerConnection* in = nullptr;
  http::ClientConnection* out = nullptr;
  auto transport = std::make_unique<testing::MemoryTransport>(wire);
  if (server) {
    in = http::startH1Server(loop, std::move(transport), {}, {}, owner);
  } else {
    out = http::startH1Client(loop, std::move(transport), {}, owner);
    wire.observer->onConnected();
    owner.onAvailable(*out);
  }
  while (!bytes.empty() && !owner.closed) {
    wire.to_us.append(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
    if (wire.observer != nullptr) wire.observer->onReadable();
    loop.runOnce();
  }
  for (int i = 0; i < 4; ++i) loop.runOnce();
  wire.eof = true;
  if (wire.observer != nullptr) wire.observer->onReadable();
  if (!owner.closed) server ? in->close() : out->close();
  loop.runOnce();
  POSTERN_CHECK(owner.closed);
  for (const auto& peer : owner.peers) POSTERN_CHECK(peer->over);
  return 0;
}
