// How lists of built-in kinds merge: by which key for strategic patches, by which keys for
// server-side apply. Looked up by the field's name and its parent's; values, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace postern::schema {

/// The strategic merge key of a list field, or "" when the list is replaced. `sample_has` tells
/// ports of Services from ports of containers by `parent` ("spec" or an item of "containers").
std::string_view mergeKey(std::string_view parent, std::string_view field);
/// Lists of plain values that merge as sets.
bool mergesAsSet(std::string_view parent, std::string_view field);
/// Keys of a list under server-side apply; empty: atomic.
std::vector<std::string> applyKeys(std::string_view parent, std::string_view field);
/// Objects that are one value under server-side apply (selectors and the like).
bool isAtomicMap(std::string_view parent, std::string_view field);

}  // namespace postern::schema
