// Exchanges that are upset at a chosen moment: a client and a server with bodies both ways,
// trailers, interim answers and back-pressure, where callback number N resets its stream, closes,
// drains or breaks its connection. Each exchange must then end exactly once, and nothing may follow
// its end. For every N in turn: see http/upset_test.cc and proxy/upset_test.cc. Loop thread.
#pragma once

#include "base/check.h"
#include "http/client.h"
#include "http/server.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace postern::testing {

enum class Upset : unsigned char { kNothing, kReset, kClose, kDrain, kBreak };

/// Counts callbacks and says when it is time.
struct Moment {
  Upset what = Upset::kNothing;
  int at = 0;
  int seen = 0;
  std::function<void()> break_transport;         // empty: the connection is closed by a reset
  std::vector<std::pair<Upset, int>> more = {};  // from the last on: so many callbacks later
  bool now() {
    ++seen;
    if (seen > at && !more.empty()) {
      what = more.back().first;
      at = seen + more.back().second;
      more.pop_back();
    }
    return seen == at;
  }
};

/// One side of one exchange.
class UpsetStream : public http::StreamObserver {
 public:
  UpsetStream(Moment& moment, std::function<void(Upset)> connection, std::size_t body_bytes)
      : moment_(moment), connection_(std::move(connection)), body_left_(body_bytes) {}

  bool over() const { return over_; }
  void set(http::Stream& stream) { stream_ = &stream; }

  void onHeaders(http::HeaderMap headers, http::End end) override {
    POSTERN_CHECK(!over_ && !got_headers_ && !headers.empty());
    got_headers_ = true;
    if (upset(end)) return;
    end == http::End::kYes ? received() : stream_->read();
  }
  void onInformational(http::HeaderMap headers) override {
    POSTERN_CHECK(!over_ && !got_headers_ && !headers.empty());
    (void)upset();
  }
  void onData(base::Buffer& data, http::End end) override {
    POSTERN_CHECK(!over_ && got_headers_);
    data.clear();
    if (upset(end)) return;
    end == http::End::kYes ? received() : stream_->read();
  }
  void onTrailers(http::HeaderMap) override {
    POSTERN_CHECK(!over_ && got_headers_);
    if (!upset(http::End::kYes)) received();
  }
  void onWritable() override {
    if (over_) return;  // everything was said; only the flush was waited for
    if (!upset()) write();
  }
  void onReset(http::ResetReason) override {
    POSTERN_CHECK(!over_);
    over_ = true;
    ++moment_.seen;
  }

 protected:
  /// All of the other side's message is there.
  virtual void received() = 0;
  /// All of ours is written.
  virtual void written() = 0;
  /// Writes until the way is full; ends with trailers.
  void write() {
    while (body_left_ > 0) {
      const std::size_t count = std::min<std::size_t>(body_left_, 20'000);
      body_left_ -= count;
      base::Buffer piece(std::string(count, 'b'));
      const http::Flow flow = stream_->sendData(piece, http::End::kNo);
      if (flow == http::Flow::kFull && body_left_ > 0) return;
    }
    stream_->sendTrailers({{"t", "v"}});
    written();
  }
  /// Whether the other side's end is the end of the exchange.
  virtual bool endsWithIt() const = 0;
  /// True when the exchange was upset here and now. `end`: with the last the other side says.
  bool upset(http::End end = http::End::kNo) {
    if (!moment_.now()) return false;
    const bool ending = end == http::End::kYes && endsWithIt();
    if (ending && (moment_.what == Upset::kClose || moment_.what == Upset::kBreak)) over_ = true;
    switch (moment_.what) {
      case Upset::kNothing:
      case Upset::kDrain:
        connection_(moment_.what);
        return over_;
      case Upset::kReset:
        over_ = true;
        stream_->reset(http::ResetReason::kCancel);
        return true;
      case Upset::kClose:
        connection_(moment_.what);
        return true;
      case Upset::kBreak:
        if (moment_.break_transport == nullptr) {
          connection_(moment_.what);
          return true;
        }
        moment_.break_transport();
        return over_;
    }
    return false;
  }

  Moment& moment_;
  std::function<void(Upset)> connection_;
  http::Stream* stream_ = nullptr;
  std::size_t body_left_;
  bool got_headers_ = false;
  bool over_ = false;
};

/// Reads the request, then answers with interim headers, a body and trailers.
class UpsetAnswer final : public UpsetStream {
 public:
  using UpsetStream::UpsetStream;

