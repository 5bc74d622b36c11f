// kind Table (meta.k8s.io/v1): the columns and cells that kubectl get prints, for built-in kinds
// and for custom ones by their additionalPrinterColumns. Pure functions.
#pragma once

#include "apiserver/status.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace postern::apiserver {

using WallTime = std::chrono::system_clock::time_point;

enum class ArrayStyle : unsigned char { kBrackets /* [a b] */, kJson /* ["a","b"] */ };

struct TableOptions {
  WallTime now;
  ArrayStyle arrays = ArrayStyle::kBrackets;
  const Json* printer_columns = nullptr;  // custom kinds; null or empty: Name and Age
};

Json columnDefinitions(const schema::Kind& kind, const TableOptions& options);
Json cellsOf(const schema::Kind& kind, const Json& object, const TableOptions& options);

/// "29m", "5h3m", …: ages as kubectl shows them.
std::string humanDuration(std::chrono::seconds age);
std::string ageOf(const std::string& timestamp, WallTime now);
/// RFC 3339, UTC, seconds.
std::string formatTime(WallTime time);
bool parseTime(std::string_view text, WallTime& out);
/// First result of a simple JSONPath (".status.x", ".items[0].a", ".a[?(@.type==\"b\")].c",
/// ".a[*]"); null if none.
const Json* jsonPath(const Json& object, std::string_view path);

}  // namespace postern::apiserver
