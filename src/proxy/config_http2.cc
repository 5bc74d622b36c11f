#include "proxy/config_http2.h"

#include "envoy/config/core/v3/protocol.pb.h"

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;

constexpr std::uint32_t kWindowMin = 65535;
constexpr std::uint32_t kMax31 = 0x7fffffff;
// Each connection may fill it twice.
constexpr std::uint32_t kTableBytesMax = 1024 * 1024;

class Reader {
 public:
  Reader(const core::Http2ProtocolOptions& message, const Place& place)
      : message_(message), place_(place) {}

  /// A field of type UInt32Value, when it is set.
  template <class Wrapper>
  void number(const char* name, bool set, const Wrapper& field, std::uint32_t least,
              std::uint32_t most, std::uint32_t& out) const {
    if (!set) return;
    out = field.value();
    if (out >= least && out <= most) return;
    place_.fail(name, "must be from " + std::to_string(least) + " to " + std::to_string(most));
  }

  void keepalive(http::H2Keepalive& out) const {
    if (!message_.has_connection_keepalive()) return;
    const core::KeepaliveSettings& settings = message_.connection_keepalive();
    const Place at = place_.field("connection_keepalive");
    const auto positive = [&](const char* name, const auto& field) {
      const std::chrono::milliseconds value = at.duration(name, field);
      if (value.count() <= 0) at.fail(name, "must be at least 1ms");
      return value;
    };
    if (!settings.has_timeout()) return at.fail("timeout", "is required");
    out.timeout = positive("timeout", settings.timeout());
    if (settings.has_interval()) out.interval = positive("interval", settings.interval());
    if (settings.has_connection_idle_interval()) {
      out.idle_interval = positive("connection_idle_interval", settings.connection_idle_interval());
    }
    if (!settings.has_interval_jitter()) return;
    out.jitter_percent = settings.interval_jitter().value();
    if (!(out.jitter_percent >= 0 && out.jitter_percent <= 100))
      at.fail("interval_jitter.value", "must be between 0 and 100");
  }

 private:
  const core::Http2ProtocolOptions& message_;
  const Place& place_;
};

}  // namespace

void readHttp2Options(const core::Http2ProtocolOptions& message, const Place& place,
                      http::H2Limits& out) {
  const Reader read(message, place);
  read.number("hpack_table_size", message.has_hpack_table_size(), message.hpack_table_size(), 0,
              kTableBytesMax, out.header_table_bytes);
  read.number("max_concurrent_streams", message.has_max_concurrent_streams(),
              message.max_concurrent_streams(), 1, kMax31, out.concurrent_streams_max);
  read.number("initial_stream_window_size", message.has_initial_stream_window_size(),
              message.initial_stream_window_size(), kWindowMin, kMax31, out.stream_window_bytes);
  read.number("initial_connection_window_size", message.has_initial_connection_window_size(),
              message.initial_connection_window_size(), kWindowMin, kMax31,
              out.connection_window_bytes);
  if (message.has_initial_stream_window_size() || message.has_initial_connection_window_size())
    out.window_growth_max = 1;
  read.number("max_outbound_frames", message.has_max_outbound_frames(),
              message.max_outbound_frames(), 1, kMax31, out.outbound_frames_max);
  read.number("max_outbound_control_frames", message.has_max_outbound_control_frames(),
              message.max_outbound_control_frames(), 1, kMax31, out.outbound_control_frames_max);
  read.number("max_consecutive_inbound_frames_with_empty_payload",
              message.has_max_consecutive_inbound_frames_with_empty_payload(),
              message.max_consecutive_inbound_frames_with_empty_payload(), 0, kMax31,
              out.empty_frames_max);
  read.number("max_inbound_priority_frames_per_stream",
              message.has_max_inbound_priority_frames_per_stream(),
              message.max_inbound_priority_frames_per_stream(), 0, kMax31,
              out.priority_frames_per_stream);
  read.number("max_inbound_window_update_frames_per_data_frame_sent",
              message.has_max_inbound_window_update_frames_per_data_frame_sent(),
              message.max_inbound_window_update_frames_per_data_frame_sent(), 1, kMax31,
              out.window_updates_per_data_frame);
  out.extended_connect = message.allow_connect();
  out.invalid_message_ends_stream =
      message.has_override_stream_error_on_invalid_http_message()
          ? message.override_stream_error_on_invalid_http_message().value()
          : message.stream_error_on_invalid_http_messaging();
  read.keepalive(out.keepalive);
}

}  // namespace postern::proxy
