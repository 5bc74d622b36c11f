#include "proxy/route_match.h"

#include "base/strings.h"

#include <algorithm>
#include <array>

namespace postern::proxy {

namespace {

/// How well a domain fits: 0 not at all; exact above suffix above prefix above "*".
std::size_t domainRank(std::string_view domain, std::string_view host) {
  constexpr std::size_t kClass = 1 << 16;
  if (domain == "*") return 1;
  if (domain == host) return 4 * kClass;
  if (domain.starts_with('*')) {
    const std::string_view rest = domain.substr(1);
    return host.size() > rest.size() && host.ends_with(rest) ? 2 * kClass + rest.size() : 0;
  }
  if (domain.ends_with('*')) {
    const std::string_view rest = domain.substr(0, domain.size() - 1);
    return host.size() > rest.size() && host.starts_with(rest) ? kClass + rest.size() : 0;
  }
  return 0;
}

/// Rank of a list of names where an empty list fits all, weakest.
std::size_t serverNameRank(const std::vector<std::string>& names, std::string_view name) {
  if (names.empty()) return 1;
  std::size_t best = 0;
  for (const std::string& each : names) {
    const std::size_t rank = each.ends_with('*') && each != "*" ? 0 : domainRank(each, name);
    if (rank > 0 && !name.empty()) best = std::max(best, rank + 1);
  }
  return best;
}

using Rank = std::array<std::size_t, 5>;

std::optional<Rank> chainRank(const FilterChainMatch& match, const ConnectionFacts& facts) {
  Rank rank{1, 1, 1, 1, 1};
  if (match.destination_port) {
    if (*match.destination_port != facts.destination.port()) return std::nullopt;
    rank[0] = 2;
  }
  if (!match.prefixes.empty()) {
    rank[1] = 0;
    for (const net::Cidr& each : match.prefixes) {
      if (each.contains(facts.destination))
        rank[1] = std::max<std::size_t>(rank[1], each.prefixBits() + 2);
    }
  }
  rank[2] = serverNameRank(match.server_names, facts.server_name);
  if (!match.transport_protocol.empty())
    rank[3] = match.transport_protocol == facts.transport_protocol ? 2 : 0;
  if (!match.application_protocols.empty()) {
    const auto& all = match.application_protocols;
    rank[4] = std::find(all.begin(), all.end(), facts.application_protocol) != all.end() ? 2 : 0;
  }
  if (std::find(rank.begin(), rank.end(), 0U) != rank.end()) return std::nullopt;
  return rank;
}

}  // namespace

const FilterChain* findChain(const Listener& listener, const ConnectionFacts& facts) {
  const FilterChain* best = nullptr;
  Rank best_rank{};
  for (const FilterChain& chain : listener.chains) {
    auto rank = chainRank(chain.match, facts);
    if (!rank || *rank <= best_rank) continue;
    best_rank = *rank;
    best = &chain;
  }
  if (best == nullptr && listener.fallback) best = &*listener.fallback;
  return best;
}

}  // namespace postern::proxy
