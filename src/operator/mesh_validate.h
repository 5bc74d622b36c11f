// What admission refuses of `Istio` and `MeshGateway` objects, by field path. Pure; any thread.
#pragma once

#include "base/error.h"
#include "json/json.h"

#include <string_view>
#include <vector>

namespace postern::op {

/// Errors of one object of these kinds; empty when it may be stored.
std::vector<base::ConfigError> validateMesh(std::string_view kind, const json::Json& object);

}  // namespace postern::op
