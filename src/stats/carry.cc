#include "stats/carry.h"

#include "base/strings.h"

#include <algorithm>
#include <array>

namespace postern::stats {

namespace {

constexpr auto kSuffixes = std::to_array<std::string_view>(
    {"_active", "_buffered", ".memory_allocated", ".memory_heap_size", ".memory_physical_size",
     ".total_connections"});
constexpr std::size_t kNameBytesMax = 1024;

}  // namespace

bool addsUp(std::string_view gauge) {
  // Listeners and clusters that are active are so in each process.
  if (gauge.starts_with("listener_manager.") || gauge.starts_with("cluster_manager.")) return false;
  return std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [&](std::string_view suffix) { return gauge.ends_with(suffix); });
}

std::string encodeStats(const std::map<std::string, Stats::Value>& values) {
  std::string out;
  for (const auto& [name, value] : values) {
    if (value.number == 0 || value.kind == Stats::Value::Kind::kHistogram) continue;
    const bool gauge = value.kind == Stats::Value::Kind::kGauge;
    if (gauge && !addsUp(name)) continue;
    out.append(gauge ? "g " : "c ").append(std::to_string(value.number)).append(" ");
    out.append(name).append("\n");
  }
  return out;
}

std::map<std::string, Stats::Value> decodeStats(std::string_view text) {
  std::map<std::string, Stats::Value> out;
  for (const std::string_view line : base::split(text, '\n')) {
    const std::size_t end = line.size() > 2 ? line.find(' ', 2) : std::string_view::npos;
    if (end == std::string_view::npos || (line[0] != 'c' && line[0] != 'g')) continue;
    const auto number = base::parseInteger<std::int64_t>(line.substr(2, end - 2));
    const std::string_view name = line.substr(end + 1);
    if (!number || name.empty() || name.size() > kNameBytesMax) continue;
    Stats::Value& value = out[std::string(name)];
    value.kind = line[0] == 'g' ? Stats::Value::Kind::kGauge : Stats::Value::Kind::kCounter;
    value.used = true;
    value.number = *number;
  }
  return out;
}

}  // namespace postern::stats
