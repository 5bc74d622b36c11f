#include "streaming/carrier.h"

#include <utility>

namespace postern::streaming {
namespace {

constexpr std::size_t kCarrierReadBytes = 64 * 1024;
constexpr std::uint16_t kNormalClosure = 1000;
constexpr std::uint16_t kProtocolError = 1002;

}  // namespace

Carrier::Carrier(std::unique_ptr<net::Transport> transport, Framing framing,
                 CarrierObserver& observer)
    : transport_(std::move(transport)), framing_(framing), observer_(observer) {}

void Carrier::start(base::Buffer& unread) {
  transport_->setObserver(this);
  // What came already is told in a turn of its own: the session is not complete yet.
  transport_->resumeRead();
  while (!unread.empty()) {
    std::string_view piece = unread.front();
    if (framing_ == Framing::kWebSocket) {
      parser_.feed(piece);
    } else {
      early_.append(piece);
    }
    unread.drain(piece.size());
  }
}

void Carrier::send(std::string_view head, std::string_view body) {
  if (over_ || close_sent_) return;
  if (framing_ == Framing::kWebSocket) {
    unsent_.append(codec::webSocketFrameHead(codec::WsOpcode::kBinary, head.size() + body.size()));
  }
  unsent_.append(head);
  unsent_.append(body);
  flush();
}

void Carrier::sendClose() {
  if (framing_ != Framing::kWebSocket || over_ || std::exchange(close_sent_, true)) return;
  unsent_.append(codec::webSocketClose(kNormalClosure));
  flush();
}

void Carrier::pause() { paused_ = true; }

void Carrier::resume() {
  if (!std::exchange(paused_, false)) return;
  transport_->resumeRead();
}

void Carrier::onReadable() {
  if (!early_.empty()) {
    std::string early = early_.toString();
    early_.clear();
    take(early);
  }
  takeMessages();
  while (!over_ && !paused_) {
    base::Buffer in;
    auto result = transport_->read(in, kCarrierReadBytes);
    while (!in.empty() && !over_) {
      std::string_view piece = in.front();
      take(piece);
      in.drain(piece.size());
    }
    if (result.status == net::IoStatus::kAgain) return;
    if (result.status != net::IoStatus::kOk) return closed();
    // A short read ended the readiness: the next report comes with new bytes.
    if (result.bytes < kCarrierReadBytes) return;
  }
}

void Carrier::onError(base::Error) { closed(); }

void Carrier::take(std::string_view bytes) {
  if (framing_ == Framing::kNone) return observer_.onBytes(bytes);
  parser_.feed(bytes);
  takeMessages();
}

void Carrier::takeMessages() {
  while (framing_ == Framing::kWebSocket && !over_) {
    auto message = parser_.next();
    if (!message) {
      unsent_.append(codec::webSocketClose(kProtocolError, message.error().text));
      close_sent_ = true;
      flush();
      return closed();
    }
    if (!*message) return;
    switch ((*message)->opcode) {
      case codec::WsOpcode::kBinary:
      case codec::WsOpcode::kText:
        observer_.onBytes((*message)->payload);
        break;
      case codec::WsOpcode::kPing:
        if (close_sent_) break;
        unsent_.append(codec::webSocketFrame(codec::WsOpcode::kPong, (*message)->payload));
        flush();
        break;
      case codec::WsOpcode::kClose:
        sendClose();
        return closed();
      default:
        break;
    }
  }
}

void Carrier::flush() {
  if (over_) return;
  while (!unsent_.empty()) {
    auto result = transport_->write(unsent_);
    if (result.status == net::IoStatus::kAgain) break;
    // The end is told when reading meets it, never inside send().
    if (result.status != net::IoStatus::kOk) {
      unsent_.clear();
      paused_ = false;
      transport_->resumeRead();
      break;
    }
  }
  if (full()) was_full_ = true;
}

void Carrier::onWritable() {
  flush();
  // Only here: a producer inside send() is not called back.
  if (over_ || !was_full_ || unsent_.size() > kUnsentBytesMax / 2) return;
  was_full_ = false;
  observer_.onDrained();
}

void Carrier::closed() {
  if (std::exchange(over_, true)) return;
  observer_.onClosed();
}

}  // namespace postern::streaming
