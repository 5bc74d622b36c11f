#include "http/h1_server_session.h"
#include "http/linger.h"

#include <string>

namespace postern::http {

Flow H1Server::sendHeaders(const HeaderMap& headers, End end) {
  if (state_ != State::kExchange || head_sent_) return Flow::kOpen;
  const int status = headers.status();
  writeStatusLine(out_.bytes(), status, minor_version_);
  writeFields(out_.bytes(), headers, limits_->header_case);
  if (status >= 100 && status < 200 && status != 101) {
    out_.bytes().append("\r\n");
    return flow();
  }
  head_sent_ = true;
  if (headers.value("connection") == "close" || draining_) keep_alive_ = false;
  if (status == 101 || (connect_request_ && status >= 200 && status < 300)) {
    switched_ = true;
    request_delivered_ = false;
    framing_ = H1Framing::kUntilClose;
    if (status == 101 && !(headers.has("connection") && headers.has("upgrade")))
      writeField(out_.bytes(), "connection", "upgrade", headers, limits_->header_case);
  } else {
    writeFraming(headers, end);
  }
  out_.bytes().append("\r\n");
  if (end == End::kYes) endResponse();
  return flow();
}

/// The fields that say where the answer ends and whether another may follow it.
void H1Server::writeFraming(const HeaderMap& headers, End end) {
  const int status = headers.status();
  const HeaderCase style = limits_->header_case;
  const bool bodiless = head_request_ || status == 204 || status == 304;
  const bool sized = headers.has("content-length");
  if (!sized && end == End::kNo && minor_version_ == 0) keep_alive_ = false;
  if (!keep_alive_) {
    writeField(out_.bytes(), "connection", "close", headers, style);
  } else if (minor_version_ == 0) {
    writeField(out_.bytes(), "connection", "keep-alive", headers, style);
  }
  if (sized) {
    framing_ = H1Framing::kLength;
  } else if (end == End::kYes) {
    if (!bodiless) writeField(out_.bytes(), "content-length", "0", headers, style);
  } else if (minor_version_ == 1) {
    framing_ = H1Framing::kChunked;
    if (!bodiless) writeField(out_.bytes(), "transfer-encoding", "chunked", headers, style);
  } else {
    framing_ = H1Framing::kUntilClose;
  }
  if (bodiless) framing_ = H1Framing::kNone;
}

Flow H1Server::sendData(base::Buffer& data, End end) {
  if (state_ != State::kExchange || response_done_) return Flow::kOpen;
  switch (framing_) {
    case H1Framing::kNone:
      data.clear();
      break;
    case H1Framing::kChunked:
      writeChunk(out_.bytes(), data);
      break;
    case H1Framing::kLength:
    case H1Framing::kUntilClose:
      out_.bytes().append(data);
      break;
  }
  if (end == End::kYes) {
    if (framing_ == H1Framing::kChunked)
      writeLastChunk(out_.bytes(), nullptr, limits_->header_case);
    endResponse();
  }
  return flow();
}

Flow H1Server::sendPiped(net::PipedBytes& piece, End end) {
  if (state_ != State::kExchange || response_done_) return Flow::kOpen;
  if (framing_ != H1Framing::kNone) {
    const bool chunked = framing_ == H1Framing::kChunked;
    if (chunked) writeChunkSize(out_.bytes(), piece.size());
    out_.append(piece);
    if (chunked) out_.bytes().append("\r\n");
    // Room is found out now: the next piece may follow in this turn. flush() meets a failure again.
    out_.write(*transport_);
  }
  base::Buffer nothing;
  return end == End::kYes ? sendData(nothing, end) : flow();
}

Flow H1Server::sendTrailers(const HeaderMap& trailers) {
  if (state_ != State::kExchange || response_done_) return Flow::kOpen;
  if (framing_ == H1Framing::kChunked)
    writeLastChunk(out_.bytes(), limits_->trailers ? &trailers : nullptr, limits_->header_case);
  endResponse();
  return flow();
}

void H1Server::endResponse() {
  response_done_ = true;
  if (switched_) keep_alive_ = false;
  full_ = false;
  piped_.reset();  // the rest of the request is dropped
  stream_ = nullptr;
  if (!keep_alive_) {
    close_after_flush_ = true;
    setDeadline(limits_->flush_timeout);
  } else {
    resume_.schedule();
  }
}

/// The observer may answer; if it does not, the codec does.
void H1Server::refuse(const codec::H1Refusal& why) {
  keep_alive_ = false;
  refused_ = true;
  if (state_ == State::kHead) beginRefused();
  if (stream_ != nullptr && (head_sent_ || !stream_->onRefused(why.status, why.details))) {
    if (StreamObserver* told = std::exchange(stream_, nullptr); told != nullptr)
      told->onReset(ResetReason::kProtocol);
  }
  if (state_ == State::kClosed) return;
  if (!head_sent_) {
    std::string_view body = why.text;
    writeStatusLine(out_.bytes(), why.status);
    out_.bytes().append("content-type: text/plain\r\ncontent-length: " +
                        std::to_string(body.size()) + "\r\nconnection: close\r\n\r\n");
    out_.bytes().append(body);
    head_sent_ = true;
  }
  response_done_ = true;
  close_after_flush_ = true;
  setDeadline(limits_->flush_timeout);
  flush_.schedule();
}

void H1Server::flush() {
  if (state_ == State::kClosed || !transport_) return;
  net::IoResult result = out_.write(*transport_);
  if (result.status == net::IoStatus::kError) return shut(ResetReason::kConnectionLost);
  if (close_after_flush_ && flushed()) return closeGently();
  if (flushing_ && flushed()) {
    flushing_ = false;
    if (state_ == State::kHead && !inHead()) setDeadline(limits_->idle_timeout);
  }
  if (held_ && hasRoom()) {
    held_ = false;
    resume_.schedule();
  }
  if (full_ && !out_.holdsPipe() && hasRoom()) {
    full_ = false;
    if (stream_ != nullptr) stream_->onWritable();
  }
}

/// Closing with unread input would reset the connection under the last answer: unless everything
/// was read, the client's end is waited for.
void H1Server::closeGently() {
  if (state_ == State::kLinger) return;
  const bool all_read = body_.done() && in_.empty() && !readable_ && !refused_;
  const bool at_once = all_read || eof_ || limits_->delayed_close_timeout.count() == 0;
  // Closing a plain socket ends our direction as well.
  if (!at_once || !isPlainSocket(*transport_)) transport_->shutdownWrite();
  if (at_once) return shut(ResetReason::kLocal);
  state_ = State::kLinger;
  resume_.cancel();
  discarded_ = 0;
  setDeadline(limits_->delayed_close_timeout);
  linger();
}

void H1Server::linger() {
  in_.clear();
  if (!discardInput(*transport_, discarded_)) shut(ResetReason::kLocal);
}

/// What was written of the answer still goes, as far as the kernel takes it: a client is to see an
/// answer that is cut off, not none. Nothing waits for the rest.
void H1Server::reset(ResetReason) {
  stream_ = nullptr;
  if (transport_) out_.write(*transport_);
  shut(ResetReason::kLocal);
}

std::unique_ptr<net::Transport> H1Server::takeTransport(base::Buffer& unread) {
  if (!switched_ || !transport_) return nullptr;
  out_.write(*transport_);
  if (!out_.empty()) {  // a client that does not even read the 101
    stream_ = nullptr;
    shut(ResetReason::kLocal);
    return nullptr;
  }
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
  out_.clear();
  if (StreamObserver* told = std::exchange(stream_, nullptr); told != nullptr)
    told->onReset(reason);
  owner_.onClosed(*this);
  loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
}

}  // namespace postern::http
