// Host names: completing short ones, wildcard matching and specificity.
#pragma once

#include "model/types.h"

#include <string>
#include <string_view>
#include <vector>

namespace postern::model {

/// "x" → "x.<ns>.svc.<domain>"; a name with a dot or a wildcard is taken as is.
std::string completeHost(std::string_view host, std::string_view ns, std::string_view domain);
/// Whether `pattern` ("*", "*.a.b" or exact) covers `host`, which may be a pattern itself.
bool hostCovers(std::string_view pattern, std::string_view host);
/// The narrower of two overlapping patterns, or "".
std::string hostIntersection(std::string_view a, std::string_view b);
/// Exact beats wildcard, longer beats shorter, "*" is last. Larger is more specific.
std::size_t hostSpecificity(std::string_view pattern);
/// Whether an exportTo list of an object in `ns` lets `viewer` see it (empty: everybody).
bool exportedTo(const std::vector<std::string>& export_to, std::string_view ns,
                std::string_view viewer);
/// Whether each of `wanted` is in `labels`.
bool labelsContain(const Labels& labels, const Labels& wanted);

}  // namespace postern::model
