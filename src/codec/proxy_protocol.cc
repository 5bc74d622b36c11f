#include "codec/proxy_protocol.h"

#include "base/strings.h"

#include <algorithm>
#include <optional>

#include <arpa/inet.h>

namespace postern::codec {

namespace {

constexpr std::string_view kV1Start = "PROXY ";
constexpr std::string_view kV2Start("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t kIp4Bytes = 12;  // two addresses, two ports
constexpr std::size_t kIp6Bytes = 36;
constexpr std::size_t kTlvHeadBytes = 3;
constexpr unsigned char kLocalCommand = 0x20;
constexpr unsigned char kProxyCommand = 0x21;
constexpr unsigned char kTcp4 = 0x11;
constexpr unsigned char kTcp6 = 0x21;

std::uint16_t read16(std::string_view at) {
  return static_cast<std::uint16_t>(static_cast<unsigned char>(at[0]) << 8 |
                                    static_cast<unsigned char>(at[1]));
}

void write16(std::string& out, std::size_t value) {
  out += static_cast<char>(value >> 8 & 0xff);
  out += static_cast<char>(value & 0xff);
}

// ---- version 1 ----

bool readIp(std::string_view text, ProxyFamily family, ProxyEnd& out) {
  if (text.find('\0') != std::string_view::npos) return false;
  const std::string terminated(text);
  return ::inet_pton(family == ProxyFamily::kIp4 ? AF_INET : AF_INET6, terminated.c_str(),
                     out.ip.data()) == 1;
}

bool readPort(std::string_view text, ProxyEnd& out) {
  if (text.size() > 1 && text.front() == '0') return false;  // "no leading zeroes"
  const auto port = base::parseInteger<std::uint16_t>(text);
  if (port) out.port = *port;
  return port.has_value();
}

/// What stands between the signature and CRLF.
bool readLine(std::string_view line, ProxyHeader& out) {
  if (line == "UNKNOWN" || line.starts_with("UNKNOWN ")) return true;
  const std::vector<std::string_view> words = base::split(line, ' ');
  if (words.size() != 5) return false;
  if (words[0] == "TCP4") {
    out.family = ProxyFamily::kIp4;
  } else if (words[0] == "TCP6") {
    out.family = ProxyFamily::kIp6;
  } else {
    return false;
  }
  return readIp(words[1], out.family, out.source) &&
         readIp(words[2], out.family, out.destination) && readPort(words[3], out.source) &&
         readPort(words[4], out.destination);
}

ProxyRead readV1(std::string_view bytes, ProxyHeader& out) {
  out.version = ProxyVersion::kV1;
  const std::string_view within = bytes.substr(0, kProxyV1BytesMax);
  const std::size_t end = within.find("\r\n");
  if (end == std::string_view::npos) {
    if (within.size() == kProxyV1BytesMax) return {ProxyResult::kBad};
    return {ProxyResult::kMore, bytes.size() + 1};
  }
  const std::string_view line = within.substr(kV1Start.size(), end - kV1Start.size());
  if (!readLine(line, out)) return {ProxyResult::kBad};
  return {ProxyResult::kHeader, end + 2};
}

// ---- version 2 ----

void readEnd(std::string_view ip, std::string_view port, ProxyEnd& out) {
  std::copy(ip.begin(), ip.end(), reinterpret_cast<char*>(out.ip.data()));
  out.port = read16(port);
}

bool readTlvs(std::string_view rest, ProxyHeader& out) {
  while (!rest.empty()) {
    if (rest.size() < kTlvHeadBytes) return false;
    const std::size_t length = read16(rest.substr(1));
    if (rest.size() - kTlvHeadBytes < length) return false;
    out.tlvs.push_back(
        {static_cast<std::uint8_t>(rest[0]), std::string(rest.substr(kTlvHeadBytes, length))});
    rest.remove_prefix(kTlvHeadBytes + length);
  }
  return true;
}

ProxyRead readV2(std::string_view bytes, ProxyHeader& out) {
  out.version = ProxyVersion::kV2;
  if (bytes.size() > kV2Start.size()) {
    const auto command = static_cast<unsigned char>(bytes[kV2Start.size()]);
    if (command != kLocalCommand && command != kProxyCommand) return {ProxyResult::kBad};
  }
  if (bytes.size() < kProxyV2FixedBytes) return {ProxyResult::kMore, kProxyV2FixedBytes};
  const std::size_t length = read16(bytes.substr(14));
  const std::size_t whole = kProxyV2FixedBytes + length;
  const bool local = static_cast<unsigned char>(bytes[12]) == kLocalCommand;
  const auto family = static_cast<unsigned char>(bytes[13]);
  if (!local && family != kTcp4 && family != kTcp6) return {ProxyResult::kBad};
  const std::size_t addresses = local ? 0 : family == kTcp4 ? kIp4Bytes : kIp6Bytes;
  if (length < addresses) return {ProxyResult::kBad};
  if (bytes.size() < whole) return {ProxyResult::kMore, whole};
  // "The receiver must ignore" the addresses of LOCAL; what follows them cannot be told apart.
  if (local) return {ProxyResult::kHeader, whole};
  const std::string_view rest = bytes.substr(kProxyV2FixedBytes, length);
  const std::size_t ip = family == kTcp4 ? 4 : 16;
  out.family = family == kTcp4 ? ProxyFamily::kIp4 : ProxyFamily::kIp6;
  readEnd(rest.substr(0, ip), rest.substr(2 * ip, 2), out.source);
  readEnd(rest.substr(ip, ip), rest.substr(2 * ip + 2, 2), out.destination);
  if (!readTlvs(rest.substr(addresses), out)) return {ProxyResult::kBad};
  return {ProxyResult::kHeader, whole};
}

std::string writeV1(const ProxyHeader& header) {
  if (header.family == ProxyFamily::kNone) return "PROXY UNKNOWN\r\n";
  const bool four = header.family == ProxyFamily::kIp4;
  const auto ip = [four](const ProxyEnd& end) {
    char text[INET6_ADDRSTRLEN] = "";
    ::inet_ntop(four ? AF_INET : AF_INET6, end.ip.data(), text, sizeof text);
    return std::string(text);
  };
  return std::string(kV1Start) + (four ? "TCP4 " : "TCP6 ") + ip(header.source) + " " +
         ip(header.destination) + " " + std::to_string(header.source.port) + " " +
         std::to_string(header.destination.port) + "\r\n";
}

}  // namespace

ProxyRead readProxyHeader(std::string_view bytes, ProxyHeader& out) {
  out = {};
  const auto begins = [&](std::string_view signature) {
    return bytes.substr(0, signature.size()) == signature.substr(0, bytes.size());
  };
  if (begins(kV1Start)) {
    return bytes.size() < kV1Start.size() ? ProxyRead{ProxyResult::kMore, kV1Start.size()}
                                          : readV1(bytes, out);
  }
  if (begins(kV2Start)) {
    return bytes.size() < kV2Start.size() ? ProxyRead{ProxyResult::kMore, kProxyV2FixedBytes}
                                          : readV2(bytes, out);
  }
  return {ProxyResult::kNone};
}

std::string writeProxyHeader(const ProxyHeader& header, bool* complete) {
  if (complete != nullptr) *complete = true;
  if (header.version == ProxyVersion::kV1) return writeV1(header);
  std::string rest;
  const bool four = header.family == ProxyFamily::kIp4;
  if (header.family != ProxyFamily::kNone) {
    const std::size_t ip = four ? 4 : 16;
    rest.append(reinterpret_cast<const char*>(header.source.ip.data()), ip);
    rest.append(reinterpret_cast<const char*>(header.destination.ip.data()), ip);
    write16(rest, header.source.port);
    write16(rest, header.destination.port);
    for (const ProxyTlv& tlv : header.tlvs) {
      if (rest.size() + kTlvHeadBytes + tlv.value.size() > kProxyV2RestBytesMax) {
        if (complete != nullptr) *complete = false;
        break;
      }
      rest += static_cast<char>(tlv.type);
      write16(rest, tlv.value.size());
      rest += tlv.value;
    }
  }
  std::string out(kV2Start);
  const bool local = header.family == ProxyFamily::kNone;
  out += static_cast<char>(local ? kLocalCommand : kProxyCommand);
  out += static_cast<char>(local ? 0 : four ? kTcp4 : kTcp6);
  write16(out, rest.size());
  return out + rest;
}

}  // namespace postern::codec
