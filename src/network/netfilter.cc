#include "network/netfilter.h"

#include "base/check.h"

#include <libmnl/libmnl.h>

#include <array>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace postern::network {
namespace {

constexpr std::size_t kNetfilterMessageBytes = 16384;
constexpr std::size_t kElementsPerMessage = 64;  // fit into one message
constexpr std::uint32_t kIpSourceOffset = 12;
constexpr std::uint32_t kIpDestinationOffset = 16;
constexpr std::uint32_t kPortOffset = 2;
constexpr std::uint32_t kKeyBytes = 12;
// Registers 9 and 10 are the second and third four bytes of register 1.
constexpr std::uint32_t kKeyProtocolRegister = 9;
constexpr std::uint32_t kKeyPortRegister = 10;
// "ipv4_addr . inet_proto . inet_service" in the numbering of the program nft, for its listing.
constexpr std::uint32_t kKeyType = (7U << 12U) | (12U << 6U) | 13U;
constexpr std::uint32_t kHashSeed = 0x706f7374;

using Buffer = std::array<char, kNetfilterMessageBytes>;

std::uint32_t ipv4OrZero(const std::string& ip) {
  in_addr out{};
  POSTERN_CHECK(::inet_pton(AF_INET, ip.c_str(), &out) == 1);  // callers validate
  return out.s_addr;
}

std::string_view bytesOf(const std::uint32_t& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

void putNumber(nlmsghdr* message, std::uint16_t type, std::uint32_t value) {
  mnl_attr_put_u32(message, type, htonl(value));
}

void putText(nlmsghdr* message, std::uint16_t type, const std::string& text) {
  mnl_attr_put_strz(message, type, text.c_str());
}

void putValue(nlmsghdr* message, std::uint16_t type, std::string_view bytes) {
  nlattr* nest = mnl_attr_nest_start(message, type);
  mnl_attr_put(message, NFTA_DATA_VALUE, bytes.size(), bytes.data());
  mnl_attr_nest_end(message, nest);
}

std::string keyBytes(const NetfilterKey& key) {
  std::string out(kKeyBytes, '\0');
  const std::uint32_t ip = ipv4OrZero(key.ip);
  const std::uint16_t port = htons(key.port);
  std::memcpy(out.data(), &ip, sizeof(ip));
  out[4] = static_cast<char>(key.protocol);
  std::memcpy(out.data() + 8, &port, sizeof(port));
  return out;
}

void putElement(nlmsghdr* message, const NetfilterElement& element) {
  nlattr* item = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
  putValue(message, NFTA_SET_ELEM_KEY, keyBytes(element.key));
  if (!element.chain.empty()) {
    nlattr* data = mnl_attr_nest_start(message, NFTA_SET_ELEM_DATA);
    nlattr* verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);
    putNumber(message, NFTA_VERDICT_CODE, static_cast<std::uint32_t>(NFT_GOTO));
    putText(message, NFTA_VERDICT_CHAIN, element.chain);
    mnl_attr_nest_end(message, verdict);
    mnl_attr_nest_end(message, data);
  }
  mnl_attr_nest_end(message, item);
}

}  // namespace

// ---- rules ----

template <class Fill>
void NetfilterRule::expression(const char* name, Fill fill) {
  alignas(nlmsghdr) Buffer buffer;
  nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
  const std::size_t before = message->nlmsg_len;
  nlattr* item = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
  mnl_attr_put_strz(message, NFTA_EXPR_NAME, name);
  nlattr* data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
  fill(message);
  mnl_attr_nest_end(message, data);
  mnl_attr_nest_end(message, item);
  expressions_.append(buffer.data() + before, message->nlmsg_len - before);
}

void NetfilterRule::compare(std::uint32_t reg, bool equal, std::string_view bytes) {
  expression("cmp", [&](nlmsghdr* message) {
    putNumber(message, NFTA_CMP_SREG, reg);
    putNumber(message, NFTA_CMP_OP, equal ? NFT_CMP_EQ : NFT_CMP_NEQ);
    putValue(message, NFTA_CMP_DATA, bytes);
  });
}

void NetfilterRule::immediate(std::uint32_t reg, std::string_view bytes) {
  expression("immediate", [&](nlmsghdr* message) {
    putNumber(message, NFTA_IMMEDIATE_DREG, reg);
    putValue(message, NFTA_IMMEDIATE_DATA, bytes);
  });
}

namespace {

auto payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length, std::uint32_t reg) {
  return [=](nlmsghdr* message) {
    putNumber(message, NFTA_PAYLOAD_DREG, reg);
    putNumber(message, NFTA_PAYLOAD_BASE, base);
    putNumber(message, NFTA_PAYLOAD_OFFSET, offset);
    putNumber(message, NFTA_PAYLOAD_LEN, length);
  };
}

