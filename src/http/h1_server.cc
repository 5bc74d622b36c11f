#include "http/h1_server.h"

#include "base/strings.h"
#include "http/h1_message.h"

#include <algorithm>
#include <utility>

namespace postern::http {
namespace {

constexpr std::size_t kOutHighBytes = 128 * 1024;      // above: Flow::kFull
constexpr std::size_t kOutLowBytes = 32 * 1024;        // below: onWritable
constexpr std::size_t kInHighBytes = 64 * 1024;        // pipelined or unread input kept
constexpr std::chrono::seconds kDrainSilence{1};       // of a connection that is to end
constexpr std::size_t kDiscardBytesMax = 1024 * 1024;  // rest of a request nobody reads

codec::H1Limits codecLimits(const ServerLimits& limits) {
  return {.head_bytes_max = limits.header_bytes_max, .field_count_max = limits.header_count_max};
}

class H1Server final : public ServerConnection,
                       public Stream,
                       public net::TransportObserver,
                       public event::Deferred {
 public:
  H1Server(event::Loop& loop, std::unique_ptr<net::Transport> transport, base::Buffer initial,
           const ServerLimits& limits, ServerObserver& observer)
      : loop_(loop),
        transport_(std::move(transport)),
        in_(std::move(initial)),
        limits_(limits),
        owner_(observer),
        parser_(codec::H1HeadParser::Role::kRequest, codecLimits(limits)),
        body_(codecLimits(limits)),
        flush_(loop, [this] { flush(); }),
        timer_(loop, [this] { onTimer(); }),
        resume_(loop, [this] { advance(); }) {
    transport_->setObserver(this);
    setDeadline(limits_.headers_timeout);
    readable_ = !in_.empty();
    if (!in_.empty()) resume_.schedule();
  }

  // ---- ServerConnection ----
  net::Transport& transport() override { return *transport_; }
  void drain() override {
    if (std::exchange(draining_, true)) return;
    if (state_ == State::kHead && !parser_.started() && in_.empty()) awaitLastRequest();
  }
  void close() override { shut(ResetReason::kLocal); }

  // ---- Stream ----
  void setObserver(StreamObserver* observer) override { stream_ = observer; }
  Flow sendHeaders(const HeaderMap& headers, End end) override;
  Flow sendData(base::Buffer& data, End end) override;
  Flow sendTrailers(const HeaderMap& trailers) override;
  void read() override {
    wants_body_ = true;
    resume_.schedule();
  }
  void reset(ResetReason) override {
    stream_ = nullptr;
    shut(ResetReason::kLocal);
  }
  std::unique_ptr<net::Transport> takeTransport(base::Buffer& unread) override;
  const net::Transport& transport() const override { return *transport_; }
  std::size_t bytesHeld() const override { return in_.size() + out_.size(); }
  int httpVersion() const override { return minor_version_; }

  // ---- net::TransportObserver ----
  void onReadable() override {
    readable_ = true;
    fill();
    advance();
  }
  void onWritable() override { flush(); }
  void onError(base::Error) override { shut(ResetReason::kConnectionLost); }

 private:
  enum class State : unsigned char { kHead, kExchange, kClosed };

  void fill();
  void advance();
  bool readHead();
  void deliverBody();
  void deliverRaw();
  void discardBody();
  void beginExchange();
  void refuse(int status, const char* text);
  void endResponse();
  void flush();
  void shut(ResetReason reason);
  void onTimer();
  void setDeadline(base::Duration after);
  void awaitLastRequest();
  Flow flow() {
    flush_.schedule();
    full_ = full_ || out_.size() > kOutHighBytes;
    return full_ ? Flow::kFull : Flow::kOpen;
  }
  HeaderMap requestHeaders() const;

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  base::Buffer in_;
  base::Buffer out_;
  const ServerLimits limits_;
  ServerObserver& owner_;
  StreamObserver* stream_ = nullptr;
  codec::H1HeadParser parser_;
  H1BodyReader body_;
  event::TurnEnd flush_;
  event::Timer timer_;
  event::Soon resume_;
  base::MonotonicTime deadline_{};
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
  bool response_done_ = false;
  bool request_delivered_ = false;  // the observer saw the end of the request
  bool full_ = false;
  bool eof_ = false;
  bool readable_ = false;  // the transport may have more
  bool close_after_flush_ = false;
  bool advancing_ = false;
  bool switched_ = false;  // 101 or CONNECT 2xx was sent
};

void H1Server::setDeadline(base::Duration after) {
  deadline_ = loop_.now() + std::chrono::duration_cast<base::MonotonicTime::duration>(after);
  if (!timer_.armed()) timer_.arm(after);
}

/// A request may be on its way while nothing told its sender that the connection ends: the answer
/// to it will. Only after a while of silence the connection is closed without one.
void H1Server::awaitLastRequest() {
  deadline_ = loop_.now() + kDrainSilence;
  timer_.arm(kDrainSilence);
}

void H1Server::onTimer() {
  // Re-armed lazily: a request moves the deadline, not the timer.
  if (loop_.now() < deadline_) return timer_.arm(deadline_ - loop_.now());
  if (state_ == State::kExchange) return timer_.arm(limits_.idle_timeout);
  if (parser_.started()) return refuse(408, "request timeout");
  shut(ResetReason::kTimeout);
}

void H1Server::fill() {
  while (readable_ && transport_ && state_ != State::kClosed && in_.size() < kInHighBytes &&
         !eof_) {
    net::IoResult result = transport_->read(in_, kInHighBytes);
    readable_ = result.status == net::IoStatus::kOk && result.bytes == kInHighBytes;
    if (result.status == net::IoStatus::kEof) eof_ = true;
    if (result.status == net::IoStatus::kError) return shut(ResetReason::kConnectionLost);
    if (result.status != net::IoStatus::kOk) return;
  }
}

void H1Server::advance() {
  // Observers may call back into this object: record, and let the outer call go on.
  if (advancing_) return;
  advancing_ = true;
  bool progress = true;
  while (progress && state_ != State::kClosed && transport_ && !close_after_flush_) {
    progress = false;
    if (state_ == State::kHead) {
      progress = readHead();
    } else if (switched_) {
      if (!wants_body_) break;
      deliverRaw();
      progress = wants_body_ && !in_.empty();
    } else if (response_done_) {
      const bool was_done = body_.done();
      discardBody();
      progress = !was_done || state_ == State::kHead;
      if (state_ == State::kExchange && !body_.done()) progress = false;
    } else if (wants_body_ && !request_delivered_) {
      deliverBody();
      progress = wants_body_ && !request_delivered_ && !in_.empty();
    }
    // What this reads has used up its edge of the poller: go round again, nobody else will tell.
    const std::size_t before = in_.size();
    if (before < kInHighBytes) fill();
    progress = progress || in_.size() > before;
  }
  advancing_ = false;
  if (!eof_ || state_ == State::kClosed || !transport_ || close_after_flush_ || switched_) return;
  // The client has gone: nobody will read an answer, so the exchange ends (as Envoy does on a
  // half-close).
  if (state_ == State::kHead && in_.empty()) return shut(ResetReason::kConnectionLost);
  if (state_ == State::kHead && parser_.started()) return shut(ResetReason::kConnectionLost);
  if (state_ == State::kExchange && in_.empty()) shut(ResetReason::kConnectionLost);
}

bool H1Server::readHead() {
  while (!in_.empty()) {
    std::size_t consumed = 0;
    const bool first = !parser_.started();
    codec::H1HeadParser::Status status = parser_.feed(in_.front(), consumed);
    if (status == codec::H1HeadParser::Status::kError) {
      refuse(parser_.errorStatus(), parser_.error());
      return false;
    }
    if (status == codec::H1HeadParser::Status::kDone) {
      HeaderMap headers = requestHeaders();
      in_.drain(consumed);
      beginExchange();
      if (state_ == State::kExchange)
        stream_->onHeaders(std::move(headers), body_.done() ? End::kYes : End::kNo);
      return true;
    }
    in_.drain(consumed);
    if (first) setDeadline(limits_.headers_timeout);
  }
  return false;
}

HeaderMap H1Server::requestHeaders() const {
  const codec::H1Head& head = parser_.head();
  HeaderMap headers;
  headers.add(":method", head.method);
  std::string_view path = head.target;
  std::string_view authority;
  if (head.method == "CONNECT") {
    authority = head.target;
    path = {};
  } else if (std::size_t scheme = path.find("://");
             scheme != std::string_view::npos && !path.starts_with('/')) {
    // absolute-form: its authority replaces Host (RFC 9112 3.2.2).
    std::string_view rest = path.substr(scheme + 3);
    std::size_t slash = rest.find('/');
    authority = rest.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view("/") : rest.substr(slash);
  }
  headers.add(":scheme", transport_->peer().tls ? "https" : "http");
  if (!path.empty()) headers.add(":path", path);
  for (const codec::H1Field& field : head.fields) {
    if (field.name.size() == 4 && (field.name[0] == 'H' || field.name[0] == 'h')) {
      if (base::equalsIgnoreCase(field.name, "host")) {
        headers.add(":authority", authority.empty() ? field.value : authority);
        continue;
      }
    }
    headers.add(field.name, field.value);
  }
  return headers;
}

void H1Server::beginExchange() {
  const codec::H1Head& head = parser_.head();
  minor_version_ = head.minor_version;
  keep_alive_ = head.keep_alive;
  head_request_ = head.method == "HEAD";
  connect_request_ = head.method == "CONNECT";
  body_.start(head.body, head.content_length);
  state_ = State::kExchange;
  head_sent_ = response_done_ = wants_body_ = full_ = false;
  request_delivered_ = body_.done();
  discarded_ = 0;
  framing_ = H1Framing::kNone;
  StreamObserver* chosen = owner_.onStream(*this, *this);
  if (chosen != nullptr) stream_ = chosen;
  if (stream_ == nullptr) refuse(500, "no handler");
}

void H1Server::deliverBody() {
  base::Buffer piece;
  H1BodyReader::Status status = body_.read(in_, piece);
  switch (status) {
    case H1BodyReader::Status::kNeedMore:
      return;
    case H1BodyReader::Status::kError:
      return refuse(400, "malformed body");
    case H1BodyReader::Status::kPiece:
      wants_body_ = false;
      return stream_->onData(piece, End::kNo);
    case H1BodyReader::Status::kEnd:
      break;
  }
  wants_body_ = false;
  request_delivered_ = true;
  if (body_.trailers().empty()) return stream_->onData(piece, End::kYes);
  if (!piece.empty()) stream_->onData(piece, End::kNo);
  HeaderMap trailers;
  for (const auto& [name, value] : body_.trailers()) trailers.add(name, value);
  if (stream_ != nullptr && !response_done_) stream_->onTrailers(std::move(trailers));
}

/// After a switch of protocols the connection is a byte stream in both directions.
void H1Server::deliverRaw() {
  if (in_.empty() && !eof_) return;
  wants_body_ = false;
  base::Buffer piece;
  const bool ended = in_.empty();
  if (!ended) piece.append(in_, std::min(in_.size(), kReadBytes));
  if (ended) {
    if (request_delivered_) return;
    request_delivered_ = true;
  }
  stream_->onData(piece, ended ? End::kYes : End::kNo);
}

/// After the response: the rest of the request is read and dropped, up to a limit, then the next
/// request may come.
void H1Server::discardBody() {
  while (!body_.done() && !in_.empty()) {
    base::Buffer dropped;
    H1BodyReader::Status status = body_.read(in_, dropped);
    discarded_ += dropped.size();
    if (status == H1BodyReader::Status::kError || discarded_ > kDiscardBytesMax) {
      close_after_flush_ = true;
      flush_.schedule();
      return;
    }
    if (status == H1BodyReader::Status::kNeedMore) break;
  }
  if (!body_.done()) return;
  parser_.reset();
  state_ = State::kHead;
  stream_ = nullptr;
  setDeadline(limits_.idle_timeout);
  if (draining_ && in_.empty()) awaitLastRequest();
}

Flow H1Server::sendHeaders(const HeaderMap& headers, End end) {
  if (state_ != State::kExchange || head_sent_) return Flow::kOpen;
  const int status = headers.status();
  writeStatusLine(out_, status);
  writeFields(out_, headers);
  if (status >= 100 && status < 200 && status != 101) {
    out_.append("\r\n");
    return flow();
  }
  head_sent_ = true;
  const bool bodiless = head_request_ || status == 204 || status == 304;
  if (status == 101 || (connect_request_ && status >= 200 && status < 300)) {
    switched_ = true;
    request_delivered_ = false;
    framing_ = H1Framing::kUntilClose;
    if (status == 101) out_.append("connection: upgrade\r\n");
  } else if (headers.has("content-length")) {
    framing_ = H1Framing::kLength;
  } else if (end == End::kYes) {
    if (!bodiless) out_.append("content-length: 0\r\n");
  } else if (minor_version_ == 1) {
    framing_ = H1Framing::kChunked;
    if (!bodiless) out_.append("transfer-encoding: chunked\r\n");
  } else {
    framing_ = H1Framing::kUntilClose;
    keep_alive_ = false;
  }
  if (bodiless) framing_ = H1Framing::kNone;
  if (headers.value("connection") == "close" || draining_) keep_alive_ = false;
  if (!switched_ && !keep_alive_) out_.append("connection: close\r\n");
  if (!switched_ && keep_alive_ && minor_version_ == 0) out_.append("connection: keep-alive\r\n");
  out_.append("\r\n");
  if (end == End::kYes) endResponse();
  return flow();
}

Flow H1Server::sendData(base::Buffer& data, End end) {
  if (state_ != State::kExchange || response_done_) return Flow::kOpen;
  switch (framing_) {
    case H1Framing::kNone:
      data.clear();
      break;
    case H1Framing::kChunked:
      writeChunk(out_, data);
      break;
    case H1Framing::kLength:
    case H1Framing::kUntilClose:
      out_.append(data);
      break;
  }
  if (end == End::kYes) {
    if (framing_ == H1Framing::kChunked) writeLastChunk(out_, nullptr);
    endResponse();
  }
  return flow();
}

Flow H1Server::sendTrailers(const HeaderMap& trailers) {
  if (state_ != State::kExchange || response_done_) return Flow::kOpen;
  if (framing_ == H1Framing::kChunked) writeLastChunk(out_, &trailers);
  endResponse();
  return flow();
}

void H1Server::endResponse() {
  response_done_ = true;
  if (switched_) keep_alive_ = false;
  full_ = false;
  stream_ = nullptr;
  if (!keep_alive_) {
    close_after_flush_ = true;
  } else {
    resume_.schedule();
  }
}

void H1Server::refuse(int status, const char* text) {
  keep_alive_ = false;
  if (StreamObserver* told = std::exchange(stream_, nullptr); told != nullptr)
    told->onReset(ResetReason::kProtocol);
  if (state_ == State::kClosed) return;
  if (!head_sent_) {
    std::string_view body = text;
    writeStatusLine(out_, status);
    out_.append("content-type: text/plain\r\ncontent-length: " + std::to_string(body.size()) +
                "\r\nconnection: close\r\n\r\n");
    out_.append(body);
  }
  close_after_flush_ = true;
  flush_.schedule();
}

void H1Server::flush() {
  if (state_ == State::kClosed || !transport_) return;
  net::IoResult result = transport_->write(out_);
  if (result.status == net::IoStatus::kError) return shut(ResetReason::kConnectionLost);
  if (out_.empty() && close_after_flush_) {
    transport_->shutdownWrite();
    return shut(ResetReason::kLocal);
  }
  if (full_ && out_.size() < kOutLowBytes) {
    full_ = false;
    if (stream_ != nullptr) stream_->onWritable();
  }
}

std::unique_ptr<net::Transport> H1Server::takeTransport(base::Buffer& unread) {
  if (!switched_ || !transport_) return nullptr;
  transport_->write(out_);
  if (!out_.empty()) return nullptr;  // a client that does not even read the 101
  unread.append(in_);
  std::unique_ptr<net::Transport> taken = std::move(transport_);
  taken->setObserver(nullptr);
  stream_ = nullptr;
  shut(ResetReason::kLocal);
  return taken;
}

void H1Server::shut(ResetReason reason) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  timer_.cancel();
  resume_.cancel();
  if (transport_) transport_->setObserver(nullptr);
  if (StreamObserver* told = std::exchange(stream_, nullptr); told != nullptr)
    told->onReset(reason);
  owner_.onClosed(*this);
  loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
}

}  // namespace

ServerConnection* startH1Server(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                base::Buffer initial, const ServerLimits& limits,
                                ServerObserver& observer) {
  return new H1Server(loop, std::move(transport), std::move(initial), limits, observer);
}

}  // namespace postern::http
