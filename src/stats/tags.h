// Envoy's default tags: which part of a statistic's name is a label, and what is left of the name.
// Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::stats {

struct TaggedStat {
  std::string name;                                       // without the tags' values
  std::vector<std::pair<std::string, std::string>> tags;  // sorted by name
};
TaggedStat extractTags(std::string_view full);

/// Every character outside [a-zA-Z0-9_] becomes '_'.
std::string prometheusName(std::string_view name);
/// Backslash, quote and newline escaped.
std::string prometheusLabel(std::string_view value);

}  // namespace postern::stats
