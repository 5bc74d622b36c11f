// HTTP/2 frame layout (RFC 9113 4, 6): constants, and the 9-byte header read and written. No I/O.
#pragma once

#include "base/buffer.h"

#include <cstdint>
#include <string_view>

namespace postern::codec {

inline constexpr std::string_view kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr std::size_t kH2HeaderBytes = 9;
inline constexpr std::uint32_t kH2FrameBytesMax = 16384;  // what we accept and send
inline constexpr std::int64_t kH2WindowMax = 0x7fffffff;

enum class H2Type : std::uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRstStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};
enum H2Flag : std::uint8_t {
  kH2EndStream = 1,
  kH2Ack = 1,
  kH2EndHeaders = 4,
  kH2Padded = 8,
  kH2Priority = 32,
};
enum class H2SettingId : std::uint16_t {
  kHeaderTableSize = 1,
  kEnablePush = 2,
  kMaxConcurrentStreams = 3,
  kInitialWindowSize = 4,
  kMaxFrameSize = 5,
  kMaxHeaderListSize = 6,
  kEnableConnectProtocol = 8,
};
enum class H2Error : std::uint32_t {
  kNone = 0,
  kProtocol = 1,
  kInternal = 2,
  kFlowControl = 3,
  kSettingsTimeout = 4,
  kStreamClosed = 5,
  kFrameSize = 6,
  kRefusedStream = 7,
  kCancel = 8,
  kCompression = 9,
  kConnect = 10,
  kEnhanceYourCalm = 11,
  kInadequateSecurity = 12,
  kHttp11Required = 13,
};

struct H2FrameHeader {
  std::uint32_t length = 0;
  H2Type type = H2Type::kData;
  std::uint8_t flags = 0;
  std::uint32_t stream = 0;
  bool has(H2Flag flag) const { return (flags & flag) != 0; }
};

inline std::uint32_t readU32(std::string_view in) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < 4; ++i) out = out << 8 | static_cast<unsigned char>(in[i]);
  return out;
}
inline void writeU32(base::Buffer& out, std::uint32_t value) {
  const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                         static_cast<char>(value >> 8), static_cast<char>(value)};
  out.append(std::string_view(bytes, 4));
}

/// `in` holds at least kH2HeaderBytes.
inline H2FrameHeader parseH2Header(std::string_view in) {
  return {readU32(in) >> 8, static_cast<H2Type>(in[3]), static_cast<std::uint8_t>(in[4]),
          readU32(in.substr(5)) & 0x7fffffffU};
}
inline void writeH2Header(base::Buffer& out, std::size_t length, H2Type type, unsigned flags,
                          std::uint32_t stream) {
  const char bytes[kH2HeaderBytes] = {
      static_cast<char>(length >> 16), static_cast<char>(length >> 8),
      static_cast<char>(length),       static_cast<char>(type),
      static_cast<char>(flags),        static_cast<char>(stream >> 24),
      static_cast<char>(stream >> 16), static_cast<char>(stream >> 8),
      static_cast<char>(stream)};
  out.append(std::string_view(bytes, kH2HeaderBytes));
}

/// Removes the padding and its length byte; false when it is longer than the frame.
inline bool stripH2Padding(const H2FrameHeader& frame, std::string_view& payload) {
  if (!frame.has(kH2Padded)) return true;
  if (payload.empty()) return false;
  const std::size_t padding = static_cast<unsigned char>(payload[0]);
  payload.remove_prefix(1);
  if (padding > payload.size()) return false;
  payload.remove_suffix(padding);
  return true;
}

}  // namespace postern::codec
