// PROXY headers: what the listener filter makes of them, and what upstream connections begin with.
#include "codec/proxy_protocol.h"

#include "proxy/accept_fixture_test.h"

namespace postern::proxy {
namespace {

using namespace std::string_literals;

constexpr const char* kFilter = "listener.proxy_protocol.v3.ProxyProtocol";
const std::string kSignature = "\r\n\r\n\0\r\nQUIT\n"s;
const std::string kLine = "PROXY TCP4 10.9.8.7 10.0.0.2 4711 443\r\n";

std::string v2(char command, char family, const std::string& rest) {
  return kSignature + command + family + static_cast<char>(rest.size() >> 8) +
         static_cast<char>(rest.size()) + rest;
}
const std::string kIp4Rest = "\x0a\x09\x08\x07\x0a\x00\x00\x02\x12\x67\x01\xbb"s;

class ProxyProtocolTest : public AcceptTest {
 protected:
  /// Two chains: one for what comes from 10.9.8.7, one for the rest.
  void listen(json fields = json::object(), json more = json::object()) {
    json from = json::object();
    from["source_prefix_ranges"] = {{{"address_prefix", "10.9.8.7"}, {"prefix_len", 32}}};
    json in = listener({tcpChain("told", from), tcpChain("own")}, {typed(kFilter, fields)});
    in.update(more);
    start({in}, {echo("told"), echo("own")});
  }
  std::string answerTo(const std::string& bytes, std::size_t step = 1 << 20) {
    SocketPeer peer(loop_, address());
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      peer.send(std::string_view(bytes).substr(at, step));
      if (at + step < bytes.size()) loop_.runOnce(std::chrono::milliseconds(1));
    }
    return peer.receive(3);
  }
};

TEST_F(ProxyProtocolTest, TellsWhoConnected) {
  listen();
  EXPECT_EQ(answerTo(kLine + "hello"), "told");
  EXPECT_EQ(atOrigin(5), "hello");
  EXPECT_EQ(answerTo(v2(0x21, 0x11, kIp4Rest) + "there"), "told");
  EXPECT_EQ(atOrigin(5), "there");
  EXPECT_EQ(answerTo("PROXY UNKNOWN\r\nx"), "own");
  EXPECT_EQ(answerTo(v2(0x20, 0, "") + "x"), "own");
  EXPECT_EQ(stats_.value("proxy_proto.versions.v1.found"), 2);
  EXPECT_EQ(stats_.value("proxy_proto.versions.v2.found"), 2);
}

TEST_F(ProxyProtocolTest, ByteByByte) {
  listen();
  EXPECT_EQ(answerTo(kLine + "hello", 1), "told");
  EXPECT_EQ(atOrigin(5), "hello");
  EXPECT_EQ(answerTo(v2(0x21, 0x11, kIp4Rest + "\x04\x00\x08padding."s) + "there", 1), "told");
  EXPECT_EQ(atOrigin(5), "there");
}

TEST_F(ProxyProtocolTest, LongestHeaderPasses) {
  listen();
  codec::ProxyHeader header{.version = codec::ProxyVersion::kV2,
                            .family = codec::ProxyFamily::kIp4};
  header.source.ip = {10, 9, 8, 7};
  header.tlvs.push_back({4, std::string(codec::kProxyV2RestBytesMax - 12 - 3, 'x')});
  const std::string bytes = codec::writeProxyHeader(header);
  ASSERT_EQ(bytes.size(), codec::kProxyHeaderBytesMax);
  EXPECT_EQ(answerTo(bytes + "hello", 20000), "told");
  EXPECT_EQ(atOrigin(5), "hello");
}

TEST_F(ProxyProtocolTest, BrokenHeadersCloseAndAreCounted) {
  listen({{"stat_prefix", "edge"}});
  EXPECT_EQ(answerTo("PROXY TCP4 10.9.8.7 10.0.0.2 4711\r\n"), "(end)");
  EXPECT_EQ(answerTo("PROXY TCP4 " + std::string(200, '1')), "(end)");
  EXPECT_EQ(stats_.value("proxy_proto.edge.versions.v1.error"), 2);
  EXPECT_EQ(answerTo(v2(0x21, 0x31, std::string(216, 'x'))), "(end)");
  EXPECT_EQ(answerTo(v2(0x21, 0x11, kIp4Rest + "\x04\xff\xff"s)), "(end)");
  EXPECT_EQ(stats_.value("proxy_proto.edge.versions.v2.error"), 2);
  EXPECT_EQ(answerTo("GET / HTTP/1.1\r\n\r\n"), "(end)");
  EXPECT_EQ(stats_.value("proxy_proto.edge.not_found_disallowed"), 1);
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_cx_total"), 0);
}

TEST_F(ProxyProtocolTest, HeaderMayBeLeftOutWhereAllowed) {
  listen({{"allow_requests_without_proxy_protocol", true}});
  EXPECT_EQ(answerTo("GET / HTTP/1.1\r\n\r\n"), "own");
  EXPECT_EQ(atOrigin(3), "GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(answerTo(kLine), "told");
  EXPECT_EQ(stats_.value("proxy_proto.not_found_allowed"), 1);
}

TEST_F(ProxyProtocolTest, VersionsCanBeRefused) {
  listen({{"disallowed_versions", {"V1"}}});
  EXPECT_EQ(answerTo(kLine), "(end)");
  EXPECT_EQ(answerTo(v2(0x21, 0x11, kIp4Rest)), "told");
  EXPECT_EQ(stats_.value("proxy_proto.versions.v1.disallowed"), 1);
}

TEST_F(ProxyProtocolTest, SlowHeaderEndsWithTheTimeout) {
  listen(json::object(), {{"listener_filters_timeout", "0.05s"}});
  EXPECT_EQ(answerTo("PROXY TCP4 10.9"), "(end)");
  EXPECT_EQ(answerTo(v2(0x21, 0x11, kIp4Rest).substr(0, 20)), "(end)");
  EXPECT_EQ(answerTo(""), "(end)");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_pre_cx_timeout"), 3);
}

TEST_F(ProxyProtocolTest, RulesAreRefused) {
  json rule = {{"tlv_type", 1}, {"on_tlv_present", {{"key", "a"}}}};
  EXPECT_EQ(
      tryStart({listener({tcpChain("a")}, {typed(kFilter, {{"rules", {rule}}})})}, {echo("a")}),
      "static_resources.listeners[0].listener_filters[0].typed_config.rules: is not supported");
}

// ---- towards origins ----

constexpr const char* kSockets = "type.googleapis.com/envoy.extensions.transport_sockets.";

json withHeader(json cluster, json config) {
  cluster["transport_socket"] = {
      {"name", "pp"},
      {"typed_config",
       {{"@type", std::string(kSockets) + "proxy_protocol.v3.ProxyProtocolUpstreamTransport"},
        {"config", std::move(config)},
        {"transport_socket",
         {{"name", "raw"},
          {"typed_config", {{"@type", std::string(kSockets) + "raw_buffer.v3.RawBuffer"}}}}}}}};
  return cluster;
}

class UpstreamProxyProtocolTest : public AcceptTest {
 protected:
  void listen(json config, json filter = json::object()) {
    filter["allow_requests_without_proxy_protocol"] = true;
    start({listener({tcpChain("a")}, {typed(kFilter, filter)})},
          {withHeader(echo("a"), std::move(config))});
  }
};

TEST_F(UpstreamProxyProtocolTest, Version1TellsTheConnection) {
  listen(json::object());
  SocketPeer peer(loop_, address());
  peer.send("hello");
  EXPECT_EQ(peer.receive(1), "a");
  const std::string line = "PROXY TCP4 127.0.0.1 127.0.0.1 " + std::to_string(peer.local().port()) +
                           " " + std::to_string(address().port()) + "\r\n";
  EXPECT_EQ(atOrigin(line.size() + 5), line + "hello");
}

TEST_F(UpstreamProxyProtocolTest, Version1PassesOnWhatItWasTold) {
  listen({{"version", "V1"}});
  SocketPeer peer(loop_, address());
  peer.send(kLine + "hello");
  EXPECT_EQ(atOrigin(kLine.size() + 5), kLine + "hello");
}

TEST_F(UpstreamProxyProtocolTest, Version2WithTlvs) {
  listen({{"version", "V2"},
          {"pass_through_tlvs", {{"match_type", "INCLUDE"}, {"tlv_type", {0xe0, 0xe1}}}},
          {"added_tlvs", {{{"type", 0xe1}, {"value", "bXk="}}}}},
         {{"pass_through_tlvs", {{"match_type", "INCLUDE_ALL"}}}});
  SocketPeer peer(loop_, address());
  const std::string first =
      "\xe0\x00\x01"
      "x"s;
  peer.send(v2(0x21, 0x11,
               kIp4Rest + first +
                   "\xe1\x00\x01"
                   "y\xe2\x00\x01"
                   "z"s) +
            "hello");
  const std::string expected = v2(0x21, 0x11,
                                  kIp4Rest +
                                      "\xe1\x00\x02"
                                      "my"s +
                                      first) +
                               "hello";
  EXPECT_EQ(atOrigin(expected.size()), expected);
}

TEST_F(UpstreamProxyProtocolTest, UnixClientIsUnknown) {
  const std::string path = "@postern_pp_test_" + std::to_string(::getpid());
  json in = listener({tcpChain("a")});
  in["address"] = {{"pipe", {{"path", path}}}};
  start({in}, {withHeader(echo("a"), json::object())});
  SocketPeer peer(loop_, net::Address::unixPath(path));
  peer.send("hello");
  EXPECT_EQ(atOrigin(20), "PROXY UNKNOWN\r\nhello");
}

TEST_F(UpstreamProxyProtocolTest, TheHeaderBelongsToItsSocketNotToThoseOfMatches) {
  const json raw = {
      {"name", "raw"},
      {"typed_config", {{"@type", std::string(kSockets) + "raw_buffer.v3.RawBuffer"}}}};
  json cluster = withHeader(echo("a"), json::object());
  cluster["transport_socket_matches"] =
      json::array({{{"name", "plain"}, {"match", {{"plain", true}}}, {"transport_socket", raw}}});
  cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] = {
      {"filter_metadata", {{"envoy.transport_socket_match", {{"plain", true}}}}}};
  start({listener({tcpChain("a")})}, {cluster});
  SocketPeer peer(loop_, address());
  peer.send("hello");
  EXPECT_EQ(atOrigin(5), "hello");
}

TEST_F(UpstreamProxyProtocolTest, HttpConnectionsAreNotSharedBetweenClients) {
  json route = {{"match", {{"prefix", "/"}}}, {"route", {{"cluster", "a"}}}};
  json manager = typed(
      "network.http_connection_manager.v3.HttpConnectionManager",
      {{"stat_prefix", "h"},
       {"route_config",
        {{"virtual_hosts",
          json::array({{{"name", "h"}, {"domains", {"*"}}, {"routes", json::array({route})}}})}}},
       {"http_filters", json::array({typed("http.router.v3.Router")})}});
  json chain = {{"filters", json::array({manager})}};
  // The origin greets with a whole answer, once per connection.
  start({listener(json::array({chain}))},
        {withHeader(echo("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "a"), json::object())});
  for (int i = 1; i <= 2; ++i) {
    SocketPeer peer(loop_, address());
    peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    EXPECT_TRUE(peer.receive(17).starts_with("HTTP/1.1 200 OK"));
    EXPECT_EQ(kept_.size(), static_cast<std::size_t>(i));
    EXPECT_TRUE(atOrigin(60).starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 " +
                                         std::to_string(peer.local().port())));
  }
  // Both clients are gone, and with them the connections that only they could use.
  for (int i = 0; i < 50; ++i) loop_.runOnce(std::chrono::milliseconds(2));
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_active"), 0);
}

}  // namespace
}  // namespace postern::proxy
