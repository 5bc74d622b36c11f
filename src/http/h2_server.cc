#include "http/h2_server.h"

#include "codec/h2_writer.h"
#include "http/h2_session.h"

#include <algorithm>
#include <utility>

namespace postern::http {
namespace {

using codec::H2Error;

constexpr std::uint32_t kLastStreamMax = 0x7fffffffU;
constexpr std::string_view kDrainPing = "drain...";
constexpr std::chrono::seconds kDrainPingTimeout{1};
// A connection may hold this much of headers even where the owner is short of memory.
constexpr std::size_t kHeldAlwaysBytes = 64 * 1024;

H2Options h2ServerOptions(const ServerLimits& limits) {
  return {.header_bytes_max = limits.header_bytes_max,
          .header_count_max = limits.header_count_max,
          .h2 = limits.h2};
}

/// Zero means none.
ServerLimits withoutZeros(ServerLimits limits) {
  constexpr std::chrono::hours kNever{24 * 3650};
  if (limits.idle_timeout.count() == 0) limits.idle_timeout = kNever;
  if (limits.headers_timeout.count() == 0) limits.headers_timeout = kNever;
  if (limits.flush_timeout.count() == 0) limits.flush_timeout = kNever;
  return limits;
}

class H2Server final : public H2Session, public ServerConnection {
 public:
  H2Server(event::Loop& loop, std::unique_ptr<net::Transport> transport, base::Buffer initial,
           const ServerLimits& limits, ServerObserver& observer)
      : H2Session(loop, std::move(transport), std::move(initial), Role::kServer,
                  h2ServerOptions(limits)),
        limits_(withoutZeros(limits)),
        owner_(observer),
        timer_(loop, [this] { onTimer(); }) {
    begin();
    armTimer();
  }

  // ---- ServerConnection ----
  net::Transport& transport() override { return *transport_; }
  void drain() override {
    if (isClosed() || drain_ != Drain::kNo) return;
    // Two steps (RFC 9113 6.8): requests on their way when the first GOAWAY leaves are still taken,
    // the very first ones among them.
    drain_ = Drain::kTold;
    sendGoAway(kLastStreamMax, H2Error::kNone);
    writePing(kDrainPing, codec::H2PingKind::kAsk);
    timer_.arm(kDrainPingTimeout);
  }
  void close() override {
    if (!isClosed()) {
      sendGoAway(last_peer_stream_, H2Error::kNone);
      transport_->write(out_);
    }
    shut({base::Errc::kCancelled, "closed"}, ResetReason::kLocal);
  }

 private:
  enum class Drain : unsigned char { kNo, kTold, kFinal };

  void onNewHeaders(std::uint32_t id, H2HeaderReader& fields, bool too_large) override;
  void onBrokenHeaders(std::uint32_t id, ResetReason reason) override;
  void onResponse(H2Stream&, H2HeaderReader&) override {}
  void onGoAway(std::uint32_t, H2Error) override {
    peer_leaves_ = true;
    settleLater();
  }
  void onPingAck() override {
    if (drain_ == Drain::kTold && reader_.payload() == kDrainPing) finishDrain();
  }
  void onSettled() override {
    if (!streams_.empty() || (drain_ != Drain::kFinal && !peer_leaves_)) return;
    if (!out_.empty() || transport_->unsent()) return settleWhenWritten();
    endGently({base::Errc::kClosed, "drained"}, ResetReason::kLocal);
  }
  bool startLinger() override {
    if (limits_.delayed_close_timeout.count() == 0) return false;
    timer_.arm(limits_.delayed_close_timeout);
    return true;
  }
  /// A frame that has begun must end in time, as a head of HTTP/1 must.
  void onBytes(bool inside) override {
    if (!inside) {
      partial_since_ = {};
    } else if (partial_since_ == base::MonotonicTime{}) {
      partial_since_ = loop_.now();
      if (drain_ == Drain::kNo) armTimer();
    }
  }
  void onEnd(base::Error error) override { lost(error); }
  bool isIdle(std::uint32_t id) const override {
    return id % 2 == 0 || id > std::max(last_peer_stream_, last_ignored_stream_);
  }
  void onGone(base::Error) override {
    timer_.cancel();
    owner_.onClosed(*this);
  }
  void tell(H2Event event) override { owner_.onH2Event(event); }
  void onStreamGone(H2Stream& stream) override {
    if (stream.held_header_bytes == 0) return;
    held_header_bytes_ -= stream.held_header_bytes;
    owner_.onHeldHeaders(-static_cast<std::ptrdiff_t>(stream.held_header_bytes));
  }
  ResetReason lostReason(const H2Stream&) const override { return ResetReason::kConnectionLost; }

