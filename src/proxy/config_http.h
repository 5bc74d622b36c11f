// From Envoy's messages to what the HTTP side of the proxy runs on. Every field is honoured, or
// refused by its full path (which begins with `path`). Main thread; the results are immutable.
#pragma once

#include "base/error.h"
#include "proxy/http_config.h"
#include "proxy/proto_fields.h"

#include <string_view>
#include <vector>

namespace google::protobuf {
template <typename T>
class RepeatedPtrField;
}

namespace envoy::config::accesslog::v3 {
class AccessLog;
class AccessLogFilter;
}  // namespace envoy::config::accesslog::v3
namespace envoy::config::route::v3 {
class RouteConfiguration;
}
namespace envoy::extensions::filters::network::http_connection_manager::v3 {
class HttpConnectionManager;
}

namespace postern::proxy {

/// A route table, compiled for fast selection.
base::ConfigResult<RouteTable> buildRoutes(
    const envoy::config::route::v3::RouteConfiguration& message, std::string_view path);

/// A connection manager with inline routes, or the name of those it wants by RDS.
base::ConfigResult<HttpManager> buildHttpManager(
    const envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager&
        message,
    std::string_view path);

/// The access logs of a filter or listener; `path` names the list.
base::ConfigResult<std::vector<AccessLogConfig>> buildAccessLogs(
    const google::protobuf::RepeatedPtrField<envoy::config::accesslog::v3::AccessLog>& messages,
    std::string_view path);

}  // namespace postern::proxy
