// The HTTP/1 server connection: one exchange at a time. h1_server.cc reads requests,
// h1_server_write.cc writes answers and ends connections. Owns itself until the connection closes;
// loop thread. Internal to http/.
#pragma once

#include "http/h1_message.h"
#include "http/h1_output.h"
#include "http/h1_server.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace postern::http {

inline constexpr std::size_t kH1DiscardBytesMax = 1024 * 1024;  // rest of a request nobody reads

inline codec::H1Limits codecLimits(const ServerLimits& limits) {
  return {.head_bytes_max = limits.header_bytes_max,
          .field_count_max = limits.header_count_max,
          .host_required = limits.host_required,
          .http_10 = limits.http_10,
          .absolute_form = limits.absolute_form,
          .chunked_beats_length = limits.chunked_beats_length};
}

class H1Server final : public ServerConnection,
                       public Stream,
                       public net::TransportObserver,
                       public event::Deferred {
 public:
  H1Server(event::Loop& loop, std::unique_ptr<net::Transport> transport, base::Buffer initial,
           const SharedLimits& limits, ServerObserver& observer, bool more)
      : loop_(loop),
        transport_(std::move(transport)),
        in_(std::move(initial)),
        limits_(limits),
        owner_(observer),
        body_(codecLimits(*limits)),
        flush_(
            loop, [this] { flush(); }, event::TurnEnd::When::kPrompt),
        timer_(loop, [this] { onTimer(); }),
        resume_(loop, [this] { advance(); }) {
    transport_->setObserver(this);
    setDeadline(limits_->idle_timeout);
    readable_ = more;
    if (!in_.empty()) resume_.schedule();
  }

  // ---- ServerConnection ----
  net::Transport& transport() override { return *transport_; }
  void drain() override;
  void close() override { shut(ResetReason::kLocal); }

  // ---- Stream ----
  void setObserver(StreamObserver* observer) override { stream_ = observer; }
  Flow sendHeaders(const HeaderMap& headers, End end) override;
  Flow sendData(base::Buffer& data, End end) override;
  Flow sendTrailers(const HeaderMap& trailers) override;
  bool takesPipes() const override { return isPlainSocket(*transport_); }
  Flow sendPiped(net::PipedBytes& piece, End end) override;
  void acceptPipes(net::PipePool& pipes) override { piped_.accept(pipes); }
  void read() override {
    wants_body_ = true;
    resume_.schedule();
  }
  void reset(ResetReason) override;
  std::unique_ptr<net::Transport> takeTransport(base::Buffer& unread) override;
  const net::Transport& transport() const override { return *transport_; }
  std::size_t bytesHeld() const override { return in_.size() + out_.size(); }
  int httpVersion() const override { return minor_version_; }

  // ---- net::TransportObserver ----
  void onReadable() override {
    readable_ = true;
    piped_.beginEvent();
    if (state_ == State::kLinger) return linger();
    fill();
    advance();
  }
  void onWritable() override { flush(); }
  void onError(base::Error) override { shut(ResetReason::kConnectionLost); }

 private:
  enum class State : unsigned char { kHead, kExchange, kLinger, kClosed };

  void fill();
  void advance();
  bool readHead();
  void deliverBody();
  bool pipesNext() const { return piped_.concerns(body_.straight(), in_.size()); }
  bool deliverPiped();
  void deliverRaw();
  void discardBody();
  bool inHead() const { return parser_ != nullptr && parser_->started(); }
  void takeParser();
  void giveParser();
  void takeMethod();
  void beginExchange();
  void beginRefused();
  void refuse(const codec::H1Refusal& why);
  void writeFraming(const HeaderMap& headers, End end);
  void endResponse();
  void flush();
  void closeGently();
  void linger();
  void shut(ResetReason reason);
  void onTimer();
  void setDeadline(base::Duration after);
  void awaitLastRequest();
  Flow flow() {
    flush_.schedule();
    full_ = full_ || out_.holdsPipe() || out_.size() > limits_->unsent_bytes_max;
    return full_ ? Flow::kFull : Flow::kOpen;
  }
  /// Nothing waits unsent, here or in the transport.
  bool flushed() const { return out_.empty() && !transport_->unsent(); }
  /// What waits unsent is little again.
  bool hasRoom() const { return out_.size() <= limits_->unsent_bytes_max / 4; }
  HeaderMap requestHeaders() const;

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  base::Buffer in_;
  H1Output out_;
  const SharedLimits limits_;
  ServerObserver& owner_;
  StreamObserver* stream_ = nullptr;
  std::unique_ptr<codec::H1HeadParser> parser_;  // while a head is read
  H1BodyReader body_;
  H1PipedInput piped_;
  event::TurnEnd flush_;
  event::Timer timer_;
  event::Soon resume_;
  base::MonotonicTime deadline_ = base::MonotonicTime::max();
  base::MonotonicTime timer_at_{};
  std::size_t discarded_ = 0;
  int minor_version_ = 1;
  State state_ = State::kHead;
  H1Framing framing_ = H1Framing::kNone;
  bool wants_body_ = false;
  bool head_request_ = false;
  bool connect_request_ = false;
  bool keep_alive_ = true;
  bool draining_ = false;
  bool head_sent_ = false;
  bool refused_ = false;  // input is not read any more
  bool response_done_ = false;
  bool request_delivered_ = false;  // the observer saw the end of the request
  bool full_ = false;
  bool eof_ = false;
  bool readable_ = false;  // the transport may have more
  bool close_after_flush_ = false;
  bool flushing_ = false;  // idle, but the client has not taken the last answer
  bool held_ = false;      // a pipelined request waits until little is unsent
  bool advancing_ = false;
  bool switched_ = false;  // 101 or CONNECT 2xx was sent
};

}  // namespace postern::http
