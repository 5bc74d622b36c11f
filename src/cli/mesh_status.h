// The mesh's part of `postern status`: read from the API, absent parts left out. Blocking.
#pragma once

#include "cluster/data_folder.h"
#include "json/json.h"

namespace postern::cli {

/// Adds "mesh" (and "loadBalancers", "apiError" if the API does not answer) to a status.
void addMeshStatus(const cluster::DataFolder& folder, json::Json& status);
void printMeshStatus(const json::Json& status);
/// Where a port of a LoadBalancer Service is on the host, if the host refused the port itself.
int hostPort(const json::Json& service, int port);

}  // namespace postern::cli
