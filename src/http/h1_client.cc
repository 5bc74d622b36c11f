#include "base/prefetch.h"
#include "base/strings.h"
#include "http/h1_client_session.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace postern::http {

void H1Client::fill() {
  if (eof_) readable_ = false;  // a later report of the poller (a reset) brings nothing more
  while (readable_ && transport_ && state_ != State::kClosed && in_.size() < kH1InHighBytes &&
         !eof_ && !pipesNext()) {
    // One block shows whether a body follows that is better left to the kernel.
    const std::size_t most = head_seen_ ? kH1InHighBytes : base::Buffer::kBlockBytes;
    if (state_ == State::kExchange && !head_seen_) base::prefetch(warm_.data(), warm_.size());
    net::IoResult result = transport_->read(in_, most);
    readable_ = result.status == net::IoStatus::kOk && result.bytes == most;
    if (result.bytes > 0) any_byte_ = true;
    if (!head_seen_ && readable_) return;
    if (result.status == net::IoStatus::kEof) eof_ = true;
    if (result.status == net::IoStatus::kError) {
      const bool nothing = in_.empty() && !body_.done();
      if (!head_seen_ || nothing) return shut(lostReason(), transport_->error());
      eof_ = failed_ = true;  // what came before is still delivered, and may be all
    }
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
      progress = readHead() || readable_;
    } else if (wants_body_) {
      const bool piped = in_.empty() && pipesNext();
      progress = switched_ ? deliverRaw() : piped ? deliverPiped() : deliverBody();
    }
    // All of it was part of a head or of trailers, and nobody reports again what is there already.
    progress = progress || (in_.empty() && readable_ && !pipesNext());
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
    if (failed_) {
      shut(lostReason(), transport_->error());
      return false;
    }
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

/// False: nothing more of it can be taken now.
bool H1Client::deliverPiped() {
  if (!readable_) return false;
  net::PipedBytes piece;
  switch (piped_.take(*transport_, body_.straight(), piece)) {
    case H1PipedInput::Next::kPiece:
      break;
    case H1PipedInput::Next::kAgain:
      readable_ = false;
      return false;
    case H1PipedInput::Next::kLater:
      transport_->resumeRead();
      return false;
    case H1PipedInput::Next::kCopied:
      return true;
    case H1PipedInput::Next::kEof:
      eof_ = true;
      readable_ = false;
      return true;
    case H1PipedInput::Next::kError:
      shut(lostReason(), base::errnoError("splice", errno));
      return false;
  }
  wants_body_ = false;
  StreamObserver* told = stream_;
  if (body_.skip(piece.size()) == H1BodyReader::Status::kPiece) {
    told->onPiped(piece, End::kNo);
    return true;
  }
  fill();  // bytes behind the body belong to nobody
  if (state_ == State::kClosed) return false;
  endExchange();
  told->onPiped(piece, End::kYes);
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
  if (failed_) {
    shut(lostReason(), transport_->error());
    return false;
  }
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
  settle_.schedule();  // not at once: the observer of this exchange is told first
}

void H1Client::settle() {
  if (state_ != State::kIdle) return;
  if (!draining_) return owner_.onAvailable(*this);
  owner_.onDraining(*this);
  close();
}

ClientConnection* startH1Client(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                const ClientLimits& limits, ClientObserver& observer,
                                Connected connected) {
  return new H1Client(loop, std::move(transport), limits, observer, connected);
}

}  // namespace postern::http
