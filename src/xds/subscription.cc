#include "xds/subscription.h"

namespace postern::xds {

void Subscription::forget(std::string_view name) {
  if (const auto found = held.find(name); found != held.end()) held.erase(found);
}

std::vector<std::string> Subscription::takeAbsent(
    const std::set<std::string, std::less<>>& present) {
  std::vector<std::string> out;
  for (auto entry = held.begin(); entry != held.end();) {
    if (present.contains(entry->first) || entry->second.empty()) {
      ++entry;
      continue;
    }
    out.push_back(entry->first);
    if (names.contains(entry->first)) {
      entry->second.clear();  // told now
      ++entry;
    } else {
      entry = held.erase(entry);
    }
  }
  for (const auto& name : names) {
    if (present.contains(name) || held.contains(name)) continue;
    out.push_back(name);
    held[name] = "";
  }
  return out;
}

}  // namespace postern::xds
