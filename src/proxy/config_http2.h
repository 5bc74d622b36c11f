// Http2ProtocolOptions of a connection manager or a cluster, as limits of HTTP/2 connections. Every
// field is honoured or refused.
#pragma once

#include "http/h2_limits.h"
#include "proxy/proto_fields.h"

namespace envoy::config::core::v3 {
class Http2ProtocolOptions;
}

namespace postern::proxy {

void readHttp2Options(const envoy::config::core::v3::Http2ProtocolOptions& message,
                      const Place& place, http::H2Limits& out);

}  // namespace postern::proxy
