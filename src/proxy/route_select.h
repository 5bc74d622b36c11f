// Selects the virtual host and the route of a request, in Envoy's order: the best domain, then the
// first route in the list that matches. Pure functions over immutable configuration; they allocate
// nothing for an ordinary request.
#pragma once

#include "http/headers.h"
#include "proxy/route_config.h"

#include <cstdint>
#include <string_view>

namespace postern::proxy {

/// Exact domain, longest "*.x", longest "x.*", "*"; null when none fits. `host` may have a port and
/// capital letters.
const VirtualHost* findHost(const RouteTable& table, std::string_view host);

/// The first route that matches; `random` is the request's stable value for fractions.
const Route* findRoute(const RouteTable& table, const VirtualHost& host,
                       const http::HeaderMap& headers, std::uint64_t random);

/// One of the route's clusters by weight.
const RouteCluster& chooseCluster(const ForwardAction& action, std::uint64_t random);

}  // namespace postern::proxy
