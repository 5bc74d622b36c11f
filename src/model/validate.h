// What admission refuses, with field paths and Istio's wording. Pure; any
// thread.
#pragma once

#include "base/error.h"
#include "json/json.h"

#include <string>
#include <string_view>
#include <vector>

namespace postern::model {

/// Errors of one object of kind Gateway, VirtualService, DestinationRule, ServiceEntry or Sidecar;
/// empty when it may be stored. Other kinds have none.
std::vector<base::ConfigError> validate(std::string_view kind, const json::Json& object);

}  // namespace postern::model
