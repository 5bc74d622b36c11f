// What is known of a downstream connection before its first filter: where it wanted to go, who made
// it, what its first bytes look like. Also keeps the configuration it was accepted under alive.
#pragma once

#include "codec/proxy_protocol.h"
#include "net/address.h"

#include <memory>
#include <string>
#include <vector>

namespace postern::proxy {

struct Listener;
struct FilterChain;
class ListenerState;

struct ConnectionFacts {
  net::Address destination;    // local address; the original one after a redirect
  net::Address source;         // who made it, as far as a PROXY header tells
  net::Address direct_source;  // the peer of the socket
  bool restored = false;       // `destination` is not the socket's own local address
  std::string server_name;
  std::string transport_protocol = "raw_buffer";
  std::vector<std::string> application_protocols;
  std::shared_ptr<const std::vector<codec::ProxyTlv>> tlvs;  // to be passed on; null: none
  std::vector<std::shared_ptr<const void>> counted;  // by connection limits, until this is gone
  std::shared_ptr<const Listener> listener;
  ListenerState* state = nullptr;  // of `listener`; stays as long as a connection counts in it
  std::shared_ptr<const FilterChain> chain;
};

}  // namespace postern::proxy
