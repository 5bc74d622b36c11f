#include "http/grpc_call.h"

#include <utility>

namespace postern::http {

void GrpcCall::send(std::string_view message) {
  if (over_ || half_closed_) return;
  codec::writeGrpcMessage(pending_, message);
  if (!full_) pump();
}

void GrpcCall::pump() {
  if (stream_ == nullptr || over_ || pending_.empty()) return;
  beforeWrite();
  full_ = stream_->sendData(pending_, End::kNo) == Flow::kFull;
}

void GrpcCall::onData(base::Buffer& data, End end) {
  using Event = codec::GrpcReader::Event;
  const std::shared_ptr<GrpcCall> kept = self_;
  in_.append(data);
  for (Event event = reader_.next(in_); event != Event::kNeedMore; event = reader_.next(in_)) {
    if (event == Event::kTooLarge)
      return failLocally({kGrpcResourceExhausted, "message larger than the limit"});
    if (event == Event::kCompressed)
      return failLocally({kGrpcUnimplemented, "compressed message without an agreed encoding"});
    if (!handle_gone_ && callbacks.on_message) callbacks.on_message(reader_.message());
    if (over_) return;
  }
  if (end == End::kNo) return stream_->read();
  if (reader_.inside(in_)) return failLocally({kGrpcInternal, "message cut off"});
  onBodyEnd();
}

void GrpcCall::finish(GrpcStatus status, Tell when) {
  if (std::exchange(over_, true)) return;
  stream_ = nullptr;
  pending_.clear();
  std::shared_ptr<GrpcCall> kept = std::move(self_);
  if (handle_gone_) return;
  if (when == Tell::kNow) {
    if (callbacks.on_close) callbacks.on_close(std::move(status));
    return;
  }
  loop_.post([kept = std::move(kept), status = std::move(status)]() mutable {
    if (!kept->handle_gone_ && kept->callbacks.on_close)
      kept->callbacks.on_close(std::move(status));
  });
}

}  // namespace postern::http