  void beginStream(std::uint32_t id, H2HeaderReader& fields, std::size_t header_bytes);
  void refuse(std::uint32_t id);
  void refuse431(std::uint32_t id);
  void finishDrain();
  void resetStuckStreams();
  void onTimer();
  void armTimer();
  base::Duration frameTimeLeft() const {
    return limits_.headers_timeout - (loop_.now() - partial_since_);
  }
  /// The first frames are waited for as for a head of HTTP/1.
  base::Duration idleTimeLeft() const {
    const base::Duration most = reader_.begun()
                                    ? limits_.idle_timeout
                                    : std::min(limits_.headers_timeout, limits_.idle_timeout);
    return most - (loop_.now() - last_activity_);
  }

  const ServerLimits limits_;
  ServerObserver& owner_;
  event::Timer timer_;
  std::size_t held_header_bytes_ = 0;
  std::uint32_t last_ignored_stream_ = 0;  // came after the last that is processed
  base::MonotonicTime partial_since_{};    // none: what was read ends with a frame
  Drain drain_ = Drain::kNo;
  bool peer_leaves_ = false;
};

void H2Server::onNewHeaders(std::uint32_t id, H2HeaderReader& fields, bool too_large) {
  if (id % 2 == 0) return connectionError(H2Error::kProtocol, "even stream number");
  if (id <= last_peer_stream_) {
    switch (past(id)) {
      case H2Past::kClosed:
        return connectionError(H2Error::kStreamClosed, "HEADERS of a closed stream");
      case H2Past::kResetByUs:
      case H2Past::kForgotten:
        return;  // trailers that were on their way
      default:
        return connectionError(H2Error::kProtocol, "stream number went down");
    }
  }
  if (drain_ == Drain::kFinal) {
    // Above the last stream told: never processed, nor what follows on it (RFC 9113 6.8).
    last_ignored_stream_ = std::max(last_ignored_stream_, id);
    return remember(id, true);
  }
  last_peer_stream_ = id;
  if (reader_.selfDependent()) return streamError(id, H2Error::kProtocol);
  if (streams_.size() >= limits_.h2.concurrent_streams_max) return refuse(id);
  if (too_large) return refuse431(id);
  const char* wrong = fields.finish();
  if (wrong == nullptr && reader_.endStream() && fields.contentLength().value_or(0) != 0)
    wrong = "body of another length";
  if (wrong == nullptr && fields.hasProtocol() && !limits_.h2.extended_connect)
    wrong = ":protocol was not offered";
  if (wrong != nullptr) {
    H2Stream& stream = addStream(makeStream(id));
    stream.remote_ended = reader_.endStream();
    stream.observer = owner_.onInvalidRequest(*this, stream);
    return invalidMessage(id, wrong, fields.invalidReason());
  }
  const std::size_t bytes = fields.heldBytes();
  if (held_header_bytes_ > 0 && held_header_bytes_ + bytes > limits_.h2.held_header_bytes_max) {
    return refuse(id);
  }
  held_header_bytes_ += bytes;
  if (!owner_.onHeldHeaders(static_cast<std::ptrdiff_t>(bytes)) &&
      held_header_bytes_ > kHeldAlwaysBytes) {
    held_header_bytes_ -= bytes;
    owner_.onHeldHeaders(-static_cast<std::ptrdiff_t>(bytes));
    return refuse(id);
  }
  beginStream(id, fields, bytes);
}

/// The owner counts and logs a request of which nothing is known.
void H2Server::onBrokenHeaders(std::uint32_t id, ResetReason reason) {
  const bool taken = drain_ != Drain::kFinal && streams_.size() < limits_.h2.concurrent_streams_max;
  if (id % 2 == 0 || id <= last_peer_stream_ || !taken) return;
  last_peer_stream_ = id;
  StreamObserver* told = owner_.onInvalidRequest(*this, addStream(makeStream(id)));
  if (told != nullptr) told->onReset(reason);
}

/// Nothing was done with it: the client may ask again.
void H2Server::refuse(std::uint32_t id) {
  remember(id, !reader_.endStream());
  streamError(id, H2Error::kRefusedStream);
}

void H2Server::beginStream(std::uint32_t id, H2HeaderReader& fields, std::size_t header_bytes) {
  H2Stream& stream = addStream(makeStream(id));
  stream.held_header_bytes = static_cast<std::uint32_t>(header_bytes);
  stream.remote_ended = reader_.endStream();
  stream.body_left = fields.contentLength();
  HeaderMap headers = fields.take();
  stream.head_request = headers.method() == "HEAD";
  stream.head_seen = true;
  const End end = stream.remote_ended ? End::kYes : End::kNo;
  StreamObserver* chosen = owner_.onStream(*this, stream);
  if (stream.closed || isClosed()) return;
  if (chosen != nullptr) stream.observer = chosen;
  if (stream.observer == nullptr) return stream.reset(ResetReason::kRefused);
  stream.observer->onHeaders(std::move(headers), end);
}

void H2Server::refuse431(std::uint32_t id) {
  tell(H2Event::kHeaderOverflow);
  if (!chargeReset()) return;  // decoding it was work for nothing
  H2Stream& stream = addStream(makeStream(id));
  stream.remote_ended = reader_.endStream();
  StreamObserver* told = owner_.onInvalidRequest(*this, stream);
  const char* details =
      decoder_.tooManyFields() ? "http2.too_many_headers" : "http2.header_list_size_too_large";
  if (told != nullptr && told->onRefused(431, details)) return;
  if (told != nullptr) told->onReset(ResetReason::kOverflow);
  stream.sendHeaders({{":status", "431"}, {"content-length", "0"}}, End::kYes);
}

void H2Server::finishDrain() {
  drain_ = Drain::kFinal;
  sendGoAway(last_peer_stream_, H2Error::kNone);
  settleLater();
  armTimer();
}

/// Nobody above waits for them any more: only this timer ends them.
void H2Server::resetStuckStreams() {
  std::vector<H2Stream*> stuck;
  streams_.findIf([&](H2Stream& stream) {
    if (stream.local_ended && !stream.out.empty() &&
        loop_.now() - stream.sent_at >= limits_.flush_timeout)
      stuck.push_back(&stream);
    return false;
  });
  for (H2Stream* stream : stuck) {
    tell(H2Event::kTxFlushTimeout);
    resetByUs(*stream, H2Error::kInternal);
  }
}

/// To the first moment at which something may have lasted too long. Streams that end later only
/// make it later.
void H2Server::armTimer() {
  base::Duration left = std::min(limits_.flush_timeout, limits_.idle_timeout);
  if (partial_since_ != base::MonotonicTime{}) left = std::min(left, frameTimeLeft());
  if (streams_.empty()) left = std::min(left, idleTimeLeft());
  timer_.arm(std::max(left, base::Duration::zero()));
}

void H2Server::onTimer() {
  if (lingers()) {
    owner_.onEvent(*this, ServerObserver::Event::kDelayedCloseTimeout);
    return shut({base::Errc::kTimeout, "the client does not end"}, ResetReason::kLocal);
  }
  if (drain_ == Drain::kTold) return finishDrain();
  if (partial_since_ != base::MonotonicTime{} && frameTimeLeft() <= base::Duration::zero())
    return connectionError(H2Error::kNone, "frame without end");
  if (streams_.empty() && idleTimeLeft() <= base::Duration::zero()) {
    owner_.onEvent(*this, ServerObserver::Event::kIdleTimeout);
    return connectionError(H2Error::kNone, "idle");
  }
  resetStuckStreams();
  if (!isClosed()) armTimer();
}

}  // namespace

ServerConnection* startH2Server(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                base::Buffer initial, const ServerLimits& limits,
                                ServerObserver& observer) {
  return new H2Server(loop, std::move(transport), std::move(initial), limits, observer);
}

}  // namespace postern::http
