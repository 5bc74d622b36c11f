// The PROXY protocol, versions 1 and 2: who opened a connection that a proxy passes on
// (haproxy.org, doc/proxy-protocol.txt, sections 2.1 and 2.2). Bytes in, values out; decides
// nothing, trusts no length.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postern::codec {

/// Longest line of version 1, with its CRLF.
inline constexpr std::size_t kProxyV1BytesMax = 107;
/// Fixed part of version 2; its length field is at most 65535.
inline constexpr std::size_t kProxyV2FixedBytes = 16;
inline constexpr std::size_t kProxyV2RestBytesMax = 65535;
inline constexpr std::size_t kProxyHeaderBytesMax = kProxyV2FixedBytes + kProxyV2RestBytesMax;
/// Fewest bytes that tell a header from anything else.
inline constexpr std::size_t kProxySignatureBytesMax = 12;

enum class ProxyVersion : unsigned char { kV1 = 1, kV2 = 2 };
enum class ProxyFamily : unsigned char {
  kNone,  // LOCAL or UNKNOWN: the connection's own addresses hold
  kIp4,
  kIp6,
};

struct ProxyEnd {
  std::array<unsigned char, 16> ip{};  // network order; the first four of IPv4
  std::uint16_t port = 0;
  bool operator==(const ProxyEnd&) const = default;
};

struct ProxyTlv {
  std::uint8_t type = 0;
  std::string value;
  bool operator==(const ProxyTlv&) const = default;
};

struct ProxyHeader {
  ProxyVersion version = ProxyVersion::kV1;
  ProxyFamily family = ProxyFamily::kNone;
  ProxyEnd source;
  ProxyEnd destination;
  std::vector<ProxyTlv> tlvs;  // version 2, in their order
};

enum class ProxyResult : unsigned char {
  kMore,    // a header may still come: show at least `bytes` bytes, from the start again
  kHeader,  // `out` is filled; the header has `bytes` bytes
  kNone,    // does not begin like one
  kBad,     // begins like one of `out.version` and is broken
};

struct ProxyRead {
  ProxyResult result = ProxyResult::kMore;
  std::size_t bytes = 0;
};

/// `bytes` is everything received so far. A family or transport that a TCP connection cannot have
/// (datagrams, Unix addresses) is kBad: its addresses cannot be told on.
ProxyRead readProxyHeader(std::string_view bytes, ProxyHeader& out);

/// The header's bytes. Version 1 has no room for TLVs and leaves them out; so does version 2 from
/// the first that would pass the length field on: `complete` then is false.
std::string writeProxyHeader(const ProxyHeader& header, bool* complete = nullptr);

}  // namespace postern::codec
