// The load balancer addresses as listeners of the host: follows relay.json, gets listening sockets
// from the outer half, joins what they accept to the service's cluster address, and writes what
// came of each to relay-status.json. One loop, in the node's network namespace.
#pragma once

#include "net/socket.h"
#include "network/file_watch.h"
#include "network/relay_table.h"
#include "network/splice_join.h"

#include <chrono>
#include <map>
#include <memory>
#include <string>

namespace postern::network {

/// A port below 1024 that the kernel refuses is served at this much more.
inline constexpr std::uint16_t kHighPortOffset = 10000;
inline constexpr std::chrono::seconds kListenAgain{2};

class LoadBalancers {
 public:
  LoadBalancers(event::Loop& loop, std::string run_folder, SocketProvider& host, SpliceJoin& join);
  ~LoadBalancers();

 private:
  struct Listener;
  void readTable();
  void listen(Listener& listener, std::uint16_t port);
  void opened(Listener& listener, std::uint16_t port, base::Result<base::Fd> socket);
  void writeStatus();

  event::Loop& loop_;
  const std::string run_folder_;
  SocketProvider& host_;
  SpliceJoin& join_;
  std::map<std::string, std::unique_ptr<Listener>> listeners_;  // by "address:port"
  std::string status_;                                          // as last written
  event::Timer status_timer_;
  std::unique_ptr<FileWatch> watch_;
};

/// What a person reads of a listener that is served at another port than it should (error 0), or
/// whose socket at `port` was refused with this errno. "" when all is well.
std::string listenMessage(const RelayListener& listener, std::uint16_t port, int error);

}  // namespace postern::network
