#include "http/h1_client_session.h"

#include <utility>

namespace postern::http {

Flow H1Client::sendHeaders(const HeaderMap& headers, End end) {
  if (state_ != State::kExchange) return Flow::kOpen;
  std::string_view method = headers.method();
  connect_request_ = method == "CONNECT";
  head_request_ = method == "HEAD";
  parser_.reset(method);
  out_.bytes().append(method);
  out_.bytes().append(" ");
  if (limits_.absolute_form && !connect_request_) {
    out_.bytes().append(headers.scheme());
    out_.bytes().append("://");
    out_.bytes().append(headers.authority());
  }
  out_.bytes().append(connect_request_ ? headers.authority() : headers.path());
  out_.bytes().append(" HTTP/1.1\r\n");
  writeField(out_.bytes(), "host", headers.authority(), headers, limits_.header_case);
  writeFields(out_.bytes(), headers, limits_.header_case);
  writeFraming(headers, end);
  out_.bytes().append("\r\n");
  request_done_ = end == End::kYes;
  return flow();
}

void H1Client::writeFraming(const HeaderMap& headers, End end) {
  const HeaderCase style = limits_.header_case;
  const std::string_view method = headers.method();
  upgrade_request_ = headers.has("upgrade");
  if (upgrade_request_ && !headers.has("connection"))
    writeField(out_.bytes(), "connection", "upgrade", headers, style);
  if (headers.has("content-length")) {
    framing_ = H1Framing::kLength;
  } else if (end == End::kYes) {
    framing_ = H1Framing::kNone;
    const bool bodiless = method == "GET" || method == "HEAD" || method == "DELETE" ||
                          method == "TRACE" || method == "CONNECT";
    if (!bodiless) writeField(out_.bytes(), "content-length", "0", headers, style);
  } else if (connect_request_ || upgrade_request_) {
    framing_ = H1Framing::kUntilClose;
  } else {
    framing_ = H1Framing::kChunked;
    writeField(out_.bytes(), "transfer-encoding", "chunked", headers, style);
  }
}

Flow H1Client::sendData(base::Buffer& data, End end) {
  if (state_ != State::kExchange || request_done_) return Flow::kOpen;
  if (framing_ == H1Framing::kChunked) {
    writeChunk(out_.bytes(), data);
    if (end == End::kYes) writeLastChunk(out_.bytes(), nullptr, limits_.header_case);
  } else {
    out_.bytes().append(data);
  }
  request_done_ = end == End::kYes;
  return flow();
}

Flow H1Client::sendPiped(net::PipedBytes& piece, End end) {
  if (state_ != State::kExchange || request_done_) return Flow::kOpen;
  const bool chunked = framing_ == H1Framing::kChunked;
  if (chunked) writeChunkSize(out_.bytes(), piece.size());
  out_.append(piece);
  if (chunked) out_.bytes().append("\r\n");
  // Room is found out now: the next piece may follow in this turn. flush() meets a failure again.
  any_sent_ = out_.write(*transport_).bytes > 0 || any_sent_;
  base::Buffer nothing;
  return end == End::kYes ? sendData(nothing, end) : flow();
}

Flow H1Client::sendTrailers(const HeaderMap& trailers) {
  if (state_ != State::kExchange || request_done_) return Flow::kOpen;
  if (framing_ == H1Framing::kChunked)
    writeLastChunk(out_.bytes(), limits_.trailers ? &trailers : nullptr, limits_.header_case);
  request_done_ = true;
  return flow();
}

void H1Client::flush() {
  if (state_ == State::kClosed || !transport_) return;
  if (out_.empty() && !(switched_ && request_done_)) return;
  net::IoResult result = out_.write(*transport_);
  any_sent_ = any_sent_ || result.bytes > 0;
  // A failed write is no verdict: an answer may have arrived before the peer closed. Reading tells.
  if (result.status == net::IoStatus::kError) {
    out_.clear();
    request_done_ = true;
    draining_ = true;
    readable_ = true;
    resume_.schedule();
    return;
  }
  if (switched_ && request_done_ && out_.empty()) transport_->shutdownWrite();
  if (full_ && !out_.holdsPipe() && out_.size() <= limits_.unsent_bytes_max / 4) {
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
  out_.clear();
  if (StreamObserver* told = std::exchange(stream_, nullptr); told != nullptr)
    told->onReset(reason);
  owner_.onClosed(*this, error);
  loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
}

}  // namespace postern::http
