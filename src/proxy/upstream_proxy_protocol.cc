#include "proxy/upstream_proxy_protocol.h"

#include "config/supported.h"
#include "envoy/config/core/v3/proxy_protocol.pb.h"
#include "proxy/config_build.h"
#include "stats/stats.h"

#include <algorithm>

#include <netinet/in.h>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
using config::joinPath;

codec::ProxyEnd toEnd(const net::Address& address) {
  codec::ProxyEnd out;
  out.port = address.port();
  if (address.family() == AF_INET) {
    const auto* four = reinterpret_cast<const sockaddr_in*>(address.sockaddrPtr());
    std::copy_n(reinterpret_cast<const unsigned char*>(&four->sin_addr), 4, out.ip.data());
  } else {
    const auto* six = reinterpret_cast<const sockaddr_in6*>(address.sockaddrPtr());
    std::copy_n(six->sin6_addr.s6_addr, 16, out.ip.data());
  }
  return out;
}

bool holds(const std::vector<codec::ProxyTlv>& tlvs, std::uint8_t type) {
  return std::any_of(tlvs.begin(), tlvs.end(),
                     [type](const codec::ProxyTlv& each) { return each.type == type; });
}

}  // namespace

std::string writeUpstreamHeader(const UpstreamProxyProtocol& config,
                                const ConnectionFacts& downstream, stats::Scope& cluster_stats) {
  codec::ProxyHeader header;
  header.version = config.version;
  const net::Address& source = downstream.source;
  if (source.isIp() && source.family() == downstream.destination.family()) {
    header.family =
        source.family() == AF_INET ? codec::ProxyFamily::kIp4 : codec::ProxyFamily::kIp6;
    header.source = toEnd(source);
    header.destination = toEnd(downstream.destination);
  }
  header.tlvs = config.added;
  if (downstream.tlvs != nullptr) {
    for (const codec::ProxyTlv& tlv : *downstream.tlvs) {
      if (config.passed_on.passes(tlv.type) && !holds(config.added, tlv.type))
        header.tlvs.push_back(tlv);
    }
  }
  bool complete = true;
  std::string out = codec::writeProxyHeader(header, &complete);
  if (!complete) cluster_stats.counter("upstream.proxyprotocol.v2_tlvs_exceed_max_length").add();
  return out;
}

base::ConfigResult<UpstreamProxyProtocol> buildUpstreamProxyProtocol(
    const core::ProxyProtocolConfig& message, std::string_view path) {
  UpstreamProxyProtocol out;
  switch (message.version()) {
    case core::ProxyProtocolConfig::V1:
      break;
    case core::ProxyProtocolConfig::V2:
      out.version = codec::ProxyVersion::kV2;
      break;
    default:
      return base::failConfig(joinPath(path, "version"), "is not a known version");
  }
  if (message.has_pass_through_tlvs()) {
    POSTERN_TRY(out.passed_on,
                readTlvChoice(message.pass_through_tlvs(), joinPath(path, "pass_through_tlvs")));
  }
  for (int i = 0; i < message.added_tlvs_size(); ++i) {
    const std::string at = joinPath(path, "added_tlvs", i);
    constexpr std::uint32_t kTypeEnd = 256;
    const auto& each = message.added_tlvs(i);
    if (each.type() >= kTypeEnd) return base::failConfig(at + ".type", "must be less than 256");
    const auto type = static_cast<std::uint8_t>(each.type());
    if (each.value().empty()) return base::failConfig(at + ".value", "must not be empty");
    if (!holds(out.added, type)) out.added.push_back({type, each.value()});  // the first holds
  }
  return out;
}

}  // namespace postern::proxy
