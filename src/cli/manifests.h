// The files of deploy/, inside the program. Static storage; any thread.
#pragma once

#include "json/json.h"

#include <span>
#include <string_view>
#include <vector>

namespace postern::cli {

struct Manifest {
  std::string_view name;  // below deploy/: "crds/istio.banzaicloud.io_istios.yaml"
  std::string_view text;
};

/// Generated from deploy/ by the build.
std::span<const Manifest> manifests();

/// The objects of all files whose name begins with `prefix`, in order.
std::vector<json::Json> manifestObjects(std::string_view prefix);

}  // namespace postern::cli
