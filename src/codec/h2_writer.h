// HTTP/2 frames into a buffer (RFC 9113 6). No I/O, no state.
#pragma once

#include "base/buffer.h"
#include "codec/h2_frame.h"

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>

namespace postern::codec {

void writeH2Settings(base::Buffer& out,
                     std::span<const std::pair<H2SettingId, std::uint32_t>> settings);
inline void writeH2Settings(base::Buffer& out,
                            std::initializer_list<std::pair<H2SettingId, std::uint32_t>> settings) {
  writeH2Settings(out, std::span(settings.begin(), settings.size()));
}
void writeH2SettingsAck(base::Buffer& out);
enum class H2PingKind : bool { kAsk, kAck };
/// `payload` holds eight bytes.
void writeH2Ping(base::Buffer& out, std::string_view payload, H2PingKind kind);
void writeH2GoAway(base::Buffer& out, std::uint32_t last_stream, H2Error code,
                   std::string_view debug);
void writeH2Reset(base::Buffer& out, std::uint32_t stream, H2Error code);
void writeH2WindowUpdate(base::Buffer& out, std::uint32_t stream, std::uint32_t increment);
/// A header block as HEADERS and as many CONTINUATION frames as it needs. `flags`: kH2EndStream or
/// 0.
void writeH2Headers(base::Buffer& out, std::uint32_t stream, std::string_view block,
                    unsigned flags);

}  // namespace postern::codec
