#include "streaming/spdy_mux.h"

#include <algorithm>
#include <utility>

namespace postern::streaming {
namespace {

using codec::SpdyStatus;
using codec::SpdyType;

constexpr std::size_t kFrameBytes = 32 * 1024;

}  // namespace

std::string_view SpdyStream::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

void SpdyMux::feed(std::string_view bytes) {
  parser_.feed(bytes);
  while (!over_) {
    auto frame = parser_.next();
    if (!frame) {
      carrier_.send(codec::SpdyWriter::goAway(last_));
      over_ = true;
      return observer_.onGoAway();
    }
    if (!*frame) return;
    take(std::move(**frame));
  }
}

void SpdyMux::take(codec::SpdyFrame frame) {
  switch (frame.type) {
    case SpdyType::kSynStream:
      return open(std::move(frame));
    case SpdyType::kPing:
      // Odd ids are the client's; we send none, so an even one answers nothing.
      if (frame.value % 2 == 1) carrier_.send(codec::SpdyWriter::ping(frame.value));
      return;
    case SpdyType::kGoAway:
      over_ = true;
      return observer_.onGoAway();
    case SpdyType::kRstStream: {
      SpdyStream* stream = find(frame.stream);
      if (stream == nullptr || std::exchange(stream->gone, true)) return;
      return observer_.onReset(*stream);
    }
    case SpdyType::kData: {
      SpdyStream* stream = find(frame.stream);
      if (stream == nullptr) {
        // Of a stream that was released a moment ago; one never opened is an error of the client.
        if (frame.stream > last_) {
          carrier_.send(codec::SpdyWriter::rstStream(frame.stream, SpdyStatus::kInvalidStream));
        }
        return;
      }
      if (stream->gone) return;
      if (stream->remote_ended) return reset(*stream, SpdyStatus::kProtocolError);
      if (!frame.data.empty()) observer_.onData(*stream, frame.data);
      if (over_ || !frame.fin) return;
      // The callback may have released it.
      stream = find(frame.stream);
      if (stream == nullptr || stream->gone) return;
      stream->remote_ended = true;
      return observer_.onEnd(*stream);
    }
    default:
      return;  // SETTINGS, WINDOW_UPDATE, HEADERS, replies: nothing depends on them
  }
}

void SpdyMux::open(codec::SpdyFrame frame) {
  if (frame.stream % 2 == 0 || frame.stream <= last_) {
    carrier_.send(codec::SpdyWriter::rstStream(frame.stream, SpdyStatus::kProtocolError));
    return;
  }
  last_ = frame.stream;
  if (streams_.size() >= kStreamsMax) {
    carrier_.send(codec::SpdyWriter::rstStream(frame.stream, SpdyStatus::kRefusedStream));
    return;
  }
  SpdyStream& stream = streams_[frame.stream];
  stream.id = frame.stream;
  stream.headers = std::move(frame.headers);
  stream.remote_ended = frame.fin;
  // The reply precedes whatever the observer sends on the stream.
  carrier_.send(writer_.synReply(stream.id, false));
  if (!observer_.onStream(stream)) {
    if (SpdyStream* refused = find(frame.stream)) {
      reset(*refused, SpdyStatus::kRefusedStream);
      release(*refused);
    }
    return;
  }
  SpdyStream* opened = find(frame.stream);
  if (frame.fin && opened != nullptr && !over_) observer_.onEnd(*opened);
}

void SpdyMux::send(SpdyStream& stream, std::string_view bytes) {
  if (stream.local_ended || stream.gone) return;
  while (!bytes.empty()) {
    std::string_view piece = bytes.substr(0, kFrameBytes);
    carrier_.send(codec::SpdyWriter::dataHead(stream.id, false, piece.size()), piece);
    bytes.remove_prefix(piece.size());
  }
}

void SpdyMux::end(SpdyStream& stream) {
  if (stream.gone || std::exchange(stream.local_ended, true)) return;
  carrier_.send(codec::SpdyWriter::dataHead(stream.id, true, 0));
}

void SpdyMux::reset(SpdyStream& stream, codec::SpdyStatus status) {
  if (std::exchange(stream.gone, true)) return;
  carrier_.send(codec::SpdyWriter::rstStream(stream.id, status));
}

void SpdyMux::goAway() { carrier_.send(codec::SpdyWriter::goAway(last_)); }

void SpdyMux::release(SpdyStream& stream) {
  if (!stream.local_ended || !stream.remote_ended) reset(stream, SpdyStatus::kCancel);
  streams_.erase(stream.id);
}

SpdyStream* SpdyMux::find(std::uint32_t id) {
  auto it = streams_.find(id);
  return it == streams_.end() ? nullptr : &it->second;
}

}  // namespace postern::streaming