 private:
  void received() override {
    stream_->sendHeaders({{":status", "103"}, {"link", "x"}}, http::End::kNo);
    stream_->sendHeaders({{":status", "200"}}, http::End::kNo);
    write();
  }
  void written() override { over_ = true; }
  bool endsWithIt() const override { return false; }
};

/// Asks, without a body or with one, and reads the answer.
class UpsetRequest final : public UpsetStream {
 public:
  using UpsetStream::UpsetStream;
  void start(http::Stream& stream) {
    set(stream);
    const bool body = body_left_ > 0;
    written_ = !body;
    stream.sendHeaders({{":method", body ? "POST" : "GET"},
                        {":scheme", "http"},
                        {":path", "/"},
                        {":authority", "a"},
                        {"te", "trailers"}},
                       body ? http::End::kNo : http::End::kYes);
    if (body && !over_) write();
  }

 private:
  void received() override {
    answered_ = true;
    over_ = written_;
    // An answer that came before all was asked: nothing more is wanted of it.
    if (over_) return;
    over_ = true;
    stream_->reset(http::ResetReason::kCancel);
  }
  void written() override {
    written_ = true;
    if (answered_) over_ = true;
  }
  bool endsWithIt() const override { return written_; }
  bool written_ = false;
  bool answered_ = false;
};

class UpsetServer final : public http::ServerObserver {
 public:
  explicit UpsetServer(Moment& moment) : moment_(moment) {}
  http::StreamObserver* onStream(http::ServerConnection& connection,
                                 http::Stream& stream) override {
    streams_.push_back(std::make_unique<UpsetAnswer>(
        moment_,
        [&connection](Upset what) {
          if (what == Upset::kBreak) connection.transport().resetOnClose();
          if (what == Upset::kClose || what == Upset::kBreak) connection.close();
          if (what == Upset::kDrain) connection.drain();
        },
        60'000 * (streams_.size() % 3)));
    streams_.back()->set(stream);
    return streams_.back().get();
  }
  void onClosed(http::ServerConnection& connection) override {
    POSTERN_CHECK(open_ > 0);
    --open_;
    std::erase(connections_, &connection);
  }
  void accepted(http::ServerConnection& connection) {
    ++open_;
    connections_.push_back(&connection);
  }
  int open() const { return open_; }
  void closeAll() {
    while (!connections_.empty()) {
      http::ServerConnection* each = connections_.back();
      connections_.pop_back();
      each->close();
    }
  }
  bool allOver() const {
    return std::all_of(streams_.begin(), streams_.end(), [](const auto& s) { return s->over(); });
  }

 private:
  Moment& moment_;
  std::vector<std::unique_ptr<UpsetAnswer>> streams_;
  std::vector<http::ServerConnection*> connections_;
  int open_ = 0;
};

/// A client that makes `most` exchanges on one connection, as many at once as it may.
class UpsetClient final : public http::ClientObserver {
 public:
  UpsetClient(Moment& moment, std::size_t most) : moment_(moment), most_(most) {}
  void onConnected(http::ClientConnection& connection) override { open(connection); }
  void onAvailable(http::ClientConnection& connection) override { open(connection); }
  void onDraining(http::ClientConnection&) override { draining_ = true; }
  void onClosed(http::ClientConnection&, base::Error) override {
    POSTERN_CHECK(!closed_);
    closed_ = true;
  }
  bool closed() const { return closed_; }
  bool allOver() const {
    return std::all_of(streams_.begin(), streams_.end(), [](const auto& s) { return s->over(); });
  }
  bool done() const { return closed_ || (allOver() && (streams_.size() == most_ || draining_)); }

 private:
  void open(http::ClientConnection& connection) {
    while (!closed_ && !draining_ && connection.canOpen() && streams_.size() < most_) {
      streams_.push_back(std::make_unique<UpsetRequest>(
          moment_,
          [this, &connection](Upset what) {
            if (what == Upset::kBreak) connection.transport().resetOnClose();
            if (what == Upset::kClose || what == Upset::kBreak) connection.close();
            if (what == Upset::kDrain) {
              draining_ = true;
              connection.drain();
            }
          },
          90'000 * (streams_.size() % 2)));
      UpsetRequest& stream = *streams_.back();
      stream.start(connection.open(stream));
    }
  }
  Moment& moment_;
  std::size_t most_;
  std::vector<std::unique_ptr<UpsetRequest>> streams_;
  bool closed_ = false;
  bool draining_ = false;
};

}  // namespace postern::testing
