// Access logs and their filters, for the other builders.
#pragma once

#include "proxy/config_matchers.h"
#include "proxy/http_config.h"

#include <string_view>
#include <vector>

namespace envoy::config::accesslog::v3 {
class AccessLog;
class AccessLogFilter;
}  // namespace envoy::config::accesslog::v3

namespace postern::proxy {

LogFilter readLogFilter(const envoy::config::accesslog::v3::AccessLogFilter& message,
                        const Place& place);
std::vector<AccessLogConfig> readAccessLogs(
    const Repeated<envoy::config::accesslog::v3::AccessLog>& messages, const Place& place,
    std::string_view name);

}  // namespace postern::proxy
