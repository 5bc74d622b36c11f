// How HTTP is spoken to a cluster: Cluster's own fields and its HttpProtocolOptions.
#include "api/message.h"
#include "config/supported.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb.h"
#include "proxy/config_build.h"
#include "proxy/config_http2.h"
#include "proxy/config_http_options.h"

namespace postern::proxy {

namespace {

namespace cluster = envoy::config::cluster::v3;
namespace core = envoy::config::core::v3;
namespace upstreams = envoy::extensions::upstreams::http::v3;
using config::joinPath;

constexpr const char* kHttpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
constexpr std::uint32_t kAnswerHeaderKilobytesMax = 8192;

base::ConfigResult<void> readHttp2(const core::Http2ProtocolOptions& message, std::string path,
                                   Cluster& out) {
  BuildErrors errors;
  readHttp2Options(message, Place(path, errors), out.h2);
  if (errors.failed()) return std::unexpected(errors.error());
  return {};
}

base::ConfigResult<void> readHttp1(const core::Http1ProtocolOptions& message, std::string path,
                                   Cluster& out) {
  out.h1_trailers = message.enable_trailers();
  out.h1_absolute_form = message.send_fully_qualified_url();
  out.h1_chunked_beats_length = message.allow_chunked_length();
  if (!message.has_header_key_format()) return {};
  BuildErrors errors;
  out.h1_header_case = readHeaderCase(message.header_key_format(),
                                      Place(joinPath(path, "header_key_format"), errors));
  if (errors.failed()) return std::unexpected(errors.error());
  return {};
}

base::ConfigResult<void> readCommon(const core::HttpProtocolOptions& message, std::string_view path,
                                    Cluster& out) {
  if (message.has_idle_timeout()) {
    POSTERN_TRY(out.idle_timeout,
                readDuration(message.idle_timeout(), joinPath(path, "idle_timeout")));
  }
  if (message.has_max_connection_duration()) {
    POSTERN_TRY(
        out.connection_duration_max,
        readDuration(message.max_connection_duration(), joinPath(path, "max_connection_duration")));
  }
  if (message.has_max_stream_duration()) {
    POSTERN_TRY(out.stream_duration_max,
                readDuration(message.max_stream_duration(), joinPath(path, "max_stream_duration")));
  }
  if (message.has_max_requests_per_connection())
    out.requests_per_connection_max = message.max_requests_per_connection().value();
  if (message.has_max_headers_count()) {
    out.response_header_count_max = message.max_headers_count().value();
    if (out.response_header_count_max == 0)
      return base::failConfig(joinPath(path, "max_headers_count"), "must be at least 1");
  }
  if (message.has_max_response_headers_kb()) {
    const std::uint32_t kilobytes = message.max_response_headers_kb().value();
    if (kilobytes == 0 || kilobytes > kAnswerHeaderKilobytesMax) {
      return base::failConfig(joinPath(path, "max_response_headers_kb"), "must be from 1 to 8192");
    }
    out.response_header_bytes_max = std::size_t{kilobytes} * 1024;
    out.h1_response_header_bytes_max = out.response_header_bytes_max;
  }
  return {};
}

base::ConfigResult<void> readProtocol(const upstreams::HttpProtocolOptions& options,
                                      std::string_view path, Cluster& out) {
  switch (options.upstream_protocol_options_case()) {
    case upstreams::HttpProtocolOptions::kExplicitHttpConfig: {
      const auto& config = options.explicit_http_config();
      if (config.has_http2_protocol_options()) {
        out.codec = UpstreamCodec::kHttp2;
        return readHttp2(config.http2_protocol_options(),
                         joinPath(path, "explicit_http_config.http2_protocol_options"), out);
      }
      if (!config.has_http_protocol_options())
        return base::failConfig(joinPath(path, "explicit_http_config"), "must name a protocol");
      out.codec = UpstreamCodec::kHttp1;
      return readHttp1(config.http_protocol_options(),
                       joinPath(path, "explicit_http_config.http_protocol_options"), out);
    }
    case upstreams::HttpProtocolOptions::kUseDownstreamProtocolConfig:
      out.codec = UpstreamCodec::kAsDownstream;
      POSTERN_TRY_VOID(
          readHttp1(options.use_downstream_protocol_config().http_protocol_options(),
                    joinPath(path, "use_downstream_protocol_config.http_protocol_options"), out));
      return readHttp2(options.use_downstream_protocol_config().http2_protocol_options(),
                       joinPath(path, "use_downstream_protocol_config.http2_protocol_options"),
                       out);
    case upstreams::HttpProtocolOptions::kAutoConfig:
      out.codec = UpstreamCodec::kByAlpn;
      POSTERN_TRY_VOID(readHttp1(options.auto_config().http_protocol_options(),
                                 joinPath(path, "auto_config.http_protocol_options"), out));
      return readHttp2(options.auto_config().http2_protocol_options(),
                       joinPath(path, "auto_config.http2_protocol_options"), out);
    default:
      return base::failConfig(joinPath(path, "upstream_protocol_options"), "is required");
  }
}

}  // namespace

base::ConfigResult<void> readUpstreamHttp(const cluster::Cluster& message, std::string_view path,
                                          Cluster& out) {
  if (message.has_max_requests_per_connection())
    out.requests_per_connection_max = message.max_requests_per_connection().value();
  POSTERN_TRY_VOID(readCommon(message.common_http_protocol_options(),
                              joinPath(path, "common_http_protocol_options"), out));
  POSTERN_TRY_VOID(
      readHttp1(message.http_protocol_options(), joinPath(path, "http_protocol_options"), out));
  if (message.has_http2_protocol_options()) {
    out.codec = UpstreamCodec::kHttp2;
    POSTERN_TRY_VOID(
        readHttp2(message.http2_protocol_options(), joinPath(path, "http2_protocol_options"), out));
  }
  for (const auto& [name, any] : message.typed_extension_protocol_options()) {
    const std::string at = joinPath(path, "typed_extension_protocol_options") + "[" + name + "]";
    if (name != kHttpOptions) return base::failConfig(at, "is not supported");
    upstreams::HttpProtocolOptions options;
    if (!api::unpack(any, options))
      return base::failConfig(at, std::string("must be a ") + kHttpOptions);
    POSTERN_TRY_VOID(readCommon(options.common_http_protocol_options(),
                                joinPath(at, "common_http_protocol_options"), out));
    POSTERN_TRY_VOID(readProtocol(options, at, out));
    const std::string& socket = message.transport_socket().typed_config().type_url();
    if (out.codec == UpstreamCodec::kByAlpn &&
        (!message.has_transport_socket() || socket.ends_with("RawBuffer"))) {
      return base::failConfig(joinPath(at, "auto_config"),
                              "needs a transport_socket that negotiates a protocol (TLS)");
    }
  }
  return {};
}

}  // namespace postern::proxy
