// Which filter chain of a listener takes a connection. Pure functions over immutable configuration.
#pragma once

#include "proxy/config.h"
#include "proxy/connection_facts.h"

#include <memory>

namespace postern::proxy {

/// Envoy's order: destination port, destination address, server name, transport protocol,
/// application protocols, directly connected source, source type, source address, source port. At
/// each step the most specific criterion that fits narrows the choice for good: there is no way
/// back. Nothing left: the default chain, or null.
std::shared_ptr<const FilterChain> findChain(const Listener& listener,
                                             const ConnectionFacts& facts);

/// True when a connection exists for which both fit equally well at each step: which one takes it
/// would be chance.
bool overlap(const FilterChainMatch& a, const FilterChainMatch& b);

}  // namespace postern::proxy
