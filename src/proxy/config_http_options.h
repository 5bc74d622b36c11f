// The protocol options and extensions of a connection manager, read into its values. Internal to
// the builders.
#pragma once

#include "proxy/http_config.h"
#include "proxy/proto_fields.h"

namespace envoy::config::core::v3 {
class Http1ProtocolOptions;
class Http1ProtocolOptions_HeaderKeyFormat;
class HttpProtocolOptions;
}  // namespace envoy::config::core::v3
namespace envoy::extensions::filters::network::http_connection_manager::v3 {
class HttpConnectionManager;
}

namespace postern::proxy {

void readHttpOptions(const envoy::config::core::v3::HttpProtocolOptions& message,
                     const Place& place, HttpManager& out);
void readHttp1Options(const envoy::config::core::v3::Http1ProtocolOptions& message,
                      const Place& place, HttpManager& out);
/// How header names are written; downstream and upstream.
http::HeaderCase readHeaderCase(
    const envoy::config::core::v3::Http1ProtocolOptions_HeaderKeyFormat& message,
    const Place& place);

/// Addresses, x-forwarded-*, client certificates: everything of config_forwarding.cc.
void readForwarding(
    const envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager&
        message,
    const Place& place, HttpManager& out);

}  // namespace postern::proxy
