// Filter chains and what is read of the first bytes.
#include "proxy/filter_chain_match.h"
#include "proxy/protocol_detection.h"

#include <gtest/gtest.h>

#include <fstream>

namespace postern::proxy {
namespace {

std::shared_ptr<FilterChain> chain(std::string name, FilterChainMatch match) {
  auto out = std::make_shared<FilterChain>();
  out->name = std::move(name);
  out->match = std::move(match);
  return out;
}

struct Fixture {
  Listener listener;
  ConnectionFacts facts;
  Fixture() {
    facts.destination = *net::Address::parse("10.0.0.1:80");
    facts.source = *net::Address::parse("10.0.0.9:5000");
    facts.direct_source = facts.source;
  }
  void add(std::string name, FilterChainMatch match) {
    listener.chains.push_back(chain(std::move(name), std::move(match)));
  }
  std::string found() const {
    const auto chosen = findChain(listener, facts);
    return chosen == nullptr ? "" : chosen->name;
  }
};

TEST(FilterChainMatch, PortBeforeAddressBeforeName) {
  Fixture f;
  f.add("any", {});
  f.add("port", {.destination_port = 80});
  f.add("address", {.prefixes = {*net::Cidr::parse("10.0.0.0/8")}});
  EXPECT_EQ(f.found(), "port");
  f.facts.destination.setPort(81);
  EXPECT_EQ(f.found(), "address");
  f.facts.destination = *net::Address::parse("11.0.0.1:81");
  EXPECT_EQ(f.found(), "any");
}

TEST(FilterChainMatch, DoesNotGoBack) {
  Fixture f;
  // The port decides for good; that the name then does not fit leads to the default chain.
  f.add("port and name", {.destination_port = 80, .server_names = {"a.example"}});
  f.add("any", {});
  f.listener.fallback = chain("default", {});
  EXPECT_EQ(f.found(), "default");
  f.listener.fallback = nullptr;
  EXPECT_EQ(f.found(), "");
  f.facts.server_name = "a.example";
  EXPECT_EQ(f.found(), "port and name");
}

TEST(FilterChainMatch, LongestPrefixAndLongestSuffix) {
  Fixture f;
  f.add("8", {.prefixes = {*net::Cidr::parse("10.0.0.0/8")}});
  f.add("24", {.prefixes = {*net::Cidr::parse("10.0.0.0/24")}});
  EXPECT_EQ(f.found(), "24");
  Fixture names;
  names.add("any", {});
  names.add("com", {.server_names = {"*.com"}});
  names.add("b.com", {.server_names = {"*.b.com"}});
  names.add("a.b.com", {.server_names = {"a.b.com"}});
  const auto at = [&](const char* name) {
    names.facts.server_name = name;
    return names.found();
  };
  EXPECT_EQ(at("a.b.com"), "a.b.com");
  EXPECT_EQ(at("x.b.com"), "b.com");
  EXPECT_EQ(at("x.com"), "com");
  EXPECT_EQ(at("com"), "any");
  EXPECT_EQ(at(""), "any");
}

TEST(FilterChainMatch, Protocols) {
  Fixture f;
  f.add("http", {.transport_protocol = "raw_buffer", .application_protocols = {"http/1.1", "h2c"}});
  f.add("plain", {.transport_protocol = "raw_buffer"});
  f.add("any", {});
  f.facts.application_protocols = {"h2c"};
  EXPECT_EQ(f.found(), "http");
  f.facts.application_protocols.clear();
  EXPECT_EQ(f.found(), "plain");
  f.facts.transport_protocol = "tls";
  EXPECT_EQ(f.found(), "any");
}

TEST(FilterChainMatch, TellsWhenTwoChainsCouldTakeTheSameConnection) {
  FilterChainMatch a{.server_names = {"a", "b"}};
  EXPECT_FALSE(overlap(a, {}));  // a name is more specific than none
  EXPECT_FALSE(overlap(a, {.server_names = {"c"}}));
  EXPECT_TRUE(overlap(a, {.server_names = {"b", "c"}}));
  EXPECT_FALSE(overlap(a, {.server_names = {"b"}, .transport_protocol = "tls"}));
  FilterChainMatch range{.prefixes = {*net::Cidr::parse("10.1.0.0/8")}};
  EXPECT_TRUE(overlap(range, {.prefixes = {*net::Cidr::parse("10.0.0.0/8")}}));
  EXPECT_FALSE(overlap(range, {.prefixes = {*net::Cidr::parse("10.0.0.0/9")}}));
  EXPECT_FALSE(overlap({.destination_port = 1}, {.destination_port = 2}));
}

TEST(FilterChainMatch, Sources) {
  Fixture f;
  f.add("direct", {.direct_sources = {*net::Cidr::parse("10.0.9.0/24")}});
  f.add("local", {.source_type = SourceType::kSameIpOrLoopback});
  f.add("outside", {.source_type = SourceType::kExternal,
                    .sources = {*net::Cidr::parse("10.0.0.9/32")},
                    .source_ports = {5000}});
  EXPECT_EQ(f.found(), "outside");
  f.facts.source.setPort(1);
  EXPECT_EQ(f.found(), "");
  f.facts.source = *net::Address::parse("10.0.0.1:1");
  EXPECT_EQ(f.found(), "local");
  f.facts.source = *net::Address::parse("127.0.0.1:1");
  EXPECT_EQ(f.found(), "local");
  f.facts.source = *net::Address::parse("10.0.9.1:1");
  EXPECT_EQ(f.found(), "");  // told by a PROXY header: it is not who connected
  f.facts.direct_source = *net::Address::parse("10.0.9.1:1");
  EXPECT_EQ(f.found(), "direct");
}

TEST(HttpInspector, TellsVersions) {
  const auto at = [](std::string_view bytes) {
    ConnectionFacts facts;
    switch (detectHttp(bytes, facts)) {
      case Detection::kFound:
        return facts.application_protocols.front();
      case Detection::kMore:
        return std::string("more");
      default:
        return std::string("no");
    }
  };
  EXPECT_EQ(at("GET / HTTP/1.1\r\n"), "http/1.1");
  EXPECT_EQ(at("GET / HTTP/1.0\n"), "http/1.0");
  EXPECT_EQ(at("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "h2c");
  EXPECT_EQ(at("PRI * HT"), "more");
  EXPECT_EQ(at("GET / HT"), "more");
  EXPECT_EQ(at("EHLO there\r\n"), "no");
  EXPECT_EQ(at("\x16\x03\x01"), "no");
  EXPECT_EQ(at(std::string(40, 'A')), "no");
  EXPECT_EQ(at("GET /" + std::string(kInspectedBytesMax, 'a')), "no");
}

TEST(TlsInspector, ANameThatCannotBeOneDoesNotReachLogsOrFields) {
  std::string hello;
  std::ifstream file(std::string(POSTERN_SOURCE_DIR) +
                     "/fuzz/corpus/codec_client_hello_fuzz/tls13");
  hello.assign(std::istreambuf_iterator<char>(file), {});
  const std::size_t at = hello.find("a.example");
  ASSERT_NE(at, std::string::npos);
  const std::pair<std::string, std::string> names[] = {{"a_b.e-x.2", "a_b.e-x.2"},
                                                       {"a\r\nx: y\n1", "invalid:a__x__y_1"},
                                                       {"*.example", "invalid:_.example"}};
  for (const auto& [sent, shown] : names) {
    hello.replace(at, 9, sent);
    ConnectionFacts facts;
    ASSERT_EQ(detectTls(hello, kInspectedBytesMax, facts), Detection::kFound);
    EXPECT_EQ(facts.server_name, shown);
  }
}

TEST(TlsInspector, HasALimit) {
  ConnectionFacts facts;
  const std::string hello("\x16\x03\x01\x40\x00\x01\x00\x3f\x00", 9);
  EXPECT_EQ(detectTls(hello, 100, facts), Detection::kMore);
  EXPECT_EQ(detectTls(hello + std::string(91, 'x'), 100, facts), Detection::kTooLarge);
}

}  // namespace
}  // namespace postern::proxy
