#include "apiserver/exchange.h"

#include "apiserver/rest.h"

#include <algorithm>
#include <utility>

namespace postern::apiserver {
namespace {

constexpr std::size_t kAnswerBytesMax = 16 * 1024 * 1024;
constexpr std::size_t kPipeBytesMax = 1024 * 1024;     // unread on one side: the other waits
constexpr std::size_t kErrorTextBytesMax = 10000;      // of a node's error answer
constexpr std::size_t kForwardBytesMax = 1024 * 1024;  // waits for a slow client: read no more

/// Copies bytes between two transports until both directions ended. Destroys itself.
class Pipe final : public event::Deferred {
 public:
  Pipe(event::Loop& loop, std::unique_ptr<net::Transport> a, std::unique_ptr<net::Transport> b)
      : loop_(loop), left_(*this, std::move(a)), right_(*this, std::move(b)) {}

  void start(base::Buffer& to_left, base::Buffer& to_right) {
    left_.out.append(to_left);
    right_.out.append(to_right);
    left_.transport->setObserver(&left_);
    right_.transport->setObserver(&right_);
    left_.transport->resumeRead();
    right_.transport->resumeRead();
    flush(left_);
    flush(right_);
  }

 private:
  struct Side final : net::TransportObserver {
    Side(Pipe& p, std::unique_ptr<net::Transport> t) : pipe(p), transport(std::move(t)) {}
    void onReadable() override { pipe.readFrom(*this); }
    void onWritable() override { pipe.flush(*this); }
    void onError(base::Error) override { pipe.over(); }
    Pipe& pipe;
    std::unique_ptr<net::Transport> transport;
    base::Buffer out;     // waits to be written here
    bool ended = false;   // no more to read from here
    bool shut = false;    // our direction to it is ended
    bool paused = false;  // not read, because the other side is full
  };
  Side& other(Side& side) { return &side == &left_ ? right_ : left_; }

