// What an HTTP/2 connection offers and how much of its peer it bears, under the names of Envoy's
// Http2ProtocolOptions, and what happens on one that is worth counting. Plain values.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace postern::http {

/// PINGs that find dead peers (connection_keepalive).
struct H2Keepalive {
  std::chrono::milliseconds interval{0};       // 0: none
  std::chrono::milliseconds timeout{0};        // within this something must be heard after a PING
  std::chrono::milliseconds idle_interval{0};  // client: after such a silence before a new stream
  double jitter_percent = 15;                  // of the interval, added by chance
};

/// Each limit has a test that reaches it. Units: bytes, frames, streams.
struct H2Limits {
  std::uint32_t concurrent_streams_max = 100;  // client: our own; the peer's SETTINGS may lower it
  // What a peer may send before we have taken any of it, at first; and how far both grow, in the
  // same steps, while the peer uses them up within a round trip. What a connection makes us hold is
  // at most its window.
  std::uint32_t stream_window_bytes = 256 * 1024;
  std::uint32_t connection_window_bytes = 1024 * 1024;
  std::uint32_t window_growth_max = 64;                          // times; 1: they stay as they are
  std::uint32_t connection_window_bytes_max = 24 * 1024 * 1024;  // however they grow
  std::uint32_t header_table_bytes = 4096;                       // HPACK, of either direction
  // Frames that were made and that the peer does not take.
  std::uint32_t outbound_frames_max = 10'000;
  std::uint32_t outbound_control_frames_max = 1'000;
  // Frames of the peer that bring nothing.
  std::uint32_t empty_frames_max = 1;  // in a row
  std::uint32_t priority_frames_per_stream = 100;
  std::uint32_t window_updates_per_data_frame = 10;
  std::uint32_t resets_burst_max = 200;  // server: streams a client resets, or makes us reset
  std::uint32_t resets_per_second = 100;
  // Server: decoded request headers of the streams that are not over.
  std::size_t held_header_bytes_max = 1024 * 1024;
  // Unsent body of a stream: above it the stream is full, and has room again at a quarter of it.
  std::size_t stream_unsent_bytes_max = 64 * 1024;
  // Unsent bodies of all streams: above it a stream is full early.
  std::size_t unsent_bytes_max = 1024 * 1024;
  bool extended_connect = false;            // server: offered (RFC 8441)
  bool invalid_message_ends_stream = true;  // and not the connection
  H2Keepalive keepalive;
};

/// Named after Envoy's counters below "http2.".
enum class H2Event : unsigned char {
  kGoAwaySent,
  kHeaderOverflow,
  kEmptyFramesFlood,
  kPriorityFramesFlood,
  kWindowUpdateFramesFlood,
  kKeepaliveTimeout,
  kOutboundControlFlood,
  kOutboundFlood,
  kMessagingError,
  kRxReset,
  kTrailers,
  kTxFlushTimeout,
  kTxReset,
  kProtocolError,  // the peer broke the protocol, the connection ends: no counter of HTTP/2's own
};
inline constexpr std::size_t kH2EventCount = 13;  // with a counter of their own

}  // namespace postern::http
