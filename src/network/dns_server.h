// The cluster's name server, UDP and TCP: names of the cluster from a snapshot (DnsNames), all
// others from the host's resolvers. The pod network is IPv4: AAAA questions get an empty answer,
// whatever a resolver knows. One loop.
#pragma once

#include "event/loop.h"
#include "net/socket.h"
#include "network/dns_forwarder.h"
#include "network/dns_message.h"
#include "network/dns_names.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace postern::network {

inline constexpr std::size_t kDnsStreamsMax = 256;  // TCP connections; more are closed at once
inline constexpr std::chrono::seconds kDnsStreamIdle{10};

class DnsServer {
 public:
  struct Options {
    net::Address address;
    std::vector<net::Address> resolvers;
    std::string host_sockets;  // path of the socket provider
    std::shared_ptr<const DnsNames> names;
  };
  static base::Result<std::unique_ptr<DnsServer>> start(event::Loop& loop, Options options);
  ~DnsServer();
  void setNames(std::shared_ptr<const DnsNames> names) { names_ = std::move(names); }
  /// Where it listens (a port of 0 was replaced by the kernel's choice).
  const net::Address& address() const { return acceptor_->local(); }

 private:
  struct Stream;
  using Reply = base::Function<void(std::string)>;
  DnsServer(event::Loop& loop, Options options);
  void readable();
  void accepted(base::Fd connection);
  void closeStream(Stream* stream);
  void answer(std::string message, DnsForwarder::Transport transport, Reply reply);
  void forward(std::string message, const DnsQuery& query, DnsForwarder::Transport transport,
               Reply reply);
  void followAlias(const DnsQuery& query, const std::string& alias, std::size_t bytes_max,
                   Reply reply);

  event::Loop& loop_;
  std::shared_ptr<const DnsNames> names_;
  DnsForwarder forwarder_;
  base::Fd udp_;
  event::FdWatch udp_watch_;
  event::Timer udp_again_;
  std::unique_ptr<net::Acceptor> acceptor_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

/// The records of `found` that answer a question of this type; addresses begin with another one
/// each time (`turn`).
std::vector<DnsRecord> dnsRecords(const DnsFound& found, std::uint16_t type, std::size_t turn);

}  // namespace postern::network
