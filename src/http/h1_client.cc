#include "http/h1_client.h"

#include "base/check.h"
#include "base/strings.h"
#include "http/h1_message.h"

#include <algorithm>
#include <utility>

namespace postern::http {
namespace {

constexpr std::size_t kOutHighBytes = 128 * 1024;
constexpr std::size_t kOutLowBytes = 32 * 1024;
constexpr std::size_t kInHighBytes = 64 * 1024;
constexpr int kInformationalMax = 16;  // 1xx answers before the final one

codec::H1Limits codecLimits(const ClientLimits& limits) {
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
            loop, [this] { flush(); }, event::TurnEnd::When::kEvent),
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
    informational_ = 0;
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
    full_ = full_ || out_.size() > kOutHighBytes;
    return full_ ? Flow::kFull : Flow::kOpen;
  }

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  base::Buffer in_;
  base::Buffer out_;
  const ClientLimits limits_;
  ClientObserver& owner_;
  StreamObserver* stream_ = nullptr;
  codec::H1HeadParser parser_;
  H1BodyReader body_;
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
  bool readable_ = false;  // the transport may have more
  bool switched_ = false;
  bool connect_request_ = false;
  bool upgrade_request_ = false;
  bool head_request_ = false;
  bool advancing_ = false;
};

Flow H1Client::sendHeaders(const HeaderMap& headers, End end) {
  if (state_ != State::kExchange) return Flow::kOpen;
  std::string_view method = headers.method();
  connect_request_ = method == "CONNECT";
  head_request_ = method == "HEAD";
  parser_.reset(method);
  out_.append(method);
  out_.append(" ");
  if (limits_.absolute_form && !connect_request_) {
    out_.append(headers.scheme());
    out_.append("://");
    out_.append(headers.authority());
  }
  out_.append(connect_request_ ? headers.authority() : headers.path());
  out_.append(" HTTP/1.1\r\n");
  writeField(out_, "host", headers.authority(), headers, limits_.header_case);
  writeFields(out_, headers, limits_.header_case);
  writeFraming(headers, end);
  out_.append("\r\n");
  request_done_ = end == End::kYes;
  return flow();
}

void H1Client::writeFraming(const HeaderMap& headers, End end) {
  const HeaderCase style = limits_.header_case;
  const std::string_view method = headers.method();
  upgrade_request_ = headers.has("upgrade");
  if (upgrade_request_ && !headers.has("connection"))
    writeField(out_, "connection", "upgrade", headers, style);
  if (headers.has("content-length")) {
    framing_ = H1Framing::kLength;
  } else if (end == End::kYes) {
    framing_ = H1Framing::kNone;
    const bool bodiless = method == "GET" || method == "HEAD" || method == "DELETE" ||
                          method == "TRACE" || method == "CONNECT";
    if (!bodiless) writeField(out_, "content-length", "0", headers, style);
  } else if (connect_request_ || upgrade_request_) {
    framing_ = H1Framing::kUntilClose;
  } else {
    framing_ = H1Framing::kChunked;
    writeField(out_, "transfer-encoding", "chunked", headers, style);
  }
}

Flow H1Client::sendData(base::Buffer& data, End end) {
  if (state_ != State::kExchange || request_done_) return Flow::kOpen;
  if (framing_ == H1Framing::kChunked) {
    writeChunk(out_, data);
    if (end == End::kYes) writeLastChunk(out_, nullptr, limits_.header_case);
  } else {
    out_.append(data);
  }
  request_done_ = end == End::kYes;
  return flow();
}

Flow H1Client::sendTrailers(const HeaderMap& trailers) {
  if (state_ != State::kExchange || request_done_) return Flow::kOpen;
  if (framing_ == H1Framing::kChunked)
    writeLastChunk(out_, limits_.trailers ? &trailers : nullptr, limits_.header_case);
  request_done_ = true;
  return flow();
}

