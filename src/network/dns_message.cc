#include "network/dns_message.h"

#include "base/strings.h"

#include <algorithm>

#include <arpa/inet.h>

namespace postern::network {
namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kLabelBytesMax = 63;
constexpr std::size_t kRecordHeaderBytes = 10;  // after the name
constexpr std::uint16_t kTypeOpt = 41;
constexpr unsigned kTruncated = 0x0200;
constexpr unsigned kRecursionDesired = 0x0100;
constexpr std::uint16_t kClassIn = 1;

std::uint16_t word(std::string_view bytes, std::size_t at) {
  return static_cast<std::uint16_t>((static_cast<unsigned char>(bytes[at]) << 8) |
                                    static_cast<unsigned char>(bytes[at + 1]));
}

void putWord(std::string& out, std::size_t value) {
  out.push_back(static_cast<char>((value >> 8) & 0xff));
  out.push_back(static_cast<char>(value & 0xff));
}

// Labels that are empty or too long cannot be written: they are left out, respectively cut.
std::string encodeName(std::string_view name) {
  std::string out;
  for (const std::string_view label : base::split(name, '.')) {
    if (label.empty()) continue;
    const std::string_view part = label.substr(0, kLabelBytesMax);
    out.push_back(static_cast<char>(part.size()));
    out += part;
  }
  out.push_back('\0');
  return out;
}

// Past a name in a message: labels, or a pointer at its end.
bool skipName(std::string_view message, std::size_t& at) {
  while (at < message.size()) {
    const std::size_t length = static_cast<unsigned char>(message[at]);
    if (length >= 0xc0) {
      at += 2;
      return at <= message.size();
    }
    if (length > kLabelBytesMax) return false;
    at += length + 1;
    if (length == 0) return at <= message.size();
  }
  return false;
}

// EDNS (RFC 6891): the one record of a plain query says how much the asker takes.
std::size_t ednsBytes(std::string_view message, std::size_t at) {
  if (word(message, 6) != 0 || word(message, 8) != 0 || word(message, 10) != 1 ||
      message.size() - at < 1 + kRecordHeaderBytes || message[at] != 0 ||
      word(message, at + 1) != kTypeOpt) {
    return kDnsUdpBytesMax;
  }
  return std::clamp<std::size_t>(word(message, at + 3), kDnsUdpBytesMax, kDnsEdnsBytesMax);
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
  out.udp_bytes_max = ednsBytes(message, at + 4);
  return out;
}

std::string dnsQuery(std::uint16_t id, std::string_view name, std::uint16_t type) {
  std::string out;
  putWord(out, id);
  putWord(out, kRecursionDesired);
  putWord(out, 1);
  putWord(out, 0);
  putWord(out, 0);
  putWord(out, 0);
  out += encodeName(name);
  putWord(out, type);
  putWord(out, kClassIn);
  return out;
}

DnsRecord dnsA(const std::string& ipv4, std::string owner) {
  in_addr address{};
  ::inet_pton(AF_INET, ipv4.c_str(), &address);
  return {std::move(owner), kDnsTypeA, {reinterpret_cast<const char*>(&address), sizeof(address)}};
}

DnsRecord dnsCname(std::string_view target) { return {"", kDnsTypeCname, encodeName(target)}; }
DnsRecord dnsPtr(std::string_view target) { return {"", kDnsTypePtr, encodeName(target)}; }

DnsRecord dnsSrv(std::uint16_t port, std::string_view target) {
  DnsRecord out{"", kDnsTypeSrv, ""};
  putWord(out.data, 0);    // priority
  putWord(out.data, 100);  // weight
  putWord(out.data, port);
  out.data += encodeName(target);
  return out;
}

std::string dnsResponse(const DnsQuery& query, DnsCode code, const std::vector<DnsRecord>& records,
                        std::uint32_t ttl_seconds, std::size_t bytes_max) {
  const std::size_t used = kHeaderBytes + query.question.size();
  std::string body;
  std::size_t count = 0;
  bool truncated = false;
  for (const DnsRecord& record : records) {
    std::string bytes;
    if (record.owner.empty()) {
      putWord(bytes, 0xc000 | kHeaderBytes);  // the question's name
    } else {
      bytes += encodeName(record.owner);
    }
    putWord(bytes, record.type);
    putWord(bytes, kClassIn);
    putWord(bytes, ttl_seconds >> 16);
    putWord(bytes, ttl_seconds & 0xffff);
    putWord(bytes, record.data.size());
    bytes += record.data;
    truncated = used + body.size() + bytes.size() > bytes_max;
    if (truncated) break;
    body += bytes;
    ++count;
  }
  std::string out;
  putWord(out, query.id);
  // Response, authoritative, recursion available.
  putWord(out, 0x8480U | (truncated ? kTruncated : 0U) |
                   (query.recursion_desired ? kRecursionDesired : 0U) |
                   static_cast<unsigned>(code));
  putWord(out, 1);
  putWord(out, count);
  putWord(out, 0);
  putWord(out, 0);
  return out + query.question + body;
}

std::optional<DnsReply> parseDnsReply(std::string_view message, std::string_view question) {
  if (message.size() < kHeaderBytes + question.size()) return std::nullopt;
  const std::uint16_t flags = word(message, 2);
  if ((flags & 0x8000U) == 0 || word(message, 4) != 1) return std::nullopt;
  if (!base::equalsIgnoreCase(message.substr(kHeaderBytes, question.size()), question)) {
    return std::nullopt;
  }
  DnsReply out;
  out.code = static_cast<DnsCode>(flags & 0xfU);
  out.truncated = (flags & kTruncated) != 0;
  std::size_t at = kHeaderBytes + question.size();
  for (unsigned left = word(message, 6); left > 0; --left) {
    if (!skipName(message, at) || message.size() - at < kRecordHeaderBytes) return std::nullopt;
    const std::uint16_t type = word(message, at);
    const std::size_t length = word(message, at + 8);
    at += kRecordHeaderBytes;
    if (message.size() - at < length) return std::nullopt;
    if (type == kDnsTypeA && length == sizeof(in_addr)) {
      char text[INET_ADDRSTRLEN] = {};
      ::inet_ntop(AF_INET, message.data() + at, text, sizeof(text));
      out.ipv4_addresses.emplace_back(text);
    }
    at += length;
  }
  return out;
}

std::uint16_t dnsId(std::string_view message) { return message.size() < 2 ? 0 : word(message, 0); }

void setDnsId(std::string& message, std::uint16_t id) {
  message[0] = static_cast<char>(id >> 8U);
  message[1] = static_cast<char>(id & 0xffU);
}

}  // namespace postern::network