  void readFrom(Side& side) {
    Side& to = other(side);
    while (!over_ && !side.ended) {
      if (to.out.size() > kPipeBytesMax) {
        side.paused = true;
        return;
      }
      auto result = side.transport->read(to.out, 65536);
      if (result.status == net::IoStatus::kError) return over();
      if (result.status == net::IoStatus::kEof) side.ended = true;
      if (result.status != net::IoStatus::kOk) break;
      flush(to);
    }
    flush(to);
  }
  void flush(Side& side) {
    if (over_) return;
    while (!side.out.empty()) {
      auto result = side.transport->write(side.out);
      if (result.status == net::IoStatus::kAgain) break;
      if (result.status != net::IoStatus::kOk) return over();
    }
    Side& from = other(side);
    if (from.paused && side.out.size() < kPipeBytesMax / 2) {
      from.paused = false;
      from.transport->resumeRead();
    }
    if (from.ended && side.out.empty() && !side.shut) {
      side.shut = true;
      side.transport->shutdownWrite();
    }
    if (left_.shut && right_.shut && !left_.transport->unsent() && !right_.transport->unsent())
      over();
  }
  void over() {
    if (std::exchange(over_, true)) return;
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  event::Loop& loop_;
  Side left_;
  Side right_;
  bool over_ = false;
};

/// Owns itself until the connection is gone.
class Exchange final : public event::Deferred,
                       public http::ClientObserver,
                       public http::StreamObserver {
 public:
  Exchange(event::Loop& loop, http::ClientRequest request)
      : loop_(loop), request_(std::move(request)), timer_(loop, [this] { timedOut(); }) {}

  WholeAnswer done;
  std::unique_ptr<http::Responder> responder;
  ErrorAnswer error_answer;

  void start(std::unique_ptr<net::Transport> transport) {
    timer_.arm(request_.timeout);
    if (responder) responder->onGone([this] { clientGone(); });
    connection_ = http::ClientConnection::start(loop_, std::move(transport), http::Protocol::kHttp1,
                                                {}, *this);
    // A transport that came connected (a handed-over socket) tells nothing: open at once.
    if (connection_ != nullptr && connection_->canOpen()) open();
  }

  void onConnected(http::ClientConnection&) override { open(); }
  void onAvailable(http::ClientConnection&) override {}
  void onDraining(http::ClientConnection&) override {}
  void onClosed(http::ClientConnection&, base::Error error) override {
    connection_ = nullptr;
    stream_ = nullptr;
    fail(error);
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  void onHeaders(http::HeaderMap headers, http::End end) override {
    answer_.status = headers.status();
    if (responder) {
      timer_.cancel();
      if (answer_.status == 101) return upgraded(std::move(headers));
      if (error_answer && answer_.status >= 300) {
        if (end == http::End::kYes) return complete();
        return stream_->read();
      }
      http::HeaderMap copy;
      headers.each([&](std::string_view name, std::string_view value) {
        if (!name.starts_with(':') && name != "content-length") copy.add(name, value);
      });
      responder->start(answer_.status, std::move(copy));
    } else {
      answer_.headers = std::move(headers);
    }
    if (end == http::End::kYes) return complete();
    stream_->read();
  }
  void onData(base::Buffer& data, http::End end) override {
    std::size_t waiting = 0;
    if (responder && error_answer && answer_.status >= 300) {
      answer_.body += data.toString();
      data.clear();
      answer_.body.resize(std::min(answer_.body.size(), kErrorTextBytesMax));
    } else if (responder) {
      while (!data.empty()) {
        std::string_view piece = data.front();
        waiting = responder->write(piece);
        data.drain(piece.size());
      }
    } else {
      answer_.body += data.toString();
      data.clear();
      if (answer_.body.size() > kAnswerBytesMax) {
        fail({base::Errc::kLimitExceeded, "answer too large"});
        return close();
      }
    }
    if (end == http::End::kYes) return complete();
    if (waiting > kForwardBytesMax) {
      return responder->onDrained([this] {
        if (stream_ != nullptr) stream_->read();
      });
    }
    if (stream_ != nullptr) stream_->read();
  }
  void onTrailers(http::HeaderMap) override { complete(); }
  void onReset(http::ResetReason) override {
    stream_ = nullptr;
    fail({base::Errc::kClosed, "connection lost"});
    close();
  }

 private:
  void open() {
    if (std::exchange(opened_, true)) return;
    stream_ = &connection_->open(*this);
    http::HeaderMap headers{{":method", request_.method},
                            {":path", request_.path},
                            {":scheme", "http"},
                            {":authority", request_.authority}};
    request_.headers.each([&](std::string_view name, std::string_view value) {
      if (!name.starts_with(':')) headers.add(name, value);
    });
    bool upgrade = headers.has("upgrade");
    if (!upgrade) headers.set("content-length", std::to_string(request_.body.size()));
    bool empty = request_.body.empty();
    stream_->sendHeaders(headers, empty ? http::End::kYes : http::End::kNo);
    if (!empty && stream_ != nullptr) {
      base::Buffer body(request_.body);
      stream_->sendData(body, http::End::kYes);
    }
  }
  void upgraded(http::HeaderMap headers) {
    base::Buffer from_node;
    told_ = true;  // taking the transport closes the connection, which is no failure
    auto node = std::exchange(stream_, nullptr)->takeTransport(from_node);
    http::HeaderMap copy;
    headers.each([&](std::string_view name, std::string_view value) {
      if (!name.starts_with(':') && name != "connection") copy.add(name, value);
    });
    base::Buffer from_client;
    auto client = responder->upgrade(std::move(copy), from_client);
    if (!node || !client) return;
    (new Pipe(loop_, std::move(client), std::move(node)))->start(from_node, from_client);
  }
  void complete() {
    stream_ = nullptr;
    if (std::exchange(told_, true)) return;
    timer_.cancel();
    if (responder && error_answer && answer_.status >= 300) {
      respondFailure(*responder, error_answer(answer_.status, std::move(answer_.body)));
    } else if (responder) {
      responder->end();
    } else {
      auto callback = std::move(done);
      callback(std::move(answer_));
    }
    close();
  }
  void fail(base::Error error) {
    if (std::exchange(told_, true)) return;
    timer_.cancel();
    if (!responder) {
      auto callback = std::move(done);
      callback(std::unexpected(error));
    } else if (answer_.status == 0) {
      respondFailure(*responder,
                     {500, "InternalError", "error dialing backend: " + error.message(), nullptr});
    } else {
      responder->end();
    }
  }
  void timedOut() {
    fail({base::Errc::kTimeout, "timed out"});
    close();
  }
  void clientGone() {
    told_ = true;
    close();
  }
  void close() {
    if (connection_ != nullptr) connection_->close();
  }

  event::Loop& loop_;
  http::ClientRequest request_;
  event::Timer timer_;
  http::ClientConnection* connection_ = nullptr;
  http::Stream* stream_ = nullptr;
  http::ClientResponse answer_;
  bool opened_ = false;
  bool told_ = false;
};

}  // namespace

void exchangeWhole(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                   http::ClientRequest request, WholeAnswer done) {
  auto* exchange = new Exchange(loop, std::move(request));
  exchange->done = std::move(done);
  exchange->start(std::move(transport));
}

void exchangeForward(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                     http::ClientRequest request, std::unique_ptr<http::Responder> responder,
                     ErrorAnswer error_answer) {
  auto* exchange = new Exchange(loop, std::move(request));
  exchange->responder = std::move(responder);
  exchange->error_answer = std::move(error_answer);
  exchange->start(std::move(transport));
}

}  // namespace postern::apiserver