void H1Client::fill() {
  while (readable_ && transport_ && state_ != State::kClosed && in_.size() < kInHighBytes &&
         !eof_) {
    net::IoResult result = transport_->read(in_, kInHighBytes);
    readable_ = result.status == net::IoStatus::kOk && result.bytes == kInHighBytes;
    if (result.bytes > 0) any_byte_ = true;
    if (result.status == net::IoStatus::kEof) eof_ = true;
    if (result.status == net::IoStatus::kError) return shut(lostReason(), transport_->error());
    if (result.status != net::IoStatus::kOk) return;
  }
}

void H1Client::advance() {
  if (advancing_) return;
  advancing_ = true;
  bool progress = true;
  while (progress && state_ != State::kClosed && transport_ && (!switched_ || wants_body_)) {
    fill();
    progress = false;
    if (state_ != State::kExchange) break;
    if (!head_seen_) {
      progress = readHead();
    } else if (wants_body_) {
      progress = switched_ ? deliverRaw() : deliverBody();
    }
    // All of it was part of a head or of trailers, and nobody reports again what is there already.
    progress = progress || (in_.empty() && readable_);
  }
  advancing_ = false;
  if (state_ == State::kClosed || !transport_ || switched_) return;
  if (state_ == State::kIdle && !in_.empty()) return protocolError("bytes without a request");
  if (!eof_) return;
  if (state_ == State::kIdle)
    return shut(ResetReason::kConnectionLost, {base::Errc::kClosed, "closed by the peer"});
  if (!head_seen_ && in_.empty())
    shut(lostReason(), {base::Errc::kClosed, "closed before the answer"});
}

bool H1Client::readHead() {
  while (!in_.empty()) {
    std::size_t consumed = 0;
    codec::H1HeadParser::Status status = parser_.feed(in_.front(), consumed);
    if (status == codec::H1HeadParser::Status::kError) {
      protocolError(parser_.refusal().text);
      return false;
    }
    if (status == codec::H1HeadParser::Status::kNeedMore) {
      in_.drain(consumed);
      continue;
    }
    const codec::H1Head& head = parser_.head();
    HeaderMap headers;
    char digits[4] = {static_cast<char>('0' + head.status / 100),
                      static_cast<char>('0' + head.status / 10 % 10),
                      static_cast<char>('0' + head.status % 10), 0};
    headers.add(":status", digits);
    for (const codec::H1Field& field : head.fields) {
      if (head.length_dropped && base::equalsIgnoreCase(field.name, "content-length")) continue;
      headers.add(field.name, field.value);
    }
    headers.setSpelling(spellingOf(head, limits_.header_case));
    const int code = head.status;
    keep_alive_ = head.keep_alive;
    const codec::H1Body framing = head.body;
    const std::uint64_t length = head.content_length;
    in_.drain(consumed);
    if (code >= 100 && code < 200 && code != 101)
      return readInformational(code, std::move(headers));
    // A switch that nobody asked for would make the next bytes somebody else's (class "fake 101").
    if (code == 101 && !upgrade_request_) {
      protocolError("101 without an upgrade");
      return false;
    }
    head_seen_ = true;
    switched_ = code == 101 || (connect_request_ && code >= 200 && code < 300);
    body_.start(framing, length);
    if (framing == codec::H1Body::kUntilClose) keep_alive_ = false;
    const bool over = body_.done() && !switched_;
    StreamObserver* told = stream_;
    if (over) endExchange();
    told->onHeaders(std::move(headers), over ? End::kYes : End::kNo);
    return !over;
  }
  return false;
}

bool H1Client::readInformational(int code, HeaderMap headers) {
  parser_.reset(head_request_ ? "HEAD" : connect_request_ ? "CONNECT" : "");
  if (++informational_ > kInformationalMax) {
    protocolError("too many informational answers");
    return false;
  }
  // 102 and what nobody knows yet are for this hop.
  if (code == 100 || code == 103) stream_->onInformational(std::move(headers));
  return true;
}

