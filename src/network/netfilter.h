// nftables by its netlink interface (NETLINK_NETFILTER), so much of it as the cluster's rules need:
// a transaction is built as bytes once and sent to many network namespaces, each by a socket opened
// there. IPv4 tables only. A few hundred microseconds per namespace, where a run of the program
// `nft` takes five milliseconds; `nft list ruleset` shows the result.
#pragma once

#include "base/error.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct mnl_socket;
struct nlmsghdr;

namespace postern::network {

/// A transaction's largest size: what a netlink socket takes without privilege in the host's user
/// namespace.
inline constexpr std::size_t kNetfilterBatchBytesMax = 400UL * 1024;

/// One rule: expressions in order, each as the kernel's encoding.
class NetfilterRule {
 public:
  static constexpr std::uint32_t kVerdict = 0;  // registers: the verdict,
  static constexpr std::uint32_t kFirst = 1;    // 16 bytes,
  static constexpr std::uint32_t kSecond = 2;   // 16 bytes

  NetfilterRule& destinationIs(const std::string& ip, unsigned prefix = 32);
  NetfilterRule& sourceIs(const std::string& ip, unsigned prefix);
  NetfilterRule& protocolIs(std::uint8_t protocol);
  NetfilterRule& inputLinkIs(const std::string& link);
  NetfilterRule& outputLinkIsNot(const std::string& link);
  /// Destination address, protocol and port together are in the set; with a map, its verdict
  /// counts.
  NetfilterRule& destinationInSet(const std::string& set);
  NetfilterRule& destinationByMap(const std::string& map);
  /// True in one of `count` cases, at random or by the source address (then: the case `which`).
  NetfilterRule& oneOf(std::size_t count);
  NetfilterRule& sourceHashIs(std::size_t which, std::size_t count);

  NetfilterRule& toDestination(const std::string& ip, std::uint16_t port);
  NetfilterRule& redirect(std::uint16_t port);
  NetfilterRule& masquerade();
  NetfilterRule& accept();
  /// A TCP reset, or "port unreachable".
  NetfilterRule& rejectReset();
  NetfilterRule& rejectUnreachable();

 private:
  friend class NetfilterBatch;
  NetfilterRule& networkField(std::uint32_t offset, const std::string& ip, unsigned prefix);
  void destinationKey();
  void lookup(const std::string& set, bool verdict);
  void compare(std::uint32_t reg, bool equal, std::string_view bytes);
  void immediate(std::uint32_t reg, std::string_view bytes);
  template <class Fill>
  void expression(const char* name, Fill fill);

  std::string expressions_;  // NFTA_LIST_ELEM attributes
};

enum class NetfilterHook : std::uint8_t { kPrerouting = 0, kOutput = 3, kPostrouting = 4 };

/// What a set or map is keyed by.
struct NetfilterKey {
  std::string ip;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
};
struct NetfilterElement {
  NetfilterKey key;
  std::string chain;  // maps: where to go
};

class NetfilterBatch {
 public:
  /// Starts a transaction that replaces the table by what follows.
  explicit NetfilterBatch(std::string table);

  void addBaseChain(const std::string& name, const char* type, NetfilterHook hook, int priority);
  void addChain(const std::string& name);
  void addSet(const std::string& name);
  void addMap(const std::string& name);
  void addElements(const std::string& set, const std::vector<NetfilterElement>& elements);
  void addRule(const std::string& chain, const NetfilterRule& rule);

  /// Ends the transaction.
  std::string finish();
  std::size_t size() const { return bytes_.size(); }

 private:
  template <class Fill>
  void message(std::uint16_t type, std::uint16_t flags, Fill fill);
  void addSetOrMap(const std::string& name, bool map);
  void mark(std::uint16_t type);

  std::string table_;
  std::string bytes_;
  std::size_t last_ = 0;  // offset of the last message, which asks for an answer
  std::uint32_t sequence_ = 0;
  std::uint32_t set_id_ = 0;
};

/// A connection to the nftables of the network namespace in which it was opened. One thread at a
/// time, from any namespace. Keeps its namespace alive.
class NetfilterSocket {
 public:
  static base::Result<NetfilterSocket> open();
  /// All or nothing. Blocks for a fraction of a millisecond.
  base::Result<void> apply(const std::string& batch) const;

 private:
  struct Close {
    void operator()(mnl_socket* socket) const;
  };
  explicit NetfilterSocket(mnl_socket* socket) : socket_(socket) {}
  std::unique_ptr<mnl_socket, Close> socket_;
};

}  // namespace postern::network
