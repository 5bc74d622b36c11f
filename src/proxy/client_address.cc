#include "proxy/client_address.h"

#include "base/strings.h"

#include <algorithm>
#include <optional>

namespace postern::proxy {

namespace {

/// Entry `number` (1 is the last) of x-forwarded-for; nothing when there are fewer.
std::optional<std::string_view> forwardedEntry(std::string_view list, std::size_t number) {
  for (;;) {
    const std::size_t comma = list.rfind(',');
    const std::string_view entry =
        base::trim(comma == std::string_view::npos ? list : list.substr(comma + 1));
    if (number == 1) return entry;
    if (comma == std::string_view::npos) return std::nullopt;
    list = list.substr(0, comma);
    --number;
  }
}

bool isInternal(const HttpManager& config, const net::Address& address) {
  if (address.isUnix()) return config.internal_unix;
  return std::any_of(config.internal_ranges.begin(), config.internal_ranges.end(),
                     [&](const net::Cidr& range) { return range.contains(address); });
}

void appendForwarded(http::HeaderMap& headers, bool present, std::string_view address) {
  if (!present) return headers.add("x-forwarded-for", address);
  std::string list = headers.joined("x-forwarded-for").value_or("");
  list.append(",").append(address);
  headers.set("x-forwarded-for", list);
}

/// The last entry that no trusted proxy wrote; nothing when the peer itself is none.
std::optional<std::string_view> untrustedEntry(const IpDetection& how, const net::Address& peer,
                                               std::string_view list) {
  auto trusted = [&](const net::Address& address) {
    return std::any_of(how.trusted.begin(), how.trusted.end(),
                       [&](const net::Cidr& range) { return range.contains(address); });
  };
  if (!peer.isIp() || !trusted(peer)) return std::nullopt;
  for (std::size_t number = 1;; ++number) {
    const auto entry = forwardedEntry(list, number);
    if (!entry) return std::nullopt;
    const auto address = net::Address::fromIp(*entry, 0);
    if (!address) return std::nullopt;
    if (!trusted(*address)) return entry;
  }
}

/// By the first extension that finds an address; `may_be_internal` says whether that address may
/// make the request an internal one.
void detectAddress(const HttpManager& config, const RequestSource& source, std::string_view list,
                   http::HeaderMap& headers, ForwardingResult& out) {
  bool may_be_internal = false;
  for (const IpDetection& each : config.ip_detections) {
    std::optional<std::string_view> entry;
    if (!each.header.empty()) {
      entry = headers.get(each.header);
      may_be_internal = each.trusted_address;
    } else {
      if (!list.empty()) {
        entry = each.trusted.empty() ? forwardedEntry(list, each.hops + std::size_t{1})
                                     : untrustedEntry(each, source.peer, list);
      }
      may_be_internal = list.find(',') == std::string_view::npos;
    }
    if (entry && net::Address::fromIp(*entry, 0)) out.trusted_ip = *entry;
    if (each.header.empty() && !each.skip_append && source.peer.isIp())
      appendForwarded(headers, !list.empty(), source.peer_ip);
    if (!out.trusted_ip.empty()) break;
    if (each.reject_status) out.reject_status = *each.reject_status;
  }
  if (out.trusted_ip.empty()) return;
  out.reject_status = 0;
  const auto address = net::Address::fromIp(out.trusted_ip, 0);
  out.internal = may_be_internal && address && isInternal(config, *address);
}

}  // namespace

void findClientAddress(const HttpManager& config, const RequestSource& source, bool has_list,
                       http::HeaderMap& headers, ForwardingResult& out) {
  std::string list;
  if (has_list) list = headers.joined("x-forwarded-for").value_or("");
  if (!config.ip_detections.empty()) return detectAddress(config, source, list, headers, out);
  std::size_t wanted = config.trusted_hops;
  if (!config.use_remote_address) ++wanted;
  if (wanted > 0 && !list.empty()) {
    const auto entry = forwardedEntry(list, wanted);
    if (entry && net::Address::fromIp(*entry, 0)) out.trusted_ip = *entry;
  }
  if (!config.internal_ranges.empty() || config.internal_unix) {
    if (config.use_remote_address) {
      out.internal = list.empty() && isInternal(config, source.peer);
    } else if (!list.empty() && list.find(',') == std::string::npos) {
      const auto address = net::Address::fromIp(base::trim(list), 0);
      out.internal = address && isInternal(config, *address);
    }
  }
  if (!config.use_remote_address || config.skip_xff_append || !source.peer.isIp()) return;
  appendForwarded(headers, !list.empty(),
                  source.peer.isLoopback() ? std::string_view(config.machine_ip) : source.peer_ip);
}

}  // namespace postern::proxy
