// JSON and YAML without exceptions: nlohmann::json behind functions that return values. Include
// <nlohmann/json_fwd.hpp> through this header; a .cc that touches values includes
// <nlohmann/json.hpp> itself.
#pragma once

#include "base/error.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace postern::json {

using Json = nlohmann::json;

/// Largest nesting accepted from outside; deeper input is an error, not a stack overflow.
inline constexpr int kDepthMax = 200;

/// RFC 8259. The error text names line and column.
base::ConfigResult<Json> parse(std::string_view text);
/// Compact; invalid UTF-8 is replaced (never throws).
std::string dump(const Json& value);
/// Indented by `indent` spaces.
std::string dumpPretty(const Json& value, int indent = 2);

/// One YAML document as JSON values by the YAML 1.2 core schema (yes/no stay strings; quoted
/// scalars stay strings).
base::ConfigResult<Json> parseYaml(std::string_view text);
/// All documents of a stream; empty documents are left out.
base::ConfigResult<std::vector<Json>> parseYamlStream(std::string_view text);
/// Block-style YAML as kubectl prints it.
std::string dumpYaml(const Json& value);

/// Lookups that never throw: null when a step is absent. `path` is dotted:
/// "spec.template.metadata".
const Json* find(const Json& value, std::string_view path);
/// The string at a path, or `fallback`.
std::string stringAt(const Json& value, std::string_view path, std::string_view fallback = "");
/// The strings of the array there; empty when there is none, and without items of other types.
std::vector<std::string> stringsAt(const Json& value, std::string_view path);
long long integerAt(const Json& value, std::string_view path, long long fallback = 0);
bool boolAt(const Json& value, std::string_view path, bool fallback = false);

}  // namespace postern::json
