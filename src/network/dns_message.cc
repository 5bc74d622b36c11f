#include "network/dns_message.h"

#include "base/strings.h"

#include <arpa/inet.h>

namespace postern::network {
namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kLabelBytesMax = 63;
constexpr std::size_t kRecordBytes = 16;
constexpr std::uint16_t kClassIn = 1;

std::uint16_t word(std::string_view bytes, std::size_t at) {
  return static_cast<std::uint16_t>((static_cast<unsigned char>(bytes[at]) << 8) |
                                    static_cast<unsigned char>(bytes[at + 1]));
}

void putWord(std::string& out, std::size_t value) {
  out.push_back(static_cast<char>((value >> 8) & 0xff));
  out.push_back(static_cast<char>(value & 0xff));
}

}  // namespace

base::Result<DnsQuery> parseDnsQuery(std::string_view message) {
  using base::Errc;
  if (message.size() < kHeaderBytes) return base::fail(Errc::kParse, "dns: message too short");
  const std::uint16_t flags = word(message, 2);
  if ((flags & 0xf800) != 0) return base::fail(Errc::kUnsupported, "dns: not a standard query");
  if (word(message, 4) != 1) return base::fail(Errc::kUnsupported, "dns: not one question");

  DnsQuery out;
  out.id = word(message, 0);
  out.recursion_desired = (flags & 0x0100) != 0;
  std::size_t at = kHeaderBytes;
  while (true) {
    if (at >= message.size()) return base::fail(Errc::kParse, "dns: name runs past the end");
    const std::size_t length = static_cast<unsigned char>(message[at++]);
    if (length == 0) break;
    if (length > kLabelBytesMax) return base::fail(Errc::kParse, "dns: compressed question name");
    if (message.size() - at < length || out.name.size() + length + 1 > kNameBytesMax) {
      return base::fail(Errc::kParse, "dns: name too long");
    }
    if (!out.name.empty()) out.name.push_back('.');
    out.name += base::toLower(message.substr(at, length));
    at += length;
  }
  if (message.size() - at < 4) return base::fail(Errc::kParse, "dns: question cut off");
  out.type = word(message, at);
  if (word(message, at + 2) != kClassIn) return base::fail(Errc::kUnsupported, "dns: class not IN");
  out.question = message.substr(kHeaderBytes, at + 4 - kHeaderBytes);
  return out;
}

std::string dnsResponse(const DnsQuery& query, DnsCode code,
                        const std::vector<std::string>& ipv4_addresses, std::uint32_t ttl_seconds,
                        std::size_t bytes_max) {
  const std::size_t used = kHeaderBytes + query.question.size();
  const std::size_t room = bytes_max > used ? (bytes_max - used) / kRecordBytes : 0;
  std::string records;
  std::size_t count = 0;
  bool truncated = false;
  for (const std::string& ip : ipv4_addresses) {
    in_addr address{};
    if (::inet_pton(AF_INET, ip.c_str(), &address) != 1) continue;
    truncated = count == room;
    if (truncated) break;
    putWord(records, 0xc000 | kHeaderBytes);  // the question's name
    putWord(records, kDnsTypeA);
    putWord(records, kClassIn);
    putWord(records, ttl_seconds >> 16);
    putWord(records, ttl_seconds & 0xffff);
    putWord(records, sizeof(address));
    records.append(reinterpret_cast<const char*>(&address), sizeof(address));
    ++count;
  }
  std::string out;
  putWord(out, query.id);
  // Response, authoritative, recursion available.
  putWord(out, 0x8480U | (truncated ? 0x0200U : 0U) | (query.recursion_desired ? 0x0100U : 0U) |
                   static_cast<unsigned>(code));
  putWord(out, 1);
  putWord(out, count);
  putWord(out, 0);
  putWord(out, 0);
  return out + query.question + records;
}

}  // namespace postern::network
