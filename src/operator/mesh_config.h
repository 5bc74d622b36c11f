// The mesh configuration that the mesh resource stands for, as the ConfigMap `istio` (keys `mesh`
// and `meshNetworks`): what other tools of the ecosystem read. Discovery itself follows the
// resource. Pure.
#pragma once

#include "json/json.h"

namespace postern::op {

/// The ConfigMap, owned by the mesh resource. `spec` is the defaulted spec of `mesh`.
json::Json meshConfigMap(const json::Json& mesh, const json::Json& spec);

}  // namespace postern::op
