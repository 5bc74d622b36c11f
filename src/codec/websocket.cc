#include "codec/websocket.h"

#include <utility>

namespace postern::codec {

struct WebSocketParser::Header {
  bool fin = false;
  WsOpcode opcode = WsOpcode::kContinuation;
  std::size_t length = 0;  // of the payload
  std::size_t bytes = 0;   // of the header with the mask
};

namespace {

constexpr std::size_t kControlBytesMax = 125;
constexpr std::size_t kMaskBytes = 4;

std::uint8_t byteAt(std::string_view bytes, std::size_t at) {
  return static_cast<std::uint8_t>(bytes[at]);
}

bool isControlFrame(WsOpcode opcode) { return static_cast<std::uint8_t>(opcode) >= 8; }

bool isKnown(std::uint8_t opcode) { return opcode <= 2 || (opcode >= 8 && opcode <= 10); }

}  // namespace

base::Result<std::optional<WebSocketParser::Header>> WebSocketParser::header() const {
  using base::Errc;
  if (input_.size() < 2) return std::nullopt;
  const std::uint8_t first = byteAt(input_, 0);
  const std::uint8_t second = byteAt(input_, 1);
  if ((first & 0x70) != 0) return base::fail(Errc::kProtocol, "websocket: reserved bits set");
  if (!isKnown(first & 0x0f)) return base::fail(Errc::kProtocol, "websocket: unknown opcode");
  if ((second & 0x80) == 0) return base::fail(Errc::kProtocol, "websocket: frame is not masked");

  Header out;
  out.fin = (first & 0x80) != 0;
  out.opcode = static_cast<WsOpcode>(first & 0x0f);
  const std::size_t short_length = second & 0x7f;
  if (isControlFrame(out.opcode) && (!out.fin || short_length > kControlBytesMax)) {
    return base::fail(Errc::kProtocol, "websocket: control frame too long or fragmented");
  }
  const std::size_t extra = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
  out.bytes = 2 + extra + kMaskBytes;
  if (input_.size() < out.bytes) return std::nullopt;
  std::uint64_t length = extra == 0 ? short_length : 0;
  for (std::size_t i = 0; i < extra; ++i) length = (length << 8) | byteAt(input_, 2 + i);
  if (length > message_bytes_max_ - fragments_.size() && !isControlFrame(out.opcode)) {
    return base::fail(Errc::kLimitExceeded, "websocket: message too long");
  }
  out.length = static_cast<std::size_t>(length);
  return out;
}

base::Result<std::optional<WsMessage>> WebSocketParser::next() {
  while (true) {
    POSTERN_TRY(std::optional<Header> head, header());
    if (!head || input_.size() - head->bytes < head->length) return std::nullopt;
    std::string payload = input_.substr(head->bytes, head->length);
    const std::string_view mask = std::string_view(input_).substr(head->bytes - kMaskBytes);
    for (std::size_t i = 0; i < payload.size(); ++i) {
      payload[i] = static_cast<char>(payload[i] ^ mask[i % kMaskBytes]);
    }
    input_.erase(0, head->bytes + head->length);

    if (isControlFrame(head->opcode)) return WsMessage{head->opcode, std::move(payload)};
    const bool continues = head->opcode == WsOpcode::kContinuation;
    if (continues != fragmented_.has_value()) {
      return base::fail(base::Errc::kProtocol, "websocket: continuation out of order");
    }
    if (!continues) fragmented_ = head->opcode;
    fragments_ += payload;
    if (!head->fin) continue;
    WsMessage message{*fragmented_, std::move(fragments_)};
    fragments_.clear();
    fragmented_.reset();
    return message;
  }
}

std::string webSocketFrameHead(WsOpcode opcode, std::size_t bytes) {
  std::string out;
  out.push_back(static_cast<char>(0x80 | static_cast<std::uint8_t>(opcode)));
  const std::uint64_t size = bytes;
  const int extra = size < 126 ? 0 : size <= 0xffff ? 2 : 8;
  out.push_back(static_cast<char>(extra == 0 ? size : extra == 2 ? 126 : 127));
  for (int i = extra - 1; i >= 0; --i) out.push_back(static_cast<char>((size >> (8 * i)) & 0xff));
  return out;
}

std::string webSocketFrame(WsOpcode opcode, std::string_view payload) {
  return webSocketFrameHead(opcode, payload.size()).append(payload);
}

std::string webSocketClose(std::uint16_t code, std::string_view reason) {
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  payload.append(reason.substr(0, kControlBytesMax - payload.size()));
  return webSocketFrame(WsOpcode::kClose, payload);
}

}  // namespace postern::codec
