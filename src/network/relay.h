// The relay joins the cluster's network and the host's. Two processes: the outer half, in the
// host's namespaces, only makes sockets (host-sockets.sock, see socket_provider.h); the inner half,
// in the node's network namespace, takes what the node's rules redirect to it, gets host sockets
// from the outer half and copies bytes; it also accepts on the host's load balancer addresses and
// makes sockets in the pod network (cluster-sockets.sock). Each half ends when the other does;
// nothing but the two sockets' files stays.
//
// What the inner half listens for on the host is in `relay.json` of the run folder, written by
// Network; so a dead node agent changes nothing, and a new relay finds its table. What came of it
// is in `relay-status.json`, which Network turns into Events and an annotation of the Services.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "net/address.h"
#include "network/external.h"

#include <cstdint>
#include <string>
#include <vector>

namespace postern::network {

/// Where the node's rules redirect to, in the node's namespace.
inline constexpr std::uint16_t kRelayPort = 15999;
inline constexpr std::size_t kRelayConnectionsMax = 8192;

struct RelayOptions {
  std::string run_folder;
  net::Address api_server;  // of the host; what 10.96.0.1:443 leads to
  std::vector<External> externals;
};

/// Runs both halves: forks the inner one, which calls `enter_node` first (it must join the node's
/// user and network namespaces and keep the mount namespace of the host; joining the pid namespace
/// and forking again is fine as long as it returns in the process that is to go on). Call with one
/// thread only. Returns when SIGTERM or SIGINT came (0), or the other half ended or could not start
/// (1): start it again.
int runRelay(const RelayOptions& options, base::Function<base::Result<void>()> enter_node);

/// `enter_node` for the namespaces of a process: joins its user (if it is another), network and pid
/// namespaces, so that the inner half ends with it.
base::Result<void> enterNodeOf(int pid);

}  // namespace postern::network
