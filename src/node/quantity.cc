#include "node/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

namespace postern::node {
namespace {

constexpr std::array<std::pair<std::string_view, double>, 17> kSuffixes = {{
    {"", 1},
    {"n", 1e-9},
    {"u", 1e-6},
    {"m", 1e-3},
    {"k", 1e3},
    {"M", 1e6},
    {"G", 1e9},
    {"T", 1e12},
    {"P", 1e15},
    {"E", 1e18},
    {"Ki", 1024.0},
    {"Mi", 1048576.0},
    {"Gi", 1073741824.0},
    {"Ti", 1099511627776.0},
    {"Pi", 1125899906842624.0},
    {"Ei", 1152921504606846976.0},
    {"e0", 1},
}};

}  // namespace

std::optional<std::int64_t> quantityMilli(std::string_view text) {
  double number = 0;
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return {};
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const auto& [name, factor] : kSuffixes) {
    if (name != suffix) continue;
    const double milli = number * factor * 1000;
    if (std::abs(milli) > 9e18) return {};
    return static_cast<std::int64_t>(std::ceil(milli - 1e-6));
  }
  return {};
}

}  // namespace postern::node
