// Objects against schemas, both of anybody: {"schema": …, "object": …}. What was pruned and
// defaulted once does not change again.
#include "base/check.h"
#include "schema/structural.h"
#include "schema/types.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string_view>

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto input = json::parse(text);
  if (!input || !input->is_object()) return 0;
  json::Json object = input->value("object", json::Json());
  json::Json plain = object;
  if (const auto* type = schema::builtinType("v1", "Pod")) (void)schema::checkType(plain, *type);
  const json::Json schema = input->value("schema", json::Json());
  (void)schema::checkStructural(schema, "spec");
  (void)schema::prune(object, schema);
  POSTERN_CHECK(schema::prune(object, schema).empty());
  schema::applyDefaults(object, schema);
  POSTERN_CHECK(schema::validate(object, schema).size() <= schema::kCausesMax);
  return 0;
}
