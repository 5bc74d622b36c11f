// WebSocket frames from hostile clients: no crash, no message above the limit, and what is read
// does not depend on how the bytes were cut.
#include "base/check.h"
#include "codec/websocket.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace {

constexpr std::size_t kMessageBytesMax = 1024;

std::string read(std::string_view bytes, std::size_t piece) {
  postern::codec::WebSocketParser parser(kMessageBytesMax);
  std::string out;
  while (!bytes.empty()) {
    std::string part(bytes.substr(0, piece));
    bytes.remove_prefix(part.size());
    parser.feed(part);
    while (true) {
      auto message = parser.next();
      if (!message) return out + "|error " + message.error().text;
      if (!*message) break;
      POSTERN_CHECK((*message)->payload.size() <= kMessageBytesMax);
      out += "|" + std::to_string(static_cast<int>((*message)->opcode)) + (*message)->payload;
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  POSTERN_CHECK(read(bytes, size + 1) == read(bytes, 3));
  return 0;
}
