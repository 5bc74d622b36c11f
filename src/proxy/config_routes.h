// Route configuration from JSON; the part of the configuration builder that static and discovered
// routes share.
#pragma once

#include "proxy/config.h"
#include "proxy/config_reader.h"

namespace postern::proxy {

RouteTable readRoutes(Fields fields);
/// Appends the members of a WeightedCluster message.
void readWeighted(Fields& fields, std::vector<WeightedCluster>& out);

}  // namespace postern::proxy
