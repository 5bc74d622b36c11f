// Accepted but without (full) effect: what admission warns of and what the object's status says,
// with the field and one of Istio's analysis codes. Pure; any thread.
#pragma once

#include "json/json.h"
#include "model/types.h"

#include <string>
#include <string_view>
#include <vector>

namespace postern::model {

/// What the object refers to, asked of whoever knows the cluster.
class Lookup {
 public:
  virtual ~Lookup() = default;
  /// Null when there is none of this name.
  virtual const Gateway* gateway(std::string_view ns, std::string_view name) const = 0;
  virtual bool hasHost(std::string_view host) const = 0;
  /// Whether some DestinationRule gives the host this subset.
  virtual bool hasSubset(std::string_view host, std::string_view subset) const = 0;
  /// Whether some pod has these labels.
  virtual bool hasWorkload(const Labels& selector) const = 0;
  /// "ns/name" of the oldest VirtualService that sidecars obey for exactly this host, or "".
  virtual std::string meshRuleOf(std::string_view host) const = 0;
  /// "ns/name" of an older Gateway that opens this server's port on a common pod for another kind
  /// of traffic (HTTP, TLS, TCP), so that the server is not opened there; or "".
  virtual std::string portTakenBy(const Gateway& gateway, const Server& server) const = 0;
};

struct Finding {
  enum class Level : unsigned char { kWarning, kError } level = Level::kWarning;
  std::string path;
  std::string text;
  const char* code = "IST0133";
  const char* name = "SchemaWarning";
  std::string message() const { return path.empty() ? text : path + ": " + text; }
};

/// `lookup` may be null: then only what the object shows by itself. Kinds without findings have
/// none.
std::vector<Finding> findings(std::string_view kind, const json::Json& object,
                              const Lookup* lookup);

/// The object's status with the findings in it: condition PassedValidation and validationMessages,
/// everything else kept. Null when nothing has to be written (also for an object that never had
/// findings). `now` is RFC 3339.
json::Json statusWith(const json::Json& object, const std::vector<Finding>& findings,
                      std::string_view now);

}  // namespace postern::model
