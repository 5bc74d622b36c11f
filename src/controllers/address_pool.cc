#include "controllers/address_pool.h"

#include "base/strings.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include <arpa/inet.h>

namespace postern::controllers {
namespace {

std::optional<std::uint32_t> parseIpv4(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

std::string ipv4Text(std::uint32_t ip) {
  return fmt::format("{}.{}.{}.{}", ip >> 24, (ip >> 16) & 255, (ip >> 8) & 255, ip & 255);
}

}  // namespace

AddressPool::AddressPool(const std::string& cidr) : first_(1), last_(0) {
  auto slash = cidr.find('/');
  if (slash == std::string::npos) return;
  auto base = parseIpv4(cidr.substr(0, slash));
  auto bits = base::parseInteger<unsigned>(std::string_view(cidr).substr(slash + 1));
  if (!base || !bits || *bits < 8 || *bits > 30) return;
  std::uint32_t mask = ~std::uint32_t{0} << (32 - *bits);
  first_ = (*base & mask) + 1;
  last_ = (*base | ~mask) - 1;
}

std::vector<std::string> AddressPool::assign(const std::string& owner,
                                             const std::vector<std::string>& current, int count) {
  std::vector<std::string> out;
  auto wanted = static_cast<std::size_t>(std::max(count, 0));
  for (const std::string& text : current) {
    auto ip = parseIpv4(text);
    if (!ip || *ip < first_ || *ip > last_ || out.size() >= wanted) continue;
    if (owners_.emplace(*ip, owner).first->second == owner) out.push_back(text);
  }
  for (std::uint32_t ip = first_; ip <= last_ && out.size() < wanted; ++ip) {
    auto [it, added] = owners_.emplace(ip, owner);
    std::string text = ipv4Text(ip);
    bool had =
        !added && it->second == owner && std::find(out.begin(), out.end(), text) == out.end();
    if (added || had) out.push_back(std::move(text));
  }
  return out;
}

void AddressPool::release(const std::string& owner) {
  std::erase_if(owners_, [&](const auto& entry) { return entry.second == owner; });
}

}  // namespace postern::controllers