auto meta(std::uint32_t key, std::uint32_t reg) {
  return [=](nlmsghdr* message) {
    putNumber(message, NFTA_META_KEY, key);
    putNumber(message, NFTA_META_DREG, reg);
  };
}

std::string linkName(const std::string& link) {
  std::string out = link;
  POSTERN_CHECK(out.size() < IFNAMSIZ);
  out.resize(IFNAMSIZ);
  return out;
}

}  // namespace

NetfilterRule& NetfilterRule::networkField(std::uint32_t offset, const std::string& ip,
                                           unsigned prefix) {
  expression("payload", payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 4, kFirst));
  const std::uint32_t mask = prefix == 0 ? 0 : htonl(~0U << (32U - prefix));
  if (prefix < 32) {
    const std::uint32_t zero = 0;
    expression("bitwise", [&](nlmsghdr* message) {
      putNumber(message, NFTA_BITWISE_SREG, kFirst);
      putNumber(message, NFTA_BITWISE_DREG, kFirst);
      putNumber(message, NFTA_BITWISE_LEN, 4);
      putValue(message, NFTA_BITWISE_MASK, bytesOf(mask));
      putValue(message, NFTA_BITWISE_XOR, bytesOf(zero));
    });
  }
  const std::uint32_t address = ipv4OrZero(ip) & mask;
  compare(kFirst, true, bytesOf(address));
  return *this;
}

NetfilterRule& NetfilterRule::destinationIs(const std::string& ip, unsigned prefix) {
  return networkField(kIpDestinationOffset, ip, prefix);
}

NetfilterRule& NetfilterRule::sourceIs(const std::string& ip, unsigned prefix) {
  return networkField(kIpSourceOffset, ip, prefix);
}

NetfilterRule& NetfilterRule::protocolIs(std::uint8_t protocol) {
  expression("meta", meta(NFT_META_L4PROTO, kFirst));
  compare(kFirst, true, {reinterpret_cast<const char*>(&protocol), 1});
  return *this;
}

NetfilterRule& NetfilterRule::inputLinkIs(const std::string& link) {
  expression("meta", meta(NFT_META_IIFNAME, kFirst));
  compare(kFirst, true, linkName(link));
  return *this;
}

NetfilterRule& NetfilterRule::outputLinkIsNot(const std::string& link) {
  expression("meta", meta(NFT_META_OIFNAME, kFirst));
  compare(kFirst, false, linkName(link));
  return *this;
}

void NetfilterRule::destinationKey() {
  expression("payload", payload(NFT_PAYLOAD_NETWORK_HEADER, kIpDestinationOffset, 4, kFirst));
  expression("meta", meta(NFT_META_L4PROTO, kKeyProtocolRegister));
  expression("payload", payload(NFT_PAYLOAD_TRANSPORT_HEADER, kPortOffset, 2, kKeyPortRegister));
}

void NetfilterRule::lookup(const std::string& set, bool verdict) {
  expression("lookup", [&](nlmsghdr* message) {
    putText(message, NFTA_LOOKUP_SET, set);
    putNumber(message, NFTA_LOOKUP_SREG, kFirst);
    if (verdict) putNumber(message, NFTA_LOOKUP_DREG, kVerdict);
  });
}

NetfilterRule& NetfilterRule::destinationInSet(const std::string& set) {
  destinationKey();
  lookup(set, false);
  return *this;
}

NetfilterRule& NetfilterRule::destinationByMap(const std::string& map) {
  destinationKey();
  lookup(map, true);
  return *this;
}

NetfilterRule& NetfilterRule::oneOf(std::size_t count) {
  expression("numgen", [&](nlmsghdr* message) {
    putNumber(message, NFTA_NG_DREG, kFirst);
    putNumber(message, NFTA_NG_MODULUS, static_cast<std::uint32_t>(count));
    putNumber(message, NFTA_NG_TYPE, NFT_NG_RANDOM);
    putNumber(message, NFTA_NG_OFFSET, 0);
  });
  const std::uint32_t zero = 0;
  compare(kFirst, true, bytesOf(zero));
  return *this;
}

NetfilterRule& NetfilterRule::sourceHashIs(std::size_t which, std::size_t count) {
  expression("payload", payload(NFT_PAYLOAD_NETWORK_HEADER, kIpSourceOffset, 4, kSecond));
  expression("hash", [&](nlmsghdr* message) {
    putNumber(message, NFTA_HASH_SREG, kSecond);
    putNumber(message, NFTA_HASH_DREG, kFirst);
    putNumber(message, NFTA_HASH_LEN, 4);
    putNumber(message, NFTA_HASH_MODULUS, static_cast<std::uint32_t>(count));
    putNumber(message, NFTA_HASH_SEED, kHashSeed);
    putNumber(message, NFTA_HASH_OFFSET, 0);
    putNumber(message, NFTA_HASH_TYPE, NFT_HASH_JENKINS);
  });
  const auto value = static_cast<std::uint32_t>(which);
  compare(kFirst, true, bytesOf(value));
  return *this;
}

