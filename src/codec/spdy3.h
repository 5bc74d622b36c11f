// SPDY/3.1 frames (the draft's sections 2.2 and 2.6) as kubectl's exec and port-forward speak them:
// bytes in, frames out and back, no I/O. The header compressor and its inverse keep one state per
// direction, so a parser and a writer belong to one connection. Flow control is only carried:
// the peers that exist neither enforce nor grant windows. One thread.
#pragma once

#include "base/error.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct z_stream_s;

namespace postern::codec {

/// What a peer may make us hold. Data frames need no limit: they come out in pieces.
struct SpdyLimits {
  std::size_t control_bytes_max = 64 * 1024;  // payload of one control frame
  std::size_t header_bytes_max = 64 * 1024;   // one header block, inflated
  std::size_t header_count_max = 100;
};

enum class SpdyType : std::uint8_t {
  kData = 0,
  kSynStream = 1,
  kSynReply = 2,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kHeaders = 8,
  kWindowUpdate = 9,
};

/// Status codes of RST_STREAM.
enum class SpdyStatus : std::uint32_t {
  kProtocolError = 1,
  kInvalidStream = 2,
  kRefusedStream = 3,
  kCancel = 5,
  kInternalError = 6,
};

using SpdyHeaders = std::vector<std::pair<std::string, std::string>>;

struct SpdyFrame {
  SpdyType type = SpdyType::kData;
  std::uint32_t stream = 0;  // GOAWAY: the last good stream
  bool fin = false;
  std::uint32_t value = 0;  // a status, a ping's id, a window's growth
  SpdyHeaders headers;
  std::string data;  // of a data frame: all of it or a piece; `fin` comes with the last piece
};

/// Takes bytes of one direction apart.
class SpdyParser {
 public:
  explicit SpdyParser(const SpdyLimits& limits = {});
  ~SpdyParser();
  SpdyParser(SpdyParser&&) noexcept;
  void feed(std::string_view bytes);
  /// The next frame, nothing when more bytes are needed, or what the peer did wrong (final).
  /// Control frames of unknown types are skipped, as the draft says.
  base::Result<std::optional<SpdyFrame>> next();

 private:
  base::Result<std::optional<SpdyFrame>> dataPiece();
  base::Result<std::optional<SpdyFrame>> control(std::uint16_t type, std::uint8_t flags,
                                                 std::string_view payload);
  base::Result<SpdyHeaders> headerBlock(std::string_view compressed);
  base::Result<std::string> inflateBlock(std::string_view compressed);
  std::string_view rest() const { return std::string_view(input_).substr(taken_); }

  SpdyLimits limits_;
  std::string input_;
  std::size_t taken_ = 0;      // bytes of input_ that were used
  std::uint32_t stream_ = 0;   // of the data frame being read
  std::size_t data_left_ = 0;  // bytes of it still to come
  bool data_fin_ = false;
  std::unique_ptr<z_stream_s> inflater_;
};

/// Makes the bytes of one direction. Calls must reach the wire in order.
class SpdyWriter {
 public:
  SpdyWriter();
  ~SpdyWriter();
  SpdyWriter(SpdyWriter&&) noexcept;
  std::string synStream(std::uint32_t stream, bool fin, const SpdyHeaders& headers);
  std::string synReply(std::uint32_t stream, bool fin, const SpdyHeaders& headers = {});
  static std::string rstStream(std::uint32_t stream, SpdyStatus status);
  static std::string ping(std::uint32_t id);
  static std::string goAway(std::uint32_t last_good_stream);
  static std::string windowUpdate(std::uint32_t stream, std::uint32_t growth);
  /// The 8 bytes before `size` (< 16 MiB) bytes of data.
  static std::string dataHead(std::uint32_t stream, bool fin, std::size_t size);

 private:
  std::string compress(const SpdyHeaders& headers);
  std::unique_ptr<z_stream_s> deflater_;
};

}  // namespace postern::codec
