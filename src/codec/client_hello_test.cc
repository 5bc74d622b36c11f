#include "codec/client_hello.h"

#include <gtest/gtest.h>

namespace postern::codec {
namespace {

std::string u16(std::size_t n) { return {static_cast<char>(n >> 8), static_cast<char>(n & 255)}; }
std::string vector16(const std::string& text) { return u16(text.size()) + text; }
std::string vector8(const std::string& text) {
  return std::string(1, static_cast<char>(text.size())) + text;
}
std::string extension(std::size_t type, const std::string& content) {
  return u16(type) + vector16(content);
}
std::string record(const std::string& content) {
  return std::string("\x16\x03\x01") + vector16(content);
}

std::string handshake(const std::string& extensions) {
  const std::string body = std::string("\x03\x03") + std::string(32, 'r') + vector8("session") +
                           vector16(std::string("\x13\x01", 2)) + vector8(std::string(1, '\0')) +
                           vector16(extensions);
  return std::string("\x01\x00", 2) + u16(body.size()) + body;
}
std::string sni(const std::string& name) {
  return extension(0, vector16(std::string(1, '\0') + vector16(name)));
}
std::string alpn() { return extension(16, vector16(vector8("h2") + vector8("http/1.1"))); }

TEST(ClientHello, GivesNameAndProtocols) {
  ClientHello out;
  ASSERT_EQ(readClientHello(record(handshake(extension(43, "x") + sni("A.Example") + alpn())), out),
            HelloResult::kTls);
  EXPECT_EQ(out.server_name, "a.example");
  EXPECT_EQ(out.protocols, (std::vector<std::string>{"h2", "http/1.1"}));
}

TEST(ClientHello, MayBeSplitAnywhere) {
  const std::string all = handshake(sni("a.example"));
  // Over three records, and shown byte by byte.
  const std::string bytes =
      record(all.substr(0, 3)) + record(all.substr(3, 50)) + record(all.substr(53));
  ClientHello out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    ASSERT_EQ(readClientHello(bytes.substr(0, i), out), HelloResult::kMore) << i;
  }
  ASSERT_EQ(readClientHello(bytes, out), HelloResult::kTls);
  EXPECT_EQ(out.server_name, "a.example");
}

TEST(ClientHello, PlainTextIsRecognisedByItsFirstByte) {
  ClientHello out;
  EXPECT_EQ(readClientHello("", out), HelloResult::kMore);
  EXPECT_EQ(readClientHello("G", out), HelloResult::kNotTls);
  EXPECT_EQ(readClientHello("\x16\x02", out), HelloResult::kNotTls);
  EXPECT_EQ(readClientHello(record(std::string("\x02\x00\x00\x00", 4)), out), HelloResult::kNotTls);
}

TEST(ClientHello, BadLengthsAreNotTls) {
  ClientHello out;
  EXPECT_EQ(readClientHello(std::string("\x16\x03\x01\x00\x00", 5), out), HelloResult::kNotTls);
  EXPECT_EQ(readClientHello(std::string("\x16\x03\x01\xff\xff", 5), out), HelloResult::kNotTls);
  EXPECT_EQ(readClientHello(record(handshake(u16(0) + u16(9) + "x")), out), HelloResult::kNotTls);
  EXPECT_EQ(readClientHello(record(handshake(sni(std::string("a\0b", 3)))), out),
            HelloResult::kNotTls);
}

TEST(ClientHello, WithoutExtensionsHasNoName) {
  ClientHello out;
  ASSERT_EQ(readClientHello(record(handshake("")), out), HelloResult::kTls);
  EXPECT_TRUE(out.server_name.empty());
}

}  // namespace
}  // namespace postern::codec