NetfilterRule& NetfilterRule::toDestination(const std::string& ip, std::uint16_t port) {
  const std::uint32_t address = ipv4OrZero(ip);
  const std::uint16_t number = htons(port);
  immediate(kFirst, bytesOf(address));
  immediate(kSecond, {reinterpret_cast<const char*>(&number), sizeof(number)});
  expression("nat", [&](nlmsghdr* message) {
    putNumber(message, NFTA_NAT_TYPE, NFT_NAT_DNAT);
    putNumber(message, NFTA_NAT_FAMILY, NFPROTO_IPV4);
    putNumber(message, NFTA_NAT_REG_ADDR_MIN, kFirst);
    putNumber(message, NFTA_NAT_REG_PROTO_MIN, kSecond);
  });
  return *this;
}

NetfilterRule& NetfilterRule::redirect(std::uint16_t port) {
  const std::uint16_t number = htons(port);
  immediate(kFirst, {reinterpret_cast<const char*>(&number), sizeof(number)});
  expression("redir",
             [&](nlmsghdr* message) { putNumber(message, NFTA_REDIR_REG_PROTO_MIN, kFirst); });
  return *this;
}

NetfilterRule& NetfilterRule::masquerade() {
  expression("masq", [](nlmsghdr*) {});
  return *this;
}

NetfilterRule& NetfilterRule::accept() {
  expression("immediate", [](nlmsghdr* message) {
    putNumber(message, NFTA_IMMEDIATE_DREG, kVerdict);
    nlattr* data = mnl_attr_nest_start(message, NFTA_IMMEDIATE_DATA);
    nlattr* verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);
    putNumber(message, NFTA_VERDICT_CODE, NF_ACCEPT);
    mnl_attr_nest_end(message, verdict);
    mnl_attr_nest_end(message, data);
  });
  return *this;
}

NetfilterRule& NetfilterRule::rejectReset() {
  expression("reject",
             [](nlmsghdr* message) { putNumber(message, NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST); });
  return *this;
}

NetfilterRule& NetfilterRule::rejectUnreachable() {
  constexpr std::uint8_t kPortUnreachable = 3;
  expression("reject", [](nlmsghdr* message) {
    putNumber(message, NFTA_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH);
    mnl_attr_put_u8(message, NFTA_REJECT_ICMP_CODE, kPortUnreachable);
  });
  return *this;
}

// ---- transactions ----

template <class Fill>
void NetfilterBatch::message(std::uint16_t type, std::uint16_t flags, Fill fill) {
  alignas(nlmsghdr) Buffer buffer;
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8U) | type);
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  header->nlmsg_seq = ++sequence_;
  auto* body = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  body->nfgen_family = NFPROTO_IPV4;
  body->version = NFNETLINK_V0;
  fill(header);
  POSTERN_CHECK(header->nlmsg_len <= buffer.size());
  last_ = bytes_.size();
  bytes_.append(buffer.data(), NLMSG_ALIGN(header->nlmsg_len));
}

void NetfilterBatch::mark(std::uint16_t type) {
  alignas(nlmsghdr) Buffer buffer;
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = type;
  header->nlmsg_flags = NLM_F_REQUEST;
  header->nlmsg_seq = ++sequence_;
  auto* body = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  body->version = NFNETLINK_V0;
  body->res_id = htons(NFNL_SUBSYS_NFTABLES);
  bytes_.append(buffer.data(), NLMSG_ALIGN(header->nlmsg_len));
}

NetfilterBatch::NetfilterBatch(std::string table) : table_(std::move(table)) {
  mark(NFNL_MSG_BATCH_BEGIN);
  const auto name = [&](nlmsghdr* m) { putText(m, NFTA_TABLE_NAME, table_); };
  // Deleting needs a table that is there.
  message(NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
  message(NFT_MSG_DELTABLE, 0, name);
  message(NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
}

void NetfilterBatch::addBaseChain(const std::string& name, const char* type, NetfilterHook hook,
                                  int priority) {
  message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, [&](nlmsghdr* m) {
    putText(m, NFTA_CHAIN_TABLE, table_);
    putText(m, NFTA_CHAIN_NAME, name);
    mnl_attr_put_strz(m, NFTA_CHAIN_TYPE, type);
    nlattr* nest = mnl_attr_nest_start(m, NFTA_CHAIN_HOOK);
    putNumber(m, NFTA_HOOK_HOOKNUM, static_cast<std::uint32_t>(hook));
    putNumber(m, NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(priority));
    mnl_attr_nest_end(m, nest);
    putNumber(m, NFTA_CHAIN_POLICY, NF_ACCEPT);
  });
}

void NetfilterBatch::addChain(const std::string& name) {
  message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, [&](nlmsghdr* m) {
    putText(m, NFTA_CHAIN_TABLE, table_);
    putText(m, NFTA_CHAIN_NAME, name);
  });
}

