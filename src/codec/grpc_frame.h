// gRPC's length-prefixed messages in a body, and grpc-message's percent encoding
// (PROTOCOL-HTTP2 of gRPC). No I/O.
#pragma once

#include "base/buffer.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace postern::codec {

inline constexpr std::size_t kGrpcPrefixBytes = 5;

void writeGrpcMessage(base::Buffer& out, std::string_view message);

/// Takes messages out of a body.
class GrpcReader {
 public:
  enum class Event : unsigned char { kNeedMore, kMessage, kTooLarge, kCompressed };
  explicit GrpcReader(std::size_t message_bytes_max) : message_bytes_max_(message_bytes_max) {}
  /// On kMessage, message() is valid until the next call. kTooLarge and kCompressed are final.
  Event next(base::Buffer& in);
  std::string_view message() const { return message_; }
  /// Bytes of an unfinished message were seen.
  bool inside(const base::Buffer& in) const { return have_prefix_ || !in.empty(); }

 private:
  std::size_t message_bytes_max_;
  std::size_t left_ = 0;
  bool have_prefix_ = false;
  std::string store_;  // a message that spans blocks
  std::string_view message_;
  std::size_t drain_ = 0;
};

/// Everything outside printable ASCII, and '%', as %XX.
std::string encodeGrpcText(std::string_view text);
/// Malformed escapes stay as they are.
std::string decodeGrpcText(std::string_view text);

}  // namespace postern::codec
