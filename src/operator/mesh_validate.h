// What admission refuses of `Istio` and `MeshGateway` objects, and what it warns of, by field path.
// Pure; any thread.
#pragma once

#include "base/error.h"
#include "json/json.h"

#include <string_view>
#include <vector>

namespace postern::op {

/// Errors of one object of these kinds; empty when it may be stored.
std::vector<base::ConfigError> validateMesh(std::string_view kind, const json::Json& object);

/// Settings of an `Istio` object that are stored and have no effect: of components that this mesh
/// does not run, or not implemented yet. What is switched off asks for nothing and is not named.
std::vector<base::ConfigError> meshWarnings(std::string_view kind, const json::Json& object);

}  // namespace postern::op
