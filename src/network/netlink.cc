#include "network/netlink.h"

#include <libmnl/libmnl.h>

#include <array>
#include <cerrno>

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>

namespace postern::network {
namespace {

constexpr std::size_t kMessageBytes = 4096;
using MessageBytes = std::array<char, kMessageBytes>;

nlmsghdr* begin(MessageBytes& bytes, std::uint16_t type, unsigned flags) {
  nlmsghdr* message = mnl_nlmsg_put_header(bytes.data());
  message->nlmsg_type = type;
  message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  return message;
}

ifinfomsg* putLink(nlmsghdr* message) {
  return static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(message, sizeof(ifinfomsg)));
}

base::Result<int> indexOf(const std::string& link) {
  const unsigned index = ::if_nametoindex(link.c_str());
  if (index == 0) return base::failErrno("netlink: no such link");
  return static_cast<int>(index);
}

base::Result<std::uint32_t> ipv4(const std::string& text) {
  in_addr out{};
  if (::inet_pton(AF_INET, text.c_str(), &out) != 1) {
    return base::fail(base::Errc::kInvalidArgument, "netlink: not an IPv4 address");
  }
  return out.s_addr;
}

base::Result<void> checkName(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return base::fail(base::Errc::kInvalidArgument, "netlink: link name empty or too long");
  }
  return {};
}

}  // namespace

void Netlink::Close::operator()(mnl_socket* socket) const { mnl_socket_close(socket); }

base::Result<Netlink> Netlink::open() {
  mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (socket == nullptr) return base::failErrno("netlink: cannot open");
  Netlink out(socket);
  if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
    return base::failErrno("netlink: cannot bind");
  }
  return out;
}

base::Result<void> Netlink::call(nlmsghdr* message, const char* what) {
  message->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) < 0) {
    return base::failErrno(what);
  }
  alignas(nlmsghdr) MessageBytes answer{};
  const ssize_t got = mnl_socket_recvfrom(socket_.get(), answer.data(), answer.size());
  if (got < 0) return base::failErrno(what);
  const unsigned port = mnl_socket_get_portid(socket_.get());
  if (mnl_cb_run(answer.data(), static_cast<std::size_t>(got), sequence_, port, nullptr, nullptr) <
      0) {
    return base::failErrno(what);
  }
  return {};
}

base::Result<void> Netlink::addBridge(const std::string& name) {
  POSTERN_TRY_VOID(checkName(name));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  putLink(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, name.c_str());
  nlattr* info = mnl_attr_nest_start(message, IFLA_LINKINFO);
  mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
  mnl_attr_nest_end(message, info);
  return call(message, "netlink: cannot add bridge");
}

base::Result<void> Netlink::addVeth(const std::string& name, const VethEnd& peer) {
  POSTERN_TRY_VOID(checkName(name));
  POSTERN_TRY_VOID(checkName(peer.name));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  putLink(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, name.c_str());
  nlattr* info = mnl_attr_nest_start(message, IFLA_LINKINFO);
  mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
  nlattr* data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
  nlattr* other = mnl_attr_nest_start(message, VETH_INFO_PEER);
  putLink(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, peer.name.c_str());
  if (peer.netns_fd >= 0) {
    mnl_attr_put_u32(message, IFLA_NET_NS_FD, static_cast<std::uint32_t>(peer.netns_fd));
  }
  mnl_attr_nest_end(message, other);
  mnl_attr_nest_end(message, data);
  mnl_attr_nest_end(message, info);
  return call(message, "netlink: cannot add veth pair");
}

base::Result<void> Netlink::attach(const std::string& link, const std::string& bridge) {
  POSTERN_TRY(const int index, indexOf(link));
  POSTERN_TRY(const int master, indexOf(bridge));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWLINK, 0);
  putLink(message)->ifi_index = index;
  mnl_attr_put_u32(message, IFLA_MASTER, static_cast<std::uint32_t>(master));
  return call(message, "netlink: cannot attach link to bridge");
}

base::Result<void> Netlink::setUp(const std::string& link) {
  POSTERN_TRY(const int index, indexOf(link));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWLINK, 0);
  ifinfomsg* body = putLink(message);
  body->ifi_index = index;
  body->ifi_flags = IFF_UP;
  body->ifi_change = IFF_UP;
  return call(message, "netlink: cannot set link up");
}

base::Result<void> Netlink::addAddress(const std::string& link, const std::string& ip,
                                       unsigned prefix) {
  POSTERN_TRY(const int index, indexOf(link));
  POSTERN_TRY(const std::uint32_t address, ipv4(ip));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  auto* body = static_cast<ifaddrmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(ifaddrmsg)));
  body->ifa_family = AF_INET;
  body->ifa_prefixlen = static_cast<unsigned char>(prefix);
  body->ifa_index = static_cast<unsigned>(index);
  mnl_attr_put_u32(message, IFA_LOCAL, address);
  mnl_attr_put_u32(message, IFA_ADDRESS, address);
  return call(message, "netlink: cannot add address");
}

base::Result<void> Netlink::addRoute(const std::string& destination, unsigned prefix,
                                     const std::string& gateway, const std::string& link) {
  POSTERN_TRY(const int index, indexOf(link));
  POSTERN_TRY(const std::uint32_t address, ipv4(destination));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
  auto* body = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(rtmsg)));
  body->rtm_family = AF_INET;
  body->rtm_dst_len = static_cast<unsigned char>(prefix);
  body->rtm_table = RT_TABLE_MAIN;
  body->rtm_protocol = RTPROT_STATIC;
  body->rtm_scope = gateway.empty() ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  body->rtm_type = RTN_UNICAST;
  mnl_attr_put_u32(message, RTA_DST, address);
  mnl_attr_put_u32(message, RTA_OIF, static_cast<std::uint32_t>(index));
  if (!gateway.empty()) {
    POSTERN_TRY(const std::uint32_t via, ipv4(gateway));
    mnl_attr_put_u32(message, RTA_GATEWAY, via);
  }
  return call(message, "netlink: cannot add route");
}

base::Result<void> Netlink::removeLink(const std::string& link) {
  POSTERN_TRY(const int index, indexOf(link));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_DELLINK, 0);
  putLink(message)->ifi_index = index;
  return call(message, "netlink: cannot remove link");
}

}  // namespace postern::network
