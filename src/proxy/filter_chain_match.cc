#include "proxy/filter_chain_match.h"

#include "base/strings.h"

#include <algorithm>

namespace postern::proxy {

namespace {

using Chains = std::vector<const std::shared_ptr<const FilterChain>*>;

/// How well one criterion fits: 0 not, 1 it is not given, more for more specific.
using Rank = std::size_t;

Rank rangeRank(const std::vector<net::Cidr>& ranges, const net::Address& address) {
  if (ranges.empty()) return 1;
  Rank best = 0;
  for (const net::Cidr& range : ranges) {
    if (range.contains(address)) best = std::max<Rank>(best, range.prefixBits() + 2);
  }
  return best;
}

Rank serverNameRank(const std::vector<std::string>& names, std::string_view name) {
  if (names.empty()) return 1;
  Rank best = 0;
  for (const std::string& each : names) {
    if (name.empty()) continue;
    if (each == name) return 1 << 20;
    if (!each.starts_with("*.")) continue;
    const std::string_view suffix = std::string_view(each).substr(1);
    if (name.size() > suffix.size() && name.ends_with(suffix))
      best = std::max(best, suffix.size() + 1);
  }
  return best;
}

Rank protocolsRank(const std::vector<std::string>& wanted, const std::vector<std::string>& got) {
  if (wanted.empty()) return 1;
  // The client's order decides between chains.
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::find(wanted.begin(), wanted.end(), got[i]) != wanted.end()) return 2 + got.size() - i;
  }
  return 0;
}

Rank sourceTypeRank(SourceType type, const ConnectionFacts& facts) {
  if (type == SourceType::kAny) return 1;
  const bool local = !facts.source.isIp() || facts.source.isLoopback() ||
                     facts.source.ip() == facts.destination.ip();
  return (type == SourceType::kSameIpOrLoopback) == local ? 2 : 0;
}

/// Keeps the chains of the best rank.
template <class F>
void narrow(Chains& chains, F&& rank_of) {
  Rank best = 0;
  std::vector<Rank> ranks;
  for (const auto* chain : chains) {
    ranks.push_back(rank_of((*chain)->match));
    best = std::max(best, ranks.back());
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < chains.size(); ++i) {
    if (best != 0 && ranks[i] == best) chains[kept++] = chains[i];
  }
  chains.resize(kept);
}

/// Equal values of one criterion; a criterion that is not given only meets one that is not given.
template <class T>
bool meet(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.empty() || b.empty()) return a.empty() && b.empty();
  return std::any_of(a.begin(), a.end(),
                     [&](const T& each) { return std::find(b.begin(), b.end(), each) != b.end(); });
}

}  // namespace

bool overlap(const FilterChainMatch& a, const FilterChainMatch& b) {
  return a.destination_port == b.destination_port && meet(a.prefixes, b.prefixes) &&
         meet(a.server_names, b.server_names) && a.transport_protocol == b.transport_protocol &&
         meet(a.application_protocols, b.application_protocols) &&
         meet(a.direct_sources, b.direct_sources) && a.source_type == b.source_type &&
         meet(a.sources, b.sources) && meet(a.source_ports, b.source_ports);
}

std::shared_ptr<const FilterChain> findChain(const Listener& listener,
                                             const ConnectionFacts& facts) {
  Chains chains;
  for (const auto& chain : listener.chains) chains.push_back(&chain);
  narrow(chains, [&](const FilterChainMatch& match) -> Rank {
    if (!match.destination_port) return 1;
    return *match.destination_port == facts.destination.port() ? 2 : 0;
  });
  narrow(chains, [&](const auto& match) { return rangeRank(match.prefixes, facts.destination); });
  narrow(chains,
         [&](const auto& match) { return serverNameRank(match.server_names, facts.server_name); });
  narrow(chains, [&](const FilterChainMatch& match) -> Rank {
    if (match.transport_protocol.empty()) return 1;
    return match.transport_protocol == facts.transport_protocol ? 2 : 0;
  });
  narrow(chains, [&](const auto& match) {
    return protocolsRank(match.application_protocols, facts.application_protocols);
  });
  narrow(chains,
         [&](const auto& match) { return rangeRank(match.direct_sources, facts.direct_source); });
  narrow(chains, [&](const auto& match) { return sourceTypeRank(match.source_type, facts); });
  narrow(chains, [&](const auto& match) { return rangeRank(match.sources, facts.source); });
  narrow(chains, [&](const FilterChainMatch& match) -> Rank {
    const auto& ports = match.source_ports;
    if (ports.empty()) return 1;
    return std::find(ports.begin(), ports.end(), facts.source.port()) != ports.end() ? 2 : 0;
  });
  return chains.empty() ? listener.fallback : *chains.front();
}

}  // namespace postern::proxy
