// Kubernetes quantities ("100m", "128Mi", "1e3"): values of limits and requests.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace postern::node {

/// In thousandths; nothing when it is no quantity or too large.
std::optional<std::int64_t> quantityMilli(std::string_view text);

}  // namespace postern::node
