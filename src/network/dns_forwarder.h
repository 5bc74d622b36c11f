// Asks the host's resolvers. Sockets come from the host's network namespace (SocketProvider), since
// the node's own has no way out for UDP. A resolver that does not answer is left alone for a while,
// so that a machine without network does not let every look-up wait. One loop.
#pragma once

#include "base/function.h"
#include "base/random.h"
#include "event/loop.h"
#include "network/dns_message.h"
#include "network/socket_provider.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace postern::network {

inline constexpr std::size_t kDnsForwardsMax = 512;  // at once; further ones fail at once
inline constexpr std::chrono::milliseconds kDnsResolverTimeout{1500};
inline constexpr std::chrono::seconds kDnsResolverRest{5};  // for one that did not answer

class DnsForwarder {
 public:
  enum class Transport : unsigned char { kUdp, kTcp };
  /// The whole reply with the query's id; "" when no resolver answered. Never called inside
  /// forward().
  using Callback = base::Function<void(std::string reply)>;

  DnsForwarder(event::Loop& loop, const std::string& host_sockets,
               std::vector<net::Address> resolvers);
  ~DnsForwarder();  // open queries are forgotten without a callback

  /// `message` was parsed as `query` by parseDnsQuery.
  void forward(std::string message, const DnsQuery& query, Transport transport, Callback callback);

 private:
  struct Resolver;
  struct Pending;
  void tryNext(Pending* pending);
  void send(Pending* pending, Resolver& resolver);
  void openSocket(Resolver& resolver);
  void readable(Resolver& resolver);
  void failed(Resolver& resolver);
  void connectTcp(Pending* pending, Resolver& resolver);
  void tcpReady(Pending* pending);
  void finish(Pending* pending, std::string reply);
  std::uint16_t freshId();

  event::Loop& loop_;
  base::Random random_;
  SocketProvider sockets_;
  std::vector<std::unique_ptr<Resolver>> resolvers_;
  std::vector<std::unique_ptr<Pending>> pending_;
};

}  // namespace postern::network
