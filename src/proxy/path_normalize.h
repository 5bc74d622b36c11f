// The path of a request as the connection manager wants it: escaped slashes, RFC 3986
// normalisation, merged slashes; in Envoy's order, the query untouched. Pure.
#pragma once

#include "proxy/http_config.h"

#include <string>
#include <string_view>

namespace postern::proxy {

enum class PathVerdict : unsigned char {
  kUnchanged,
  kChanged,   // `out` is the new target
  kRedirect,  // `out` is where the client is sent
  kRejected,
};

/// `target` is ":path" with its query; begins with '/'.
PathVerdict normalizePath(const HttpManager& config, std::string_view target, std::string& out);

/// Host without what the manager strips: its port, a trailing dot. A view into `host`, or into
/// `storage` when both are there.
std::string_view stripHost(const HttpManager& config, std::string_view host,
                           std::uint16_t local_port, std::string& storage);

}  // namespace postern::proxy
