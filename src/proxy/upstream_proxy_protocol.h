// The PROXY header that connections to a cluster begin with, and its configuration. Pure functions.
#pragma once

#include "base/error.h"
#include "proxy/config.h"
#include "proxy/connection_facts.h"

#include <string>
#include <string_view>

namespace envoy::config::core::v3 {
class ProxyProtocolConfig;
}

namespace postern::stats {
class Scope;
}

namespace postern::proxy {

/// Addresses that the protocol cannot tell (Unix sockets, mixed families) become UNKNOWN (version
/// 1) or LOCAL (version 2). TLVs that do not fit are left out and counted.
std::string writeUpstreamHeader(const UpstreamProxyProtocol& config,
                                const ConnectionFacts& downstream, stats::Scope& cluster_stats);

base::ConfigResult<UpstreamProxyProtocol> buildUpstreamProxyProtocol(
    const envoy::config::core::v3::ProxyProtocolConfig& message, std::string_view path);

}  // namespace postern::proxy
