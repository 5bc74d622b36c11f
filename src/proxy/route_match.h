// Selects the filter chain of a connection, in Envoy's order. Pure functions over immutable
// configuration.
#pragma once

#include "proxy/config.h"

namespace postern::proxy {

/// The chain for a connection: the most specific destination port, address range, server name,
/// transport and application protocol, in that order; null when none fits.
struct ConnectionFacts {
  net::Address destination;
  std::string server_name;
  std::string transport_protocol = "raw_buffer";
  std::string application_protocol;
};
const FilterChain* findChain(const Listener& listener, const ConnectionFacts& facts);

}  // namespace postern::proxy