bool H1Client::deliverBody() {
  base::Buffer piece;
  H1BodyReader::Status status = body_.read(in_, piece);
  if (status == H1BodyReader::Status::kNeedMore) {
    if (!eof_) return false;
    status = body_.end();
    if (status == H1BodyReader::Status::kError) {
      shut(ResetReason::kProtocol, {base::Errc::kClosed, "closed inside the answer"});
      return false;
    }
  }
  if (status == H1BodyReader::Status::kError) {
    protocolError("malformed answer body");
    return false;
  }
  wants_body_ = false;
  if (status == H1BodyReader::Status::kPiece) {
    stream_->onData(piece, End::kNo);
    return true;
  }
  StreamObserver* told = stream_;
  if (body_.trailers().empty() || !limits_.trailers) {
    endExchange();
    told->onData(piece, End::kYes);
    return false;
  }
  HeaderMap trailers;
  for (const auto& [name, value] : body_.trailers()) trailers.add(name, value);
  if (!piece.empty()) told->onData(piece, End::kNo);
  if (state_ != State::kExchange) return false;
  endExchange();
  told->onTrailers(std::move(trailers));
  return false;
}

/// After a switch of protocols the connection is a byte stream in both directions.
bool H1Client::deliverRaw() {
  if (!in_.empty()) {
    wants_body_ = false;
    base::Buffer piece;
    piece.append(in_, std::min(in_.size(), kReadBytes));
    stream_->onData(piece, End::kNo);
    return true;
  }
  if (!eof_) return false;
  wants_body_ = false;
  keep_alive_ = false;
  StreamObserver* told = stream_;
  endExchange();
  base::Buffer nothing;
  told->onData(nothing, End::kYes);
  return false;
}

/// The answer is complete. A request that is not fully sent, or a peer that closes, ends the
/// connection too.
void H1Client::endExchange() {
  stream_ = nullptr;
  state_ = State::kIdle;
  parser_.reset();
  if (!keep_alive_ || !request_done_ || eof_) draining_ = true;
  settle_.schedule();  // in a later turn: the observer of this exchange is told first
}

void H1Client::settle() {
  if (state_ != State::kIdle) return;
  if (!draining_) return owner_.onAvailable(*this);
  owner_.onDraining(*this);
  close();
}

void H1Client::flush() {
  if (state_ == State::kClosed || !transport_) return;
  if (out_.empty() && !(switched_ && request_done_)) return;
  net::IoResult result = transport_->write(out_);
  any_sent_ = any_sent_ || result.bytes > 0;
  // A failed write is no verdict: an answer may have arrived before the peer closed. Reading tells.
  if (result.status == net::IoStatus::kError) {
    out_.clear();
    request_done_ = true;
    keep_alive_ = false;
    eof_ = eof_ || in_.empty();
    resume_.schedule();
    return;
  }
  if (switched_ && request_done_ && out_.empty()) transport_->shutdownWrite();
  if (full_ && out_.size() < kOutLowBytes) {
    full_ = false;
    if (stream_ != nullptr) stream_->onWritable();
  }
}

std::unique_ptr<net::Transport> H1Client::takeTransport(base::Buffer& unread) {
  if (!switched_ || !transport_) return nullptr;
  unread.append(in_);
  std::unique_ptr<net::Transport> taken = std::move(transport_);
  taken->setObserver(nullptr);
  stream_ = nullptr;
  shut(ResetReason::kLocal, {base::Errc::kClosed, "upgraded"});
  return taken;
}

void H1Client::shut(ResetReason reason, base::Error error) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  settle_.cancel();
  resume_.cancel();
  if (transport_) transport_->setObserver(nullptr);
  if (StreamObserver* told = std::exchange(stream_, nullptr); told != nullptr)
    told->onReset(reason);
  owner_.onClosed(*this, error);
  loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
}

}  // namespace

ClientConnection* startH1Client(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                const ClientLimits& limits, ClientObserver& observer,
                                Connected connected) {
  return new H1Client(loop, std::move(transport), limits, observer, connected);
}

}  // namespace postern::http
