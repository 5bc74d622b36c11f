// HTTP/2 frames out of a byte stream (RFC 9113 4 to 6): sizes, order, stream numbers and values are
// checked, header blocks put together, floods bounded. Knows no stream states and no clock; the
// connection above pulls one event after the other. One connection's, on its loop.
#pragma once

#include "base/buffer.h"
#include "codec/h2_frame.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace postern::codec {

/// What the peer said in SETTINGS so far.
struct H2Settings {
  std::uint32_t header_table_size = 4096;
  std::uint32_t header_table_size_smallest = 4096;  // within the last frame
  std::uint32_t concurrent_streams_max = 0xffffffff;
  std::uint32_t initial_window = 65535;
  std::uint32_t frame_bytes_max = 16384;
  bool connect_protocol = false;
};

struct H2ReaderLimits {
  std::size_t block_bytes_max = 64 * 1024;  // one header block as sent (compressed)
  std::uint32_t continuations_max = 32;     // CONTINUATION frames of one block
  // Frames that ask for work and bring nothing (SETTINGS, PING, RST_STREAM, unknown types) spend
  // credit; requests, body bytes and time bring it back.
  std::int32_t credit_start = 1000;
  std::int32_t credit_max = 10000;
  // As Envoy counts: frames without payload in a row; PRIORITY frames for each stream that was
  // opened; WINDOW_UPDATE frames for each DATA frame that was sent, and two for each stream.
  std::uint32_t empty_frames_max = 1;
  std::uint32_t priority_frames_per_stream = 100;
  std::uint32_t window_updates_per_data_frame = 10;
};

class H2FrameReader {
 public:
  enum class Flood : unsigned char { kNone, kEmptyFrames, kPriority, kWindowUpdate, kControl };
  enum class Role : unsigned char { kServer, kClient };
  enum class Event : unsigned char {
    kNeedMore,
    kData,          // stream(), dataBytes() at the front of the input, flowBytes(), endStream()
    kHeaders,       // stream(), block(), endStream(), selfDependent()
    kReset,         // stream(), code()
    kSettings,      // settings() changed
    kSettingsAck,   //
    kPing,          // payload(): eight bytes to send back
    kPingAck,       // payload()
    kGoAway,        // lastStream(), code()
    kWindowUpdate,  // stream() or 0, increment()
    kStreamError,   // stream(), code(): reset that stream
    kError,         // code(), text(): the connection is over
  };

  explicit H2FrameReader(Role role, const H2ReaderLimits& limits = {});

  /// Takes the next event out of `in`. After kData the caller must take exactly dataBytes() from
  /// the front of `in` before the next call; views are valid until then.
  Event next(base::Buffer& in);

  std::uint32_t stream() const { return header_.stream; }
  bool endStream() const { return end_stream_; }
  std::size_t dataBytes() const { return data_bytes_; }
  /// What this event takes from the flow-control windows (padding counts).
  std::size_t flowBytes() const { return flow_bytes_; }
  /// The part of flowBytes() that is padding.
  std::size_t paddingBytes() const { return padding_bytes_; }
  std::string_view block() const { return block_; }
  bool selfDependent() const { return self_dependent_; }
  std::string_view payload() const { return payload_; }
  const H2Settings& settings() const { return settings_; }
  H2Error code() const { return code_; }
  std::uint32_t lastStream() const { return last_stream_; }
  std::uint32_t increment() const { return increment_; }
  const char* text() const { return text_; }
  /// After kError: which limit was passed.
  Flood flood() const { return flood_; }

  /// Brings credit back (see H2ReaderLimits).
  void grant(std::int32_t credit);
  /// For the limits of PRIORITY and WINDOW_UPDATE.
  void streamOpened() { ++streams_opened_; }
  void dataSent() { ++data_frames_sent_; }
  /// The peer's first frame came.
  bool begun() const { return settings_seen_; }
  /// A header block has begun and its end is missing.
  bool insideBlock() const { return block_stream_ != 0; }
  /// The stream of that block.
  std::uint32_t blockStream() const { return block_stream_; }

 private:
  enum class State : unsigned char { kPreface, kHeader, kPayload, kDataStart, kData, kPadding };
  Event readPreface(base::Buffer& in);
  /// kNeedMore stands for "no error".
  Event checkHeader();
  Event checkLength();
  bool readData(base::Buffer& in, Event& out);
  Event readPayload();
  Event readHeaders();
  Event appendBlock(std::string_view fragment);
  Event readSettings();
  Event readWindowUpdate();
  Event fail(H2Error code, const char* text);
  Event flooded(Flood kind, const char* text);
  /// A frame that may carry payload came: true when too many in a row had none.
  bool emptyFlood(bool empty);
  Event streamError(H2Error code);
  bool spend();

  const H2ReaderLimits limits_;
  H2Settings settings_;
  H2FrameHeader header_;
  std::string block_store_;  // only for blocks of several frames
  std::string_view block_;
  std::string_view payload_;
  const char* text_ = "";
  std::size_t drain_ = 0;  // payload bytes still in the input
  std::size_t data_left_ = 0;
  std::size_t padding_left_ = 0;
  std::size_t data_bytes_ = 0;
  std::size_t flow_bytes_ = 0;
  std::size_t padding_bytes_ = 0;
  std::int32_t credit_;
  std::uint64_t streams_opened_ = 0;
  std::uint64_t data_frames_sent_ = 0;
  std::uint64_t priority_frames_ = 0;
  std::uint64_t window_updates_ = 0;
  std::uint32_t empty_frames_ = 0;  // in a row
  std::uint32_t block_stream_ = 0;
  std::uint32_t continuations_ = 0;
  std::uint32_t last_stream_ = 0;
  std::uint32_t increment_ = 0;
  H2Error code_ = H2Error::kNone;
  State state_;
  Flood flood_ = Flood::kNone;
  bool block_ends_stream_ = false;
  bool end_stream_ = false;
  bool self_dependent_ = false;
  bool settings_seen_ = false;
  bool flow_counted_ = false;  // an earlier piece of this DATA frame took from the windows
};

}  // namespace postern::codec
