#include "codec/h2_writer.h"

#include <algorithm>

namespace postern::codec {

void writeH2Settings(base::Buffer& out,
                     std::span<const std::pair<H2SettingId, std::uint32_t>> settings) {
  writeH2Header(out, settings.size() * 6, H2Type::kSettings, 0, 0);
  for (const auto& [id, value] : settings) {
    const auto number = static_cast<std::uint16_t>(id);
    const char bytes[2] = {static_cast<char>(number >> 8), static_cast<char>(number & 0xff)};
    out.append(std::string_view(bytes, 2));
    writeU32(out, value);
  }
}

void writeH2SettingsAck(base::Buffer& out) { writeH2Header(out, 0, H2Type::kSettings, kH2Ack, 0); }

void writeH2Ping(base::Buffer& out, std::string_view payload, H2PingKind kind) {
  writeH2Header(out, 8, H2Type::kPing, kind == H2PingKind::kAck ? unsigned{kH2Ack} : 0U, 0);
  out.append(payload);
}

void writeH2GoAway(base::Buffer& out, std::uint32_t last_stream, H2Error code,
                   std::string_view debug) {
  writeH2Header(out, 8 + debug.size(), H2Type::kGoAway, 0, 0);
  writeU32(out, last_stream);
  writeU32(out, static_cast<std::uint32_t>(code));
  out.append(debug);
}

void writeH2Reset(base::Buffer& out, std::uint32_t stream, H2Error code) {
  writeH2Header(out, 4, H2Type::kRstStream, 0, stream);
  writeU32(out, static_cast<std::uint32_t>(code));
}

void writeH2WindowUpdate(base::Buffer& out, std::uint32_t stream, std::uint32_t increment) {
  writeH2Header(out, 4, H2Type::kWindowUpdate, 0, stream);
  writeU32(out, increment);
}

void writeH2Headers(base::Buffer& out, std::uint32_t stream, std::string_view block,
                    unsigned flags) {
  H2Type type = H2Type::kHeaders;
  do {
    const std::string_view piece = block.substr(0, kH2FrameBytesMax);
    block.remove_prefix(piece.size());
    writeH2Header(out, piece.size(), type, flags | (block.empty() ? unsigned{kH2EndHeaders} : 0U),
                  stream);
    out.append(piece);
    type = H2Type::kContinuation;
    flags = 0;
  } while (!block.empty());
}

}  // namespace postern::codec
