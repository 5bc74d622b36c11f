// Parts of the route builder that the HTTP connection manager's and the TCP proxy's need too.
#pragma once

#include "proxy/http_config.h"
#include "proxy/proto_fields.h"

namespace envoy::config::route::v3 {
class RouteConfiguration;
}

namespace postern::proxy {

RouteTable readRoutes(const envoy::config::route::v3::RouteConfiguration& message,
                      const Place& place);
/// Fills what selection needs: domains and the index of each virtual host. Fails on a domain that
/// two virtual hosts claim.
void indexRoutes(RouteTable& table, const Place& place);

}  // namespace postern::proxy
