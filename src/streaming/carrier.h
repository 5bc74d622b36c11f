// The upgraded connection under a streaming session: bytes in and out, bounded, either as they are
// (SPDY) or as the payloads of binary WebSocket messages (exec channels, or SPDY in a tunnel).
// Owned by its session; destroying it closes the connection. One loop. Knows no session.
#pragma once

#include "base/buffer.h"
#include "codec/websocket.h"
#include "net/transport.h"

#include <memory>
#include <string_view>

namespace postern::streaming {

/// Upward. After onClosed nothing follows.
class CarrierObserver {
 public:
  virtual ~CarrierObserver() = default;
  /// A slice of the byte stream, or exactly one message of a WebSocket.
  virtual void onBytes(std::string_view bytes) = 0;
  /// full() was true and is no longer.
  virtual void onDrained() = 0;
  /// The peer ended or broke the connection, or broke the protocol.
  virtual void onClosed() = 0;
};

class Carrier final : private net::TransportObserver {
 public:
  enum class Framing : unsigned char { kNone, kWebSocket };

  /// More than this unsent: full(). What is sent beyond is kept all the same (a frame is whole).
  static constexpr std::size_t kUnsentBytesMax = 256 * 1024;

  Carrier(std::unique_ptr<net::Transport> transport, Framing framing, CarrierObserver& observer);
  /// Begins with what was read behind the request's head.
  void start(base::Buffer& unread);
  /// `head` and `body` are sent as one message.
  void send(std::string_view head, std::string_view body = {});
  bool full() const { return unsent_.size() > kUnsentBytesMax; }
  /// Stops reading; what was read already may still be told.
  void pause();
  void resume();
  /// A WebSocket's close frame; then the peer's answer or end comes as onClosed.
  void sendClose();
  /// No more callbacks; for the session that is over and waits for its destruction.
  void stop() { over_ = true; }

 private:
  void onReadable() override;
  void onWritable() override;
  void onError(base::Error error) override;
  void take(std::string_view bytes);
  void takeMessages();
  void flush();
  void closed();

  std::unique_ptr<net::Transport> transport_;
  Framing framing_;
  CarrierObserver& observer_;
  codec::WebSocketParser parser_;
  base::Buffer early_;  // read behind the head, before start()
  base::Buffer unsent_;
  bool paused_ = false;
  bool close_sent_ = false;
  bool was_full_ = false;
  bool over_ = false;
};

}  // namespace postern::streaming
