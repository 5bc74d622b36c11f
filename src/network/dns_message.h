// DNS messages (RFC 1035), the part a cluster's name server needs: one question in, answers out.
// Bytes in, bytes out, no I/O; any thread.
#pragma once

#include "base/error.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postern::network {

inline constexpr std::uint16_t kDnsTypeA = 1;
inline constexpr std::uint16_t kDnsTypeAaaa = 28;
inline constexpr std::uint16_t kDnsTypeAny = 255;
inline constexpr std::size_t kDnsUdpBytesMax = 512;

enum class DnsCode : std::uint8_t { kNoError = 0, kServerFailure = 2, kNoName = 3, kRefused = 5 };

struct DnsQuery {
  std::uint16_t id = 0;
  bool recursion_desired = false;
  std::string name;  // lower case, without the final dot
  std::uint16_t type = 0;
  std::string question;  // as sent, to be repeated in the response
};

/// A standard query with one question of class IN.
base::Result<DnsQuery> parseDnsQuery(std::string_view message);

/// A response with one A record per IPv4 address. What exceeds `bytes_max` is cut and marked so
/// (TC).
std::string dnsResponse(const DnsQuery& query, DnsCode code,
                        const std::vector<std::string>& ipv4_addresses, std::uint32_t ttl_seconds,
                        std::size_t bytes_max = kDnsUdpBytesMax);

}  // namespace postern::network