void NetfilterBatch::addSetOrMap(const std::string& name, bool map) {
  message(NFT_MSG_NEWSET, NLM_F_CREATE, [&](nlmsghdr* m) {
    putText(m, NFTA_SET_TABLE, table_);
    putText(m, NFTA_SET_NAME, name);
    putNumber(m, NFTA_SET_ID, ++set_id_);
    putNumber(m, NFTA_SET_FLAGS, map ? NFT_SET_MAP : 0);
    putNumber(m, NFTA_SET_KEY_TYPE, kKeyType);
    putNumber(m, NFTA_SET_KEY_LEN, kKeyBytes);
    if (!map) return;
    putNumber(m, NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
    putNumber(m, NFTA_SET_DATA_LEN, 0);
  });
}

void NetfilterBatch::addSet(const std::string& name) { addSetOrMap(name, false); }
void NetfilterBatch::addMap(const std::string& name) { addSetOrMap(name, true); }

void NetfilterBatch::addElements(const std::string& set,
                                 const std::vector<NetfilterElement>& elements) {
  for (std::size_t at = 0; at < elements.size(); at += kElementsPerMessage) {
    message(NFT_MSG_NEWSETELEM, NLM_F_CREATE, [&](nlmsghdr* m) {
      putText(m, NFTA_SET_ELEM_LIST_TABLE, table_);
      putText(m, NFTA_SET_ELEM_LIST_SET, set);
      nlattr* nest = mnl_attr_nest_start(m, NFTA_SET_ELEM_LIST_ELEMENTS);
      for (std::size_t i = at; i < elements.size() && i < at + kElementsPerMessage; ++i) {
        putElement(m, elements[i]);
      }
      mnl_attr_nest_end(m, nest);
    });
  }
}

void NetfilterBatch::addRule(const std::string& chain, const NetfilterRule& rule) {
  message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, [&](nlmsghdr* m) {
    putText(m, NFTA_RULE_TABLE, table_);
    putText(m, NFTA_RULE_CHAIN, chain);
    mnl_attr_put(m, NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, rule.expressions_.size(),
                 rule.expressions_.data());
  });
}

std::string NetfilterBatch::finish() {
  auto* last = reinterpret_cast<nlmsghdr*>(bytes_.data() + last_);
  last->nlmsg_flags = static_cast<std::uint16_t>(last->nlmsg_flags | NLM_F_ACK);
  mark(NFNL_MSG_BATCH_END);
  return std::move(bytes_);
}

// ---- socket ----

void NetfilterSocket::Close::operator()(mnl_socket* socket) const { mnl_socket_close(socket); }

base::Result<NetfilterSocket> NetfilterSocket::open() {
  mnl_socket* socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
  if (socket == nullptr) return base::failErrno("nftables: cannot open a netlink socket");
  NetfilterSocket out(socket);
  if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
    return base::failErrno("nftables: cannot bind");
  }
  const int fd = mnl_socket_get_fd(socket);
  const int bytes = static_cast<int>(kNetfilterBatchBytesMax);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
  // The kernel answers before sendto returns; the limit is for the case that an answer got lost.
  const timeval limit{2, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  return out;
}

base::Result<void> NetfilterSocket::apply(const std::string& batch) const {
  if (batch.size() > kNetfilterBatchBytesMax) {
    return base::fail(base::Errc::kLimitExceeded, "nftables: too many rules");
  }
  if (mnl_socket_sendto(socket_.get(), batch.data(), batch.size()) < 0) {
    return base::failErrno("nftables: cannot send");
  }
  alignas(nlmsghdr) Buffer answer{};
  const ssize_t got = mnl_socket_recvfrom(socket_.get(), answer.data(), answer.size());
  if (got < 0) return base::failErrno("nftables: no answer");
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (header->nlmsg_type != NLMSG_ERROR || got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(int)))) {
    return base::fail(base::Errc::kProtocol, "nftables: unexpected answer");
  }
  const int code = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header))->error;
  if (code == 0) return {};
  // A refused transaction may leave an answer per message.
  while (::recv(mnl_socket_get_fd(socket_.get()), answer.data(), answer.size(), MSG_DONTWAIT) > 0) {
  }
  return std::unexpected(base::errnoError("nftables: the kernel refused the rules", -code));
}

}  // namespace postern::network
