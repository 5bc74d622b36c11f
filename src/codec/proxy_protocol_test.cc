#include "codec/proxy_protocol.h"

#include <gtest/gtest.h>

#include <string>

namespace postern::codec {
namespace {

using namespace std::string_literals;

const std::string kSignature = "\r\n\r\n\0\r\nQUIT\n"s;

std::string v2(unsigned char command, unsigned char family, const std::string& rest) {
  return kSignature + static_cast<char>(command) + static_cast<char>(family) +
         static_cast<char>(rest.size() >> 8) + static_cast<char>(rest.size()) + rest;
}
const std::string kIp4Rest = "\x0a\x00\x00\x01\x0a\x00\x00\x02\x1f\x90\x00\x50"s;

ProxyResult resultOf(const std::string& bytes) {
  ProxyHeader header;
  return readProxyHeader(bytes, header).result;
}

TEST(ProxyProtocol, ReadsVersion1) {
  ProxyHeader header;
  const std::string line = "PROXY TCP4 192.168.0.1 10.0.0.2 56324 443\r\n";
  const ProxyRead read = readProxyHeader(line + "GET / HTTP/1.1\r\n", header);
  EXPECT_EQ(read.result, ProxyResult::kHeader);
  EXPECT_EQ(read.bytes, line.size());
  EXPECT_EQ(header.family, ProxyFamily::kIp4);
  EXPECT_EQ(header.source.ip[0], 192);
  EXPECT_EQ(header.source.port, 56324);
  EXPECT_EQ(header.destination.ip[3], 2);
  EXPECT_EQ(header.destination.port, 443);
  EXPECT_EQ(writeProxyHeader(header), line);
}

TEST(ProxyProtocol, ReadsVersion1OfIp6AndUnknown) {
  ProxyHeader header;
  const std::string line = "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
  EXPECT_EQ(readProxyHeader(line, header).result, ProxyResult::kHeader);
  EXPECT_EQ(writeProxyHeader(header), line);
  EXPECT_EQ(readProxyHeader("PROXY UNKNOWN ff:ff 1 2 whatever\r\n", header).result,
            ProxyResult::kHeader);
  EXPECT_EQ(header.family, ProxyFamily::kNone);
  EXPECT_EQ(writeProxyHeader(header), "PROXY UNKNOWN\r\n");
}

TEST(ProxyProtocol, RefusesBrokenVersion1) {
  for (const char* line :
       {"PROXY \r\n", "PROXY TCP4\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP4 1.2.3.4.5 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n", "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY UNKNOWNX\r\n"}) {
    EXPECT_EQ(resultOf(line), ProxyResult::kBad) << line;
  }
}

TEST(ProxyProtocol, Version1EndsWithinItsLimit) {
  const std::string start = "PROXY UNKNOWN ";
  const std::string longest =
      start + std::string(kProxyV1BytesMax - start.size() - 2, 'x') + "\r\n";
  ASSERT_EQ(longest.size(), kProxyV1BytesMax);
  EXPECT_EQ(resultOf(longest), ProxyResult::kHeader);
  EXPECT_EQ(resultOf(longest.substr(0, longest.size() - 1)), ProxyResult::kMore);
  EXPECT_EQ(resultOf(start + std::string(kProxyV1BytesMax - start.size() - 1, 'x') + "\r\n"),
            ProxyResult::kBad);
  EXPECT_EQ(resultOf(start + std::string(4096, 'x')), ProxyResult::kBad);
}

TEST(ProxyProtocol, ReadsVersion2WithTlvs) {
  const std::string bytes = v2(0x21, 0x11,
                               kIp4Rest +
                                   "\x02\x00\x03"
                                   "abc"s +
                                   "\xe0\x00\x00"s);
  ProxyHeader header;
  const ProxyRead read = readProxyHeader(bytes + "more", header);
  EXPECT_EQ(read.result, ProxyResult::kHeader);
  EXPECT_EQ(read.bytes, bytes.size());
  EXPECT_EQ(header.source.port, 8080);
  EXPECT_EQ(header.destination.port, 80);
  EXPECT_EQ(header.tlvs, (std::vector<ProxyTlv>{{2, "abc"}, {0xe0, ""}}));
  EXPECT_EQ(writeProxyHeader(header), bytes);
}

TEST(ProxyProtocol, LocalKeepsTheConnectionsAddresses) {
  for (const int family : {0x00, 0x11, 0x21, 0x31, 0xff}) {
    ProxyHeader header;
    const std::string bytes = v2(0x20, static_cast<unsigned char>(family), "anything");
    EXPECT_EQ(readProxyHeader(bytes, header).bytes, bytes.size());
    EXPECT_EQ(header.family, ProxyFamily::kNone);
  }
  EXPECT_EQ(writeProxyHeader({.version = ProxyVersion::kV2}), v2(0x20, 0, ""));
}

TEST(ProxyProtocol, RefusesBrokenVersion2) {
  EXPECT_EQ(resultOf(kSignature + "\x11"), ProxyResult::kBad);       // version 1 in the binary form
  EXPECT_EQ(resultOf(kSignature + "\x22"), ProxyResult::kBad);       // no such command
  EXPECT_EQ(resultOf(v2(0x21, 0x12, kIp4Rest)), ProxyResult::kBad);  // datagrams
  EXPECT_EQ(resultOf(v2(0x21, 0x31, std::string(216, 'x'))), ProxyResult::kBad);  // Unix
  EXPECT_EQ(resultOf(v2(0x21, 0x00, "")), ProxyResult::kBad);
  EXPECT_EQ(resultOf(v2(0x21, 0x11, kIp4Rest.substr(1))), ProxyResult::kBad);
  EXPECT_EQ(resultOf(v2(0x21, 0x21, kIp4Rest)), ProxyResult::kBad);
  EXPECT_EQ(resultOf(v2(0x21, 0x11, kIp4Rest + "\x02\x00"s)), ProxyResult::kBad);
  EXPECT_EQ(resultOf(v2(0x21, 0x11,
                        kIp4Rest + "\x02\x00\x04"
                                   "abc"s)),
            ProxyResult::kBad);
  EXPECT_EQ(resultOf(v2(0x21, 0x11,
                        kIp4Rest + "\x02\xff\xff"
                                   "abc"s)),
            ProxyResult::kBad);
}

TEST(ProxyProtocol, TellsAHeaderFromOtherBytesEarly) {
  for (const char* bytes : {"GET /", "P ", "PROXYX", "\r\n\r\nx", "\x16\x03\x01"})
    EXPECT_EQ(resultOf(bytes), ProxyResult::kNone) << bytes;
  for (const char* bytes : {"", "P", "PROXY", "\r", "\r\n\r\n"})
    EXPECT_EQ(resultOf(bytes), ProxyResult::kMore) << bytes;
}

TEST(ProxyProtocol, EveryCutAsksForMore) {
  const std::string bytes = v2(0x21, 0x11,
                               kIp4Rest +
                                   "\x02\x00\x03"
                                   "abc"s);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    ProxyHeader header;
    const ProxyRead read = readProxyHeader(bytes.substr(0, length), header);
    EXPECT_EQ(read.result, ProxyResult::kMore) << length;
    EXPECT_GT(read.bytes, length);
    EXPECT_LE(read.bytes, bytes.size());
  }
}

TEST(ProxyProtocol, WritesAtMostWhatTheLengthFieldHolds) {
  ProxyHeader header{.version = ProxyVersion::kV2, .family = ProxyFamily::kIp6};
  const std::size_t room = kProxyV2RestBytesMax - 36 - 3;
  header.tlvs.push_back({0xe0, std::string(room, 'x')});
  bool complete = false;
  EXPECT_EQ(writeProxyHeader(header, &complete).size(), kProxyHeaderBytesMax);
  EXPECT_TRUE(complete);
  ProxyHeader back;
  EXPECT_EQ(readProxyHeader(writeProxyHeader(header), back).bytes, kProxyHeaderBytesMax);
  EXPECT_EQ(back.tlvs, header.tlvs);
  header.tlvs.push_back({0xe1, ""});
  EXPECT_EQ(writeProxyHeader(header, &complete).size(), kProxyHeaderBytesMax);
  EXPECT_FALSE(complete);
}

}  // namespace
}  // namespace postern::codec
