// Pure generators: a view (one proxy, one snapshot) in, Envoy resources out, as JSON in the proto3
// mapping. Names and shapes are Istio's. Any thread.
#pragma once

#include "discovery/view.h"
#include "json/json.h"
#include "model/types.h"

#include <nlohmann/json.hpp>

#include <set>
#include <string>
#include <vector>

namespace postern::discovery {

struct Resource {
  std::string name;
  json::Json config;                   // the resource, without @type
  std::vector<model::Origin> origins;  // which objects and fields caused it
};

std::vector<Resource> generateListeners(View& view);
/// The routes that this proxy's listeners name.
std::vector<Resource> generateRoutes(View& view);
std::vector<Resource> generateClusters(View& view);
/// Assignments of every EDS cluster of the proxy.
std::vector<Resource> generateEndpoints(View& view);

}  // namespace postern::discovery
