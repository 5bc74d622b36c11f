#include "network/netlink.h"

#include <libmnl/libmnl.h>

#include <array>
#include <cerrno>
#include <ctime>

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/ether.h>

namespace postern::network {
namespace {

constexpr std::size_t kMessageBytes = 4096;
constexpr std::size_t kDumpBytes = 32768;
constexpr std::size_t kAliasBytesMax = 255;
constexpr int kWaitUpTries = 100;
constexpr int kOperationUp = 6;  // IF_OPER_UP of <linux/if.h>, which conflicts with <net/if.h>
using MessageBytes = std::array<char, kMessageBytes>;
using AnswerBytes = std::array<char, kDumpBytes>;

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

base::Result<void> putMac(nlmsghdr* message, const std::string& mac) {
  if (mac.empty()) return {};
  ether_addr bytes{};
  if (::ether_aton_r(mac.c_str(), &bytes) == nullptr) {
    return base::fail(base::Errc::kInvalidArgument, "netlink: not a MAC address");
  }
  mnl_attr_put(message, IFLA_ADDRESS, sizeof(bytes), &bytes);
  return {};
}

int takeAttribute(const nlattr* attribute, void* data) {
  auto* link = static_cast<LinkInfo*>(data);
  const int type = mnl_attr_get_type(attribute);
  if (type == IFLA_IFNAME) link->name = mnl_attr_get_str(attribute);
  if (type == IFLA_IFALIAS) link->alias = mnl_attr_get_str(attribute);
  return MNL_CB_OK;
}

int takeState(const nlattr* attribute, void* data) {
  if (mnl_attr_get_type(attribute) == IFLA_OPERSTATE) {
    *static_cast<int*>(data) = mnl_attr_get_u8(attribute);
  }
  return MNL_CB_OK;
}

int takeLinkState(const nlmsghdr* message, void* data) {
  return mnl_attr_parse(message, sizeof(ifinfomsg), takeState, data);
}

int takeLink(const nlmsghdr* message, void* data) {
  LinkInfo link;
  mnl_attr_parse(message, sizeof(ifinfomsg), takeAttribute, &link);
  static_cast<std::vector<LinkInfo>*>(data)->push_back(std::move(link));
  return MNL_CB_OK;
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
  return exchange(message, what, nullptr, nullptr);
}

base::Result<void> Netlink::exchange(nlmsghdr* message, const char* what,
                                     int (*take)(const nlmsghdr*, void*), void* data) {
  message->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) < 0) {
    return base::failErrno(what);
  }
  alignas(nlmsghdr) AnswerBytes answer{};
  const ssize_t got = mnl_socket_recvfrom(socket_.get(), answer.data(), answer.size());
  if (got < 0) return base::failErrno(what);
  const unsigned port = mnl_socket_get_portid(socket_.get());
  if (mnl_cb_run(answer.data(), static_cast<std::size_t>(got), sequence_, port, take, data) < 0) {
    return base::failErrno(what);
  }
  return {};
}

base::Result<void> Netlink::addBridge(const std::string& name, const std::string& mac) {
  POSTERN_TRY_VOID(checkName(name));
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  putLink(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, name.c_str());
  nlattr* info = mnl_attr_nest_start(message, IFLA_LINKINFO);
  mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
  mnl_attr_nest_end(message, info);
  POSTERN_TRY_VOID(putMac(message, mac));
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
  POSTERN_TRY_VOID(putMac(message, peer.mac));
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

base::Result<void> Netlink::setAlias(const std::string& link, const std::string& alias) {
  POSTERN_TRY(const int index, indexOf(link));
  if (alias.size() > kAliasBytesMax) {
    return base::fail(base::Errc::kInvalidArgument, "netlink: alias too long");
  }
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_NEWLINK, 0);
  putLink(message)->ifi_index = index;
  mnl_attr_put_strz(message, IFLA_IFALIAS, alias.c_str());
  return call(message, "netlink: cannot set alias");
}

base::Result<void> Netlink::waitUp(const std::string& link) {
  POSTERN_TRY(const int index, indexOf(link));
  for (int tries = 0; tries < kWaitUpTries; ++tries) {
    // Current kernels activate the link within this request.
    alignas(nlmsghdr) MessageBytes bytes{};
    nlmsghdr* message = begin(bytes, RTM_GETLINK, 0);
    message->nlmsg_flags = NLM_F_REQUEST;
    putLink(message)->ifi_index = index;
    int state = 0;
    POSTERN_TRY_VOID(exchange(message, "netlink: cannot read link", takeLinkState, &state));
    if (state == kOperationUp) return {};
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return base::fail(base::Errc::kTimeout, "netlink: link does not come up");
}

base::Result<std::vector<LinkInfo>> Netlink::links() {
  alignas(nlmsghdr) MessageBytes bytes{};
  nlmsghdr* message = begin(bytes, RTM_GETLINK, NLM_F_DUMP);
  message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  putLink(message);
  message->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) < 0) {
    return base::failErrno("netlink: cannot ask for links");
  }
  std::vector<LinkInfo> out;
  std::vector<char> answer(kDumpBytes);
  while (true) {
    const ssize_t got = mnl_socket_recvfrom(socket_.get(), answer.data(), answer.size());
    if (got < 0) return base::failErrno("netlink: cannot read links");
    const int more = mnl_cb_run(answer.data(), static_cast<std::size_t>(got), sequence_,
                                mnl_socket_get_portid(socket_.get()), takeLink, &out);
    if (more < 0) return base::failErrno("netlink: cannot read links");
    if (more == MNL_CB_STOP) return out;
  }
}

}  // namespace postern::network
