// The HTTP/1 client connection: one exchange at a time. h1_client.cc reads answers,
// h1_client_write.cc writes requests and ends connections. Owns itself until the connection closes;
// loop thread. Internal to http/.
#pragma once

#include "base/check.h"
#include "http/h1_client.h"
#include "http/h1_message.h"
#include "http/h1_output.h"

#include <memory>

namespace postern::http {

inline codec::H1Limits codecLimits(const ClientLimits& limits) {
  return {.head_bytes_max = limits.h1_header_bytes_max,
          .field_count_max = limits.header_count_max,
          .chunked_beats_length = limits.chunked_beats_length};
}

class H1Client final : public ClientConnection,
                       public Stream,
                       public net::TransportObserver,
                       public event::Deferred {
 public:
  H1Client(event::Loop& loop, std::unique_ptr<net::Transport> transport, const ClientLimits& limits,
           ClientObserver& observer, Connected connected)
      : loop_(loop),
        transport_(std::move(transport)),
        limits_(limits),
        owner_(observer),
        parser_(codec::H1HeadParser::Role::kResponse, codecLimits(limits)),
        body_(codecLimits(limits)),
        flush_(
            loop, [this] { flush(); }, event::TurnEnd::When::kPrompt),
        resume_(loop, [this] { advance(); }),
        settle_(loop, [this] { settle(); }),
        state_(connected == Connected::kYes ? State::kIdle : State::kConnecting),
        connected_(connected == Connected::kYes) {
    transport_->setObserver(this);
  }

  // ---- ClientConnection ----
  bool canOpen() const override { return state_ == State::kIdle && !draining_; }
  Stream& open(StreamObserver& observer) override {
    POSTERN_CHECK(canOpen());
    state_ = State::kExchange;
    stream_ = &observer;
    request_done_ = head_seen_ = wants_body_ = full_ = switched_ = false;
    any_byte_ = any_sent_ = false;
    warm_ = {};
    informational_ = 0;
    piped_.reset();
    ++exchanges_;
    return *this;
  }
  net::Transport& transport() override { return *transport_; }
  std::size_t activeStreams() const override { return state_ == State::kExchange ? 1 : 0; }
  bool multiplexes() const override { return false; }
  void drain() override {
    draining_ = true;
    if (state_ != State::kExchange) close();
  }
  void close() override { shut(ResetReason::kLocal, {base::Errc::kCancelled, "closed"}); }

  // ---- Stream ----
  void setObserver(StreamObserver* observer) override { stream_ = observer; }
  Flow sendHeaders(const HeaderMap& headers, End end) override;
  Flow sendData(base::Buffer& data, End end) override;
  Flow sendTrailers(const HeaderMap& trailers) override;
  bool takesPipes() const override { return isPlainSocket(*transport_); }
  Flow sendPiped(net::PipedBytes& piece, End end) override;
  void acceptPipes(net::PipePool& pipes) override { piped_.accept(pipes); }
  void warm(std::span<const std::byte> memory) override { warm_ = memory; }
  void read() override {
    wants_body_ = true;
    resume_.schedule();
  }
  void reset(ResetReason) override {
    stream_ = nullptr;
    shut(ResetReason::kLocal, {base::Errc::kCancelled, "reset"});
  }
  std::unique_ptr<net::Transport> takeTransport(base::Buffer& unread) override;
  const net::Transport& transport() const override { return *transport_; }
  std::size_t bytesHeld() const override { return in_.size() + out_.size(); }
  int httpVersion() const override { return parser_.head().minor_version; }

  // ---- net::TransportObserver ----
  void onConnected() override {
    connected_ = true;
    if (state_ == State::kConnecting) state_ = State::kIdle;
    owner_.onConnected(*this);
  }
  void onReadable() override {
    readable_ = true;
    piped_.beginEvent();
    advance();
  }
  void onWritable() override { flush(); }
  void onError(base::Error error) override {
    shut(connected_ ? lostReason() : ResetReason::kConnectFailure, error);
  }

 private:
  enum class State : unsigned char { kConnecting, kIdle, kExchange, kClosed };

  void writeFraming(const HeaderMap& headers, End end);
  void fill();
  void advance();
  bool readHead();
  bool readInformational(int code, HeaderMap headers);
  bool deliverBody();
  bool pipesNext() const {
    return !eof_ && head_seen_ && piped_.concerns(body_.straight(), in_.size());
  }
  bool deliverPiped();
  bool deliverRaw();
  void endExchange();
  void settle();
  void flush();
  void shut(ResetReason reason, base::Error error);
  void protocolError(const char* text) {
    shut(ResetReason::kProtocol, {base::Errc::kProtocol, text});
  }
  ResetReason lostReason() const {
    if (any_byte_) return ResetReason::kProtocol;  // an answer that breaks off
    if (exchanges_ <= 1) return ResetReason::kConnectionLost;
    return any_sent_ ? ResetReason::kLostBeforeReply : ResetReason::kNotSent;
  }
  Flow flow() {
    flush_.schedule();
    full_ = full_ || out_.holdsPipe() || out_.size() > limits_.unsent_bytes_max;
    return full_ ? Flow::kFull : Flow::kOpen;
  }

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  base::Buffer in_;
  H1Output out_;
  const ClientLimits limits_;
  ClientObserver& owner_;
  StreamObserver* stream_ = nullptr;
  std::span<const std::byte> warm_;  // of the exchange
  codec::H1HeadParser parser_;
  H1BodyReader body_;
  H1PipedInput piped_;
  event::TurnEnd flush_;
  event::Soon resume_;
  event::Soon settle_;
  std::uint64_t exchanges_ = 0;
  int informational_ = 0;
  State state_;
  H1Framing framing_ = H1Framing::kNone;
  bool connected_;
  bool draining_ = false;
  bool keep_alive_ = true;
  bool request_done_ = false;
  bool head_seen_ = false;
  bool wants_body_ = false;
  bool any_byte_ = false;  // of the answer
  bool any_sent_ = false;  // of the request
  bool full_ = false;
  bool eof_ = false;
  bool failed_ = false;    // with eof_: by an error
  bool readable_ = false;  // the transport may have more
  bool switched_ = false;
  bool connect_request_ = false;
  bool upgrade_request_ = false;
  bool head_request_ = false;
  bool advancing_ = false;
};

}  // namespace postern::http
