// Links, addresses and routes by rtnetlink, in the network namespace of the thread that opened the
// connection. Blocking, a round trip per call; one thread. IPv4 only.
#pragma once

#include "base/error.h"

#include <cstdint>
#include <memory>
#include <string>

struct mnl_socket;
struct nlmsghdr;

namespace postern::network {

/// A name for one end of a veth pair, and the namespace it is born in (-1: the connection's own).
struct VethEnd {
  std::string name;
  int netns_fd = -1;
};

class Netlink {
 public:
  static base::Result<Netlink> open();

  base::Result<void> addBridge(const std::string& name);
  base::Result<void> addVeth(const std::string& name, const VethEnd& peer);
  /// Makes `link` a port of `bridge`.
  base::Result<void> attach(const std::string& link, const std::string& bridge);
  base::Result<void> setUp(const std::string& link);
  base::Result<void> addAddress(const std::string& link, const std::string& ip, unsigned prefix);
  /// An empty gateway: reachable on the link itself.
  base::Result<void> addRoute(const std::string& destination, unsigned prefix,
                              const std::string& gateway, const std::string& link);
  base::Result<void> removeLink(const std::string& link);

 private:
  struct Close {
    void operator()(mnl_socket* socket) const;
  };
  explicit Netlink(mnl_socket* socket) : socket_(socket) {}
  base::Result<void> call(nlmsghdr* message, const char* what);

  std::unique_ptr<mnl_socket, Close> socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace postern::network
