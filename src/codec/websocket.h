// WebSocket frames (RFC 6455), server side: bytes in, whole messages out, no I/O. Extensions are
// not negotiated, so reserved bits are an error. One thread.
#pragma once

#include "base/error.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postern::codec {

enum class WsOpcode : std::uint8_t {
  kContinuation = 0,
  kText = 1,
  kBinary = 2,
  kClose = 8,
  kPing = 9,
  kPong = 10,
};

struct WsMessage {
  WsOpcode opcode;
  std::string payload;
};

/// Collects masked client frames into messages; control frames come out between fragments.
class WebSocketParser {
 public:
  explicit WebSocketParser(std::size_t message_bytes_max = 1024 * 1024)
      : message_bytes_max_(message_bytes_max) {}
  void feed(std::string_view bytes) { input_.append(bytes); }
  /// The next message, nothing when more bytes are needed, or what the peer did wrong (final).
  base::Result<std::optional<WsMessage>> next();

 private:
  struct Header;
  base::Result<std::optional<Header>> header() const;

  std::size_t message_bytes_max_;
  std::string input_;
  std::string fragments_;
  std::optional<WsOpcode> fragmented_;
};

/// What precedes `size` bytes of payload in an unfragmented, unmasked frame.
std::string webSocketFrameHead(WsOpcode opcode, std::size_t size);
/// One unfragmented, unmasked frame.
std::string webSocketFrame(WsOpcode opcode, std::string_view payload);
/// A close frame with a status code.
std::string webSocketClose(std::uint16_t code, std::string_view reason = "");

}  // namespace postern::codec
