#include "base/prefetch.h"
#include "base/strings.h"
#include "http/h1_server_session.h"

#include <algorithm>
#include <utility>

namespace postern::http {

namespace {

constexpr std::chrono::seconds kDrainSilence{1};  // at most, of a connection that is to end

/// A parser that no connection of this thread uses: heads nearly always come in one piece, so that
/// all share it, and an idle connection has none.
thread_local std::unique_ptr<codec::H1HeadParser> spare_parser;

}  // namespace

void H1Server::takeParser() {
  if (parser_ != nullptr) return;
  parser_ = std::move(spare_parser);
  if (parser_ == nullptr)
    parser_ = std::make_unique<codec::H1HeadParser>(codec::H1HeadParser::Role::kRequest,
                                                    codec::H1Limits{});
  parser_->setLimits(codecLimits(*limits_));
}

void H1Server::giveParser() {
  parser_->reset();
  spare_parser = std::move(parser_);
}

void H1Server::setDeadline(base::Duration after) {
  if (after <= base::Duration::zero()) {
    deadline_ = base::MonotonicTime::max();
    return;
  }
  deadline_ = loop_.now() + std::chrono::duration_cast<base::MonotonicTime::duration>(after);
  if (timer_.armed() && timer_at_ <= deadline_) return;
  timer_at_ = deadline_;
  timer_.arm(after);
}

/// A request may be on its way while nothing told its sender that the connection ends: the answer
/// to it will. Only after a while of silence the connection is closed without one.
void H1Server::awaitLastRequest() {
  base::Duration silence = kDrainSilence;
  if (limits_->drain_timeout.count() > 0)
    silence = std::min<base::Duration>(silence, limits_->drain_timeout);
  deadline_ = loop_.now() + std::chrono::duration_cast<base::MonotonicTime::duration>(silence);
  timer_at_ = deadline_;
  timer_.arm(silence);
}

void H1Server::onTimer() {
  // Re-armed lazily: a request moves the deadline, not the timer.
  if (deadline_ == base::MonotonicTime::max()) return;
  if (loop_.now() < deadline_) return setDeadline(deadline_ - loop_.now());
  if (state_ == State::kLinger) {
    owner_.onEvent(*this, ServerObserver::Event::kDelayedCloseTimeout);
    return shut(ResetReason::kLocal);
  }
  if (state_ == State::kHead && inHead())
    return refuse({"request header timeout", "request_header_timeout", 408});
  if (state_ == State::kHead && !draining_ && out_.empty()) {
    owner_.onEvent(*this, ServerObserver::Event::kIdleTimeout);
    if (limits_->drain_timeout.count() > 0) {
      draining_ = true;  // a request that comes now is still answered
      return setDeadline(limits_->drain_timeout);
    }
  }
  shut(ResetReason::kTimeout);
}

/// An idle connection is not closed under a request that is on its way, when there is time.
void H1Server::drain() {
  if (std::exchange(draining_, true)) return;
  if (state_ != State::kHead || inHead() || !in_.empty()) return;
  awaitLastRequest();
}

void H1Server::fill() {
  while (readable_ && transport_ && state_ != State::kClosed && !refused_ &&
         in_.size() < kH1InHighBytes && !eof_ && !pipesNext()) {
    if (state_ == State::kHead) {
      base::prefetch(static_cast<Stream*>(this), kStreamBytes);
      base::prefetch(&owner_, kServerObserverBytes);
    }
    net::IoResult result = transport_->read(in_, kH1InHighBytes);
    readable_ = result.status == net::IoStatus::kOk && result.bytes == kH1InHighBytes;
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
      // One request after the other of a client that reads no answer would fill our memory.
      held_ = !hasRoom();
      progress = !held_ && readHead();
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
      progress = true;
      if (in_.empty() && pipesNext()) {
        progress = deliverPiped();
      } else {
        deliverBody();
      }
      progress = progress && wants_body_ && !request_delivered_ && (!in_.empty() || pipesNext());
    }
    // What this reads has used up its edge of the poller: go round again, nobody else will tell.
    const std::size_t before = in_.size();
    if (before < kH1InHighBytes) fill();
    progress = progress || in_.size() > before;
  }
  advancing_ = false;
  if (!eof_ || state_ == State::kClosed || !transport_ || close_after_flush_ || switched_) return;
  // The client has gone: nobody will read an answer, so the exchange ends (as Envoy does on a
  // half-close).
  if (!in_.empty() && !(state_ == State::kHead && inHead())) return;
  if (!out_.empty()) out_.write(*transport_);
  if (state_ == State::kHead && !flushed()) {  // answers that were complete
    close_after_flush_ = true;
    return setDeadline(limits_->flush_timeout);
  }
  shut(ResetReason::kConnectionLost);
}

