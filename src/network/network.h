// The pod network as the node agent sees it: a bridge in the node's namespace, a link per pod, the
// service rules in every pod's namespace, the cluster's DNS server, and the table of load balancer
// addresses that the relay works from. Runs threads of its own; attach and detach block for some
// milliseconds and may be called from any thread. Everything it makes in namespaces stays when it
// is destroyed or killed, so that pods go on; the next start takes it over.
//
// Must be used in the node's network namespace, as a user that may change it. From there, what is
// not of the cluster (10.96.0.1:443, the API server, included) is reached through the relay by
// ordinary sockets: a kube::Client with server "https://10.96.0.1:443" works once start() returned.
#pragma once

#include "base/error.h"
#include "network/external.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::kube {
class Client;
}

namespace postern::network {

inline constexpr const char* kNodeAddress = "10.244.0.1";  // of the bridge: the pods' gateway
inline constexpr const char* kDnsServiceAddress = "10.96.0.10";
inline constexpr const char* kApiServiceAddress = "10.96.0.1";
/// Addresses 10.244.0.2 to 10.244.0.254.
inline constexpr std::size_t kPodAddressesMax = 253;

struct NetworkOptions {
  /// Where host-sockets.sock is (for DNS), and where the relay's table is written.
  std::string run_folder;
  /// Names that stand for local servers (`--external`).
  std::vector<External> externals;
  /// The host's resolvers; none there: other names are answered with SERVFAIL at once.
  std::string resolv_conf = "/etc/resolv.conf";
};

class Network {
 public:
  virtual ~Network() = default;
  /// Makes (or takes over) bridge and rules of the node's namespace and starts the DNS server.
  static base::Result<std::unique_ptr<Network>> start(NetworkOptions options);

  /// Starts following Services and EndpointSlices; the client must outlive this object. Until the
  /// first lists arrived, rules that are already in force stay as they are.
  virtual void follow(kube::Client& client) = 0;

  /// Gives the pod its link "eth0", address and default route, sets its loopback up and its service
  /// rules. `wanted_ip` (from an earlier life; may be empty) is used if it is free. A pod that is
  /// attached already (in this or an earlier process) keeps its address: call this for every pod
  /// that is adopted after a restart. The descriptor is not kept by the caller's number.
  virtual base::Result<std::string> attach(const std::string& pod_uid, int netns_fd,
                                           const std::string& wanted_ip) = 0;
  /// Removes the link; the address becomes free. Harmless when there is none.
  virtual void detach(const std::string& pod_uid) = 0;
  /// Removes the links of all pods but these: call once after a restart, when all pods that live
  /// were attached again.
  virtual void detachAllBut(const std::vector<std::string>& pod_uids) = 0;

  /// The text of /etc/resolv.conf for pods of a namespace.
  static std::string resolvConf(std::string_view pod_namespace);
};

}  // namespace postern::network
