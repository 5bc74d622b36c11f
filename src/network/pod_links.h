// The node's bridge and the link of each pod: made, found again after a restart (the pod's uid is
// the alias of its link), removed. Blocking, a few milliseconds; one thread at a time, in the
// node's network namespace. Addresses: 10.244.0.2 to 10.244.0.254, given in turn so that one that
// became free is not at once another pod's.
#pragma once

#include "base/error.h"
#include "network/netlink.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace postern::network {

inline constexpr const char* kBridge = "postern0";

class PodLinks {
 public:
  /// Makes what is not there yet of bridge, address and default route (which leads to the relay's
  /// redirect), and reads the pods' links.
  static base::Result<PodLinks> open();

  /// See Network::attach.
  base::Result<std::string> attach(const std::string& uid, int netns_fd, const std::string& wanted);
  void detach(const std::string& uid);
  std::vector<std::string> uids() const;

 private:
  explicit PodLinks(Netlink node) : node_(std::move(node)) {}
  base::Result<void> setUpNode();
  base::Result<void> readLinks();
  bool isTaken(unsigned number) const;
  base::Result<unsigned> choose(const std::string& wanted);
  base::Result<void> connect(const std::string& uid, int netns_fd, unsigned number);

  Netlink node_;
  std::map<std::string, unsigned> numbers_;  // by pod uid; the address's last byte
  unsigned last_ = 1;
};

}  // namespace postern::network
