// Structural schemas (the openAPIV3Schema of a CustomResourceDefinition): prune unknown fields,
// fill defaults, validate. Pure functions over JSON; any thread. Schemas were checked when the
// definition was accepted, so a malformed node here simply restricts nothing.
#pragma once

#include "json/json.h"

#include <string>
#include <vector>

namespace postern::schema {

/// One thing wrong with an object, as a Status cause.
struct Cause {
  std::string reason;   // "FieldValueInvalid", …
  std::string field;    // "spec.ports[0].name"
  std::string message;  // "Invalid value: …"
};

inline constexpr std::size_t kCausesMax = 50;

/// Removes fields the schema does not know; returns their paths. The root's apiVersion, kind and
/// metadata are never touched.
std::vector<std::string> prune(json::Json& object, const json::Json& schema);
/// Fills in defaults of absent fields (and of null ones that are not nullable).
void applyDefaults(json::Json& object, const json::Json& schema);
/// All violations, at most kCausesMax.
std::vector<Cause> validate(const json::Json& object, const json::Json& schema);
/// What is wrong with the schema itself, below `path`.
std::vector<Cause> checkStructural(const json::Json& schema, const std::string& path);

}  // namespace postern::schema
