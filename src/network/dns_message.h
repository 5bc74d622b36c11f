// DNS messages (RFC 1035), the part a cluster's name server needs: one question in, answers out.
// Bytes in, bytes out, no I/O; any thread.
#pragma once

#include "base/error.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::network {

inline constexpr std::uint16_t kDnsPort = 53;
inline constexpr std::uint16_t kDnsTypeA = 1;
inline constexpr std::uint16_t kDnsTypeCname = 5;
inline constexpr std::uint16_t kDnsTypePtr = 12;
inline constexpr std::uint16_t kDnsTypeAaaa = 28;
inline constexpr std::uint16_t kDnsTypeSrv = 33;
inline constexpr std::uint16_t kDnsTypeAny = 255;
inline constexpr std::size_t kDnsUdpBytesMax = 512;    // without EDNS
inline constexpr std::size_t kDnsEdnsBytesMax = 4096;  // whatever a client offers
inline constexpr std::size_t kDnsMessageBytesMax = 65535;

enum class DnsCode : std::uint8_t { kNoError = 0, kServerFailure = 2, kNoName = 3, kRefused = 5 };

struct DnsQuery {
  std::uint16_t id = 0;
  bool recursion_desired = false;
  std::string name;  // lower case, without the final dot
  std::uint16_t type = 0;
  std::string question;                         // as sent, to be repeated in the response
  std::size_t udp_bytes_max = kDnsUdpBytesMax;  // what the asker takes (EDNS)
};

/// A standard query with one question of class IN.
base::Result<DnsQuery> parseDnsQuery(std::string_view message);

/// A query for recursion, as parseDnsQuery reads it.
std::string dnsQuery(std::uint16_t id, std::string_view name, std::uint16_t type);

struct DnsRecord {
  std::string owner;  // empty: the question's name
  std::uint16_t type = 0;
  std::string data;
};
DnsRecord dnsA(const std::string& ipv4, std::string owner = "");
DnsRecord dnsCname(std::string_view target);
DnsRecord dnsPtr(std::string_view target);
DnsRecord dnsSrv(std::uint16_t port, std::string_view target);

/// A response. What exceeds `bytes_max` is cut and marked so (TC).
std::string dnsResponse(const DnsQuery& query, DnsCode code, const std::vector<DnsRecord>& records,
                        std::uint32_t ttl_seconds, std::size_t bytes_max = kDnsUdpBytesMax);

/// Of a response of somebody else: the code, and the IPv4 addresses among its answers. Nothing when
/// it is malformed or answers another question (`question` as in DnsQuery).
struct DnsReply {
  DnsCode code = DnsCode::kNoError;
  bool truncated = false;
  std::vector<std::string> ipv4_addresses;
};
std::optional<DnsReply> parseDnsReply(std::string_view message, std::string_view question);

std::uint16_t dnsId(std::string_view message);
/// `message` has two bytes at least.
void setDnsId(std::string& message, std::uint16_t id);

}  // namespace postern::network
