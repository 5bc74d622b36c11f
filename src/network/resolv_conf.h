// The name servers of a resolv.conf.
#pragma once

#include "net/address.h"

#include <string>
#include <vector>

namespace postern::network {

inline constexpr std::size_t kResolversMax = 3;

/// In order, port 53; none when the file is absent or names none.
std::vector<net::Address> resolversIn(const std::string& path);

}  // namespace postern::network
