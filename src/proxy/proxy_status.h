// The proxy-status header (RFC 9209) of answers that this proxy makes because something failed.
#pragma once

#include "formatter/access_record.h"
#include "proxy/http_config.h"

#include <string_view>

namespace postern::proxy {

/// What the response flags of a finished or failing request say, by RFC 9209 2.3.
struct ProxyError {
  std::string_view name;  // empty: nothing failed here
  int status = 0;         // what the RFC recommends; 0: nothing
};
ProxyError proxyErrorOf(const formatter::AccessRecord& record);

/// Adds the header to an answer when something failed; `node_id` is this proxy's.
void addProxyStatus(const ProxyStatus& config, std::string_view server_name,
                    std::string_view node_id, const formatter::AccessRecord& record,
                    http::HeaderMap& headers);

}  // namespace postern::proxy
