// What one connection asked for of one type, and what it holds: the state behind a push, without
// streams or messages. Internal to this folder.
#pragma once

#include "xds/types.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace postern::xds {

inline constexpr std::size_t kNamesMax = 100'000;

struct Subscription {
  bool subscribed = false;
  bool wildcard = false;
  std::set<std::string, std::less<>> names;  // subscribed by name
  std::map<std::string, std::string, std::less<>>
      held;                 // name → version; "" when told that it is absent
  std::string nonce;        // of the unacknowledged response, or empty
  bool unanswered = false;  // a first subscription is answered even by nothing

  bool wants(std::string_view name) const { return wildcard || names.contains(name); }
  bool has(std::string_view name, std::string_view version) const {
    const auto found = held.find(name);
    return found != held.end() && found->second == version;
  }
  /// Asks anew for something already sent.
  void forget(std::string_view name);
  /// The names to report as removed: what is held and gone, and what was asked for by name and does
  /// not exist (once).
  std::vector<std::string> takeAbsent(const std::set<std::string, std::less<>>& present);
};

}  // namespace postern::xds
