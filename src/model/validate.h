// What admission refuses and what it warns of, with field paths and Istio's wording. Pure; any
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

/// What the object refers to, asked of whoever knows the cluster.
class Lookup {
 public:
  virtual ~Lookup() = default;
  virtual bool hasGateway(std::string_view ns, std::string_view name) const = 0;
  virtual bool hasHost(std::string_view host) const = 0;
};

/// Accepted but without (full) effect: an absent gateway or host, a rule no request reaches, a
/// field that is not implemented. `lookup` may be null: then only what the object shows by itself.
std::vector<base::ConfigError> warnings(std::string_view kind, const json::Json& object,
                                        const Lookup* lookup);

}  // namespace postern::model
