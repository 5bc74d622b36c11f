// JSON and YAML of anybody: no crash, and what was read says the same when written and read again.
#include "base/check.h"
#include "json/json.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string_view>

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto value = json::parse(text)) {
    const std::string once = json::dump(*value);
    const auto again = json::parse(once);
    POSTERN_CHECK(again && json::dump(*again) == once);
    (void)json::dumpPretty(*value);
    const auto yaml = json::parseYaml(json::dumpYaml(*value));
    POSTERN_CHECK(yaml.has_value());
  }
  if (const auto value = json::parseYaml(text)) POSTERN_CHECK(!json::dump(*value).empty());
  (void)json::parseYamlStream(text);
  return 0;
}
