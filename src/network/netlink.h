// Links, addresses and routes by rtnetlink, in the network namespace of the thread that opened the
// connection. Blocking, a round trip per call; one thread. IPv4 only.
#pragma once

#include "base/error.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct mnl_socket;
struct nlmsghdr;

namespace postern::network {

/// A name for one end of a veth pair, and the namespace it is born in (-1: the connection's own).
struct VethEnd {
  std::string name;
  int netns_fd = -1;
  std::string mac;  // empty: the kernel chooses
};

struct LinkInfo {
  std::string name;
  std::string alias;
};

class Netlink {
 public:
  static base::Result<Netlink> open();

  /// A bridge without an address of its own changes it as ports come and go, which breaks what
  /// others have learnt: give it one ("02:00:0a:f4:00:01").
  base::Result<void> addBridge(const std::string& name, const std::string& mac = "");
  base::Result<void> addVeth(const std::string& name, const VethEnd& peer);
  /// Makes `link` a port of `bridge`.
  base::Result<void> attach(const std::string& link, const std::string& bridge);
  base::Result<void> setUp(const std::string& link);
  base::Result<void> addAddress(const std::string& link, const std::string& ip, unsigned prefix);
  /// An empty gateway: reachable on the link itself.
  base::Result<void> addRoute(const std::string& destination, unsigned prefix,
                              const std::string& gateway, const std::string& link);
  base::Result<void> removeLink(const std::string& link);
  /// A text of at most 255 bytes that the kernel keeps with the link.
  base::Result<void> setAlias(const std::string& link, const std::string& alias);
  /// Waits until the link carries packets: the kernel activates an end of a veth pair some time
  /// after its peer came up, and drops what is sent before.
  base::Result<void> waitUp(const std::string& link);
  /// All links of the namespace.
  base::Result<std::vector<LinkInfo>> links();

 private:
  struct Close {
    void operator()(mnl_socket* socket) const;
  };
  explicit Netlink(mnl_socket* socket) : socket_(socket) {}
  base::Result<void> call(nlmsghdr* message, const char* what);
  base::Result<void> exchange(nlmsghdr* message, const char* what,
                              int (*take)(const nlmsghdr*, void*), void* data);

  std::unique_ptr<mnl_socket, Close> socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace postern::network
