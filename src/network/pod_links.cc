#include "network/pod_links.h"

#include "base/fd.h"
#include "base/strings.h"
#include "network/namespace_scope.h"
#include "network/network.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <net/if.h>
#include <unistd.h>

namespace postern::network {
namespace {

constexpr const char* kPodLink = "eth0";
constexpr std::string_view kLinkPrefix = "pod";
constexpr std::string_view kAddressPrefix = "10.244.0.";
constexpr unsigned kPodSubnetBits = 24;
constexpr unsigned kFirstNumber = 2;
constexpr unsigned kLastNumber = 254;
static_assert(kLastNumber - kFirstNumber + 1 == kPodAddressesMax);

std::string addressOf(unsigned number) { return fmt::format("{}{}", kAddressPrefix, number); }
std::string linkOf(unsigned number) { return fmt::format("{}{}", kLinkPrefix, number); }
// By the address, so that a successor's neighbours need not learn anew.
std::string macOf(unsigned number) { return fmt::format("02:00:0a:f4:00:{:02x}", number); }

std::optional<unsigned> numberIn(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  const auto number = base::parseInteger<unsigned>(text.substr(prefix.size()));
  if (!number || *number < kFirstNumber || *number > kLastNumber) return std::nullopt;
  return number;
}

// Of the calling thread's network namespace. False where the kernel has no such setting or does not
// let us.
bool setSysctl(const std::string& name, std::string_view value) {
  const base::Fd fd(::open(("/proc/sys/net/" + name).c_str(), O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size());
}

base::Result<void> unlessThere(base::Result<void> result) {
  if (!result && result.error().sys == EEXIST) return {};
  return result;
}

bool hasLink() { return ::if_nametoindex(kPodLink) != 0; }

// In the pod's namespace, before its link comes.
base::Result<void> preparePod() {
  if (!setSysctl("ipv4/conf/all/route_localnet", "1")) {
    return base::failErrno("cannot set route_localnet");
  }
  if (!setSysctl("ipv4/ip_unprivileged_port_start", "0")) {
    return base::failErrno("cannot open low ports");
  }
  setSysctl("ipv6/conf/default/disable_ipv6", "1");  // the pod network is IPv4
  POSTERN_TRY(Netlink pod, Netlink::open());
  POSTERN_TRY_VOID(pod.setUp("lo"));
  if (hasLink()) return pod.removeLink(kPodLink);
  return {};
}

base::Result<void> configurePod(unsigned number) {
  POSTERN_TRY(Netlink pod, Netlink::open());
  POSTERN_TRY_VOID(pod.addAddress(kPodLink, addressOf(number), kPodSubnetBits));
  POSTERN_TRY_VOID(pod.setUp(kPodLink));
  POSTERN_TRY_VOID(pod.addRoute("0.0.0.0", 0, kNodeAddress, kPodLink));
  return pod.waitUp(kPodLink);
}

}  // namespace

base::Result<PodLinks> PodLinks::open() {
  POSTERN_TRY(Netlink node, Netlink::open());
  PodLinks out(std::move(node));
  POSTERN_TRY_VOID(out.setUpNode());
  POSTERN_TRY_VOID(out.readLinks());
  return out;
}

base::Result<void> PodLinks::setUpNode() {
  setSysctl("ipv6/conf/default/disable_ipv6", "1");
  POSTERN_TRY_VOID(node_.setUp("lo"));
  POSTERN_TRY_VOID(unlessThere(node_.addBridge(kBridge, macOf(1))));
  // What pods send each other is none of the node's rules' business.
  setSysctl("bridge/bridge-nf-call-iptables", "0");
  POSTERN_TRY_VOID(unlessThere(node_.addAddress(kBridge, kNodeAddress, kPodSubnetBits)));
  POSTERN_TRY_VOID(node_.setUp(kBridge));
  return unlessThere(node_.addRoute("0.0.0.0", 0, "", kBridge));
}

base::Result<void> PodLinks::readLinks() {
  POSTERN_TRY(const std::vector<LinkInfo> links, node_.links());
  for (const LinkInfo& link : links) {
    const auto number = numberIn(link.name, kLinkPrefix);
    if (!number) continue;
    // Made by a predecessor that did not get to naming it, or that wrote down the same pod twice.
    if (link.alias.empty() || !numbers_.emplace(link.alias, *number).second) {
      node_.removeLink(link.name);
      continue;
    }
    last_ = std::max(last_, *number);
  }
  return {};
}

bool PodLinks::isTaken(unsigned number) const {
  return std::any_of(numbers_.begin(), numbers_.end(),
                     [&](const auto& entry) { return entry.second == number; });
}

base::Result<unsigned> PodLinks::choose(const std::string& wanted) {
  if (const auto number = numberIn(wanted, kAddressPrefix); number && !isTaken(*number)) {
    return *number;
  }
  for (std::size_t i = 0; i < kPodAddressesMax; ++i) {
    last_ = last_ >= kLastNumber ? kFirstNumber : last_ + 1;
    if (!isTaken(last_)) return last_;
  }
  return base::fail(base::Errc::kLimitExceeded, "no free pod address");
}

base::Result<void> PodLinks::connect(const std::string& uid, int netns_fd, unsigned number) {
  {
    POSTERN_TRY(const NamespaceScope pod, NamespaceScope::enter(netns_fd));
    POSTERN_TRY_VOID(preparePod());
  }
  const std::string link = linkOf(number);
  node_.removeLink(link);  // of a pod that is gone, if any
  POSTERN_TRY_VOID(node_.addVeth(link, {kPodLink, netns_fd, macOf(number)}));
  POSTERN_TRY_VOID(node_.setAlias(link, uid));
  POSTERN_TRY_VOID(node_.attach(link, kBridge));
  POSTERN_TRY_VOID(node_.setUp(link));
  {
    POSTERN_TRY(const NamespaceScope pod, NamespaceScope::enter(netns_fd));
    POSTERN_TRY_VOID(configurePod(number));
  }
  POSTERN_TRY_VOID(node_.waitUp(link));
  return node_.waitUp(kBridge);  // has no carrier before its first port
}

base::Result<std::string> PodLinks::attach(const std::string& uid, int netns_fd,
                                           const std::string& wanted) {
  if (uid.empty()) return base::fail(base::Errc::kInvalidArgument, "a pod without uid");
  std::string preferred = wanted;
  if (const auto at = numbers_.find(uid); at != numbers_.end()) {
    const std::string address = addressOf(at->second);
    {
      POSTERN_TRY(const NamespaceScope pod, NamespaceScope::enter(netns_fd));
      if (hasLink()) return address;
    }
    detach(uid);  // its namespaces were made anew
    preferred = address;
  }
  POSTERN_TRY(const unsigned number, choose(preferred));
  auto connected = connect(uid, netns_fd, number);
  if (!connected) {
    node_.removeLink(linkOf(number));
    return std::unexpected(connected.error());
  }
  numbers_[uid] = number;
  return addressOf(number);
}

void PodLinks::detach(const std::string& uid) {
  const auto at = numbers_.find(uid);
  if (at == numbers_.end()) return;
  node_.removeLink(linkOf(at->second));  // fails when it went with the pod's namespace
  numbers_.erase(at);
}

std::vector<std::string> PodLinks::uids() const {
  std::vector<std::string> out;
  for (const auto& [uid, number] : numbers_) out.push_back(uid);
  return out;
}

}  // namespace postern::network