bool H1Server::readHead() {
  while (!in_.empty()) {
    std::size_t consumed = 0;
    const bool first = !inHead();
    takeParser();
    codec::H1HeadParser::Status status = parser_->feed(in_.front(), consumed);
    if (status == codec::H1HeadParser::Status::kError) {
      const codec::H1Refusal why = parser_->refusal();
      refuse(why);
      return false;
    }
    if (status == codec::H1HeadParser::Status::kDone) {
      HeaderMap headers = requestHeaders();
      takeMethod();
      in_.drain(consumed);  // and with it what the head's views are of
      beginExchange();
      giveParser();
      if (state_ == State::kExchange)
        stream_->onHeaders(std::move(headers), body_.done() ? End::kYes : End::kNo);
      return true;
    }
    in_.drain(consumed);
    // An empty line is no request yet.
    if (first && inHead()) setDeadline(limits_->headers_timeout);
  }
  return false;
}

HeaderMap H1Server::requestHeaders() const {
  const codec::H1Head& head = parser_->head();
  HeaderMap headers;
  headers.add(":method", head.method);
  headers.add(":scheme", transport_->peer().tls ? "https" : "http");
  if (head.path.starts_with('?')) {
    headers.add(":path", "/" + std::string(head.path));  // "http://host?query" (RFC 9112 3.2.1)
  } else if (!head.path.empty()) {
    headers.add(":path", head.path);
  }
  bool host = false;
  for (const codec::H1Field& field : head.fields) {
    if (field.name.size() == 4 && (field.name[0] == 'H' || field.name[0] == 'h')) {
      if (base::equalsIgnoreCase(field.name, "host")) {
        headers.add(":authority", head.authority.empty() ? field.value : head.authority);
        host = true;
        continue;
      }
    }
    if (head.length_dropped && base::equalsIgnoreCase(field.name, "content-length")) continue;
    headers.add(field.name, field.value);
  }
  if (!host && !head.authority.empty()) headers.add(":authority", head.authority);
  headers.setSpelling(spellingOf(head, limits_->header_case));
  return headers;
}

void H1Server::takeMethod() {
  const codec::H1Head& head = parser_->head();
  head_request_ = head.method == "HEAD";
  connect_request_ = head.method == "CONNECT";
}

void H1Server::beginExchange() {
  const codec::H1Head& head = parser_->head();
  minor_version_ = head.minor_version;
  keep_alive_ = head.keep_alive;
  body_.start(head.body, head.content_length);
  state_ = State::kExchange;
  head_sent_ = response_done_ = wants_body_ = full_ = false;
  piped_.reset();
  request_delivered_ = body_.done();
  discarded_ = 0;
  framing_ = H1Framing::kNone;
  deadline_ = base::MonotonicTime::max();
  StreamObserver* chosen = owner_.onStream(*this, *this);
  if (chosen != nullptr) stream_ = chosen;
  if (stream_ == nullptr) refuse({"no handler", "http1.codec_error", 500});
}

/// An exchange without a head, so that the owner can count, log and answer it.
void H1Server::beginRefused() {
  minor_version_ = 1;
  head_request_ = connect_request_ = false;
  body_.start(codec::H1Body::kNone, 0);
  state_ = State::kExchange;
  head_sent_ = response_done_ = wants_body_ = full_ = false;
  request_delivered_ = true;
  framing_ = H1Framing::kNone;
  deadline_ = base::MonotonicTime::max();
  stream_ = owner_.onStream(*this, *this);
}

void H1Server::deliverBody() {
  base::Buffer piece;
  H1BodyReader::Status status = body_.read(in_, piece);
  switch (status) {
    case H1BodyReader::Status::kNeedMore:
      return;
    case H1BodyReader::Status::kError:
      return refuse({"malformed body", "http1.codec_error", 400});
    case H1BodyReader::Status::kPiece:
      wants_body_ = false;
      return stream_->onData(piece, End::kNo);
    case H1BodyReader::Status::kEnd:
      break;
  }
  wants_body_ = false;
  request_delivered_ = true;
  if (body_.trailers().empty() || !limits_->trailers) return stream_->onData(piece, End::kYes);
  if (!piece.empty()) stream_->onData(piece, End::kNo);
  HeaderMap trailers;
  for (const auto& [name, value] : body_.trailers()) trailers.add(name, value);
  if (stream_ != nullptr && !response_done_) stream_->onTrailers(std::move(trailers));
}

/// False: nothing more of it can be taken now.
bool H1Server::deliverPiped() {
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
      return false;
    case H1PipedInput::Next::kError:
      shut(ResetReason::kConnectionLost);
      return false;
  }
  wants_body_ = false;
  request_delivered_ = body_.skip(piece.size()) == H1BodyReader::Status::kEnd;
  stream_->onPiped(piece, request_delivered_ ? End::kYes : End::kNo);
  return true;
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
    if (status == H1BodyReader::Status::kError || discarded_ > kH1DiscardBytesMax) {
      close_after_flush_ = true;
      flush_.schedule();
      return;
    }
    if (status == H1BodyReader::Status::kNeedMore) break;
  }
  if (!body_.done()) return;
  state_ = State::kHead;
  stream_ = nullptr;
  flushing_ = !flushed();
  setDeadline(flushing_ ? limits_->flush_timeout : limits_->idle_timeout);
  if (draining_ && in_.empty()) awaitLastRequest();
}

ServerConnection* startH1Server(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                base::Buffer initial, const SharedLimits& limits,
                                ServerObserver& observer, bool more) {
  return new H1Server(loop, std::move(transport), std::move(initial), limits, observer, more);
}

}  // namespace postern::http
