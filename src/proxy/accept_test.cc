// A worker and its listeners over real sockets: listener filters, hand-over by original
// destination, limits, TCP.
#include "proxy/accept_fixture_test.h"

#include <cstdio>
#include <cstdlib>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::proxy {
namespace {

TEST_F(AcceptTest, SplitClientHelloChoosesByName) {
  start({listener({tcpChain("named", {{"server_names", {"a.example"}}}), tcpChain("other")},
                  {typed("listener.tls_inspector.v3.TlsInspector")})},
        {echo("named"), echo("other")});
  const std::string hello =
      readFile(std::string(POSTERN_SOURCE_DIR) + "/fuzz/corpus/codec_client_hello_fuzz/tls13");
  ASSERT_GT(hello.size(), 100U);
  SocketPeer peer(loop_, address());
  for (std::size_t at = 0; at < hello.size(); at += 50) {
    peer.send(std::string_view(hello).substr(at, 50));
    loop_.runOnce(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(peer.receive(5), "named");
  EXPECT_EQ(stats_.value("tls_inspector.sni_found"), 1);
  SocketPeer plain(loop_, address());
  plain.send("x");
  EXPECT_EQ(plain.receive(5), "other");
}

TEST_F(AcceptTest, ServerThatSpeaksFirstWaitsForTheTimeoutOnly) {
  json in = listener({tcpChain("http", {{"application_protocols", {"http/1.1"}}})},
                     {typed("listener.http_inspector.v3.HttpInspector")});
  in["listener_filters_timeout"] = "0.05s";
  in["continue_on_listener_filters_timeout"] = true;
  in["default_filter_chain"] = tcpChain("silent");
  start({in}, {echo("http"), echo("silent")});
  SocketPeer silent(loop_, address());
  EXPECT_EQ(silent.receive(6), "silent");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_pre_cx_timeout"), 1);
  SocketPeer http(loop_, address());
  http.send("GET / HT");
  loop_.runOnce(std::chrono::milliseconds(5));
  http.send("TP/1.1\r\n\r\n");
  EXPECT_EQ(http.receive(4), "http");
}

TEST_F(AcceptTest, TimeoutClosesUnlessToldToGoOn) {
  json in = listener({tcpChain("a")}, {typed("listener.http_inspector.v3.HttpInspector")});
  in["listener_filters_timeout"] = "0.05s";
  start({in}, {echo("a")});
  SocketPeer silent(loop_, address());
  EXPECT_EQ(silent.receive(), "(end)");
}

TEST_F(AcceptTest, NoChainNoConnection) {
  start({listener({tcpChain("a", {{"destination_port", 1}})})}, {echo("a")});
  SocketPeer peer(loop_, address());
  EXPECT_EQ(peer.receive(), "(end)");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.no_filter_chain_match"), 1);
}

// A new version of one chain ends what it took (after the drain time), and nothing else.
TEST_F(AcceptTest, ChangedChainLeavesConnectionsOfOthersAlone) {
  json local = {{"source_prefix_ranges", {{{"address_prefix", "127.0.0.1"}, {"prefix_len", 32}}}}};
  json other = {{"source_prefix_ranges", {{{"address_prefix", "127.0.0.2"}, {"prefix_len", 32}}}}};
  json in = listener({tcpChain("a", local), tcpChain("b", other)});
  drain_time_ = std::chrono::milliseconds(50);
  start(json::array(), {echo("a"), echo("b")});
  ASSERT_EQ(update(in), "");
  SocketPeer stays(loop_, address(), *net::Address::parse("127.0.0.1:0"));
  EXPECT_EQ(stays.receive(1), "a");
  SocketPeer goes(loop_, address(), *net::Address::parse("127.0.0.2:0"));
  EXPECT_EQ(goes.receive(1), "b");
  in["filter_chains"][1]["filters"][0]["typed_config"]["idle_timeout"] = "60s";
  in["filter_chains"].push_back(tcpChain("b", {{"destination_port", 1}}));
  ASSERT_EQ(update(in), "");
  EXPECT_EQ(goes.receive(), "(end)");
  SocketPeer next(loop_, address(), *net::Address::parse("127.0.0.2:0"));
  EXPECT_EQ(next.receive(1), "b");
  stays.send("still there");
  SocketPeer server(loop_, std::move(kept_.front()));
  EXPECT_EQ(server.receive(11), "still there");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_cx_active"), 2);
}

// What is in the listener filters when its chain changes comes under the old one, and ends with it.
TEST_F(AcceptTest, ConnectionsInListenerFiltersEndWithTheirChain) {
  drain_time_ = std::chrono::milliseconds(50);
  json in = listener({tcpChain("a")}, {typed("listener.http_inspector.v3.HttpInspector")});
  start(json::array(), {echo("a")});
  ASSERT_EQ(update(in), "");
  SocketPeer peer(loop_, address());
  for (int i = 0; i < 100 && worker_->pending() == 0; ++i)
    loop_.runOnce(std::chrono::milliseconds(5));
  in["filter_chains"][0]["filters"][0]["typed_config"]["idle_timeout"] = "60s";
  ASSERT_EQ(update(in), "");
  peer.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(peer.receive(), "a(end)");
  SocketPeer next(loop_, address());
  next.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(next.receive(2), "a(open)");
}

TEST_F(AcceptTest, ConnectionsInListenerFiltersEndWithTheirListener) {
  drain_time_ = std::chrono::milliseconds(100);
  json in = listener({tcpChain("a")}, {typed("listener.http_inspector.v3.HttpInspector")});
  start(json::array(), {echo("a")});
  ASSERT_EQ(update(in), "");
  SocketPeer speaks(loop_, address());
  SocketPeer silent(loop_, address());
  for (int i = 0; i < 100 && worker_->pending() < 2; ++i)
    loop_.runOnce(std::chrono::milliseconds(5));
  ASSERT_TRUE(store_->update(api::kListenerType, {}, {"in"}));
  EXPECT_EQ(worker_->pending(), 2U);
  speaks.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(speaks.receive(1), "a");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_cx_total"), 1);
  EXPECT_EQ(speaks.receive(), "(end)");
  EXPECT_EQ(silent.receive(), "(end)");
  EXPECT_EQ(worker_->pending(), 0U);
  EXPECT_EQ(worker_->connections(), 0U);
}

TEST_F(AcceptTest, UnderAnotherStatPrefixItIsAnotherListener) {
  drain_time_ = std::chrono::milliseconds(50);
  json in = listener({tcpChain("a")});
  in["stat_prefix"] = "one";
  start(json::array(), {echo("a")});
  ASSERT_EQ(update(in), "");
  SocketPeer before(loop_, address());
  EXPECT_EQ(before.receive(1), "a");
  in["stat_prefix"] = "two";
  ASSERT_EQ(update(in), "");
  SocketPeer after(loop_, address());
  EXPECT_EQ(after.receive(1), "a");
  EXPECT_EQ(stats_.value("listener.two.downstream_cx_active"), 1);
  EXPECT_EQ(before.receive(), "(end)");
}

// They would be reset with the sockets that they wait in.
TEST_F(AcceptTest, ConnectionsThatWaitInReplacedSocketsAreTaken) {
  json in = listener({tcpChain("a")});
  start(json::array(), {echo("a")});
  ASSERT_EQ(update(in), "");
  SocketPeer waits(loop_, address());
  in["tcp_keepalive"] = {{"keepalive_time", 77}};
  ASSERT_EQ(update(in), "");
  EXPECT_EQ(waits.receive(1), "a");
}

TEST_F(AcceptTest, AnyAddressOfIp6IsNotOneOfIp4) {
  json in = listener({tcpChain("a")});
  in["address"] = socketAddress("::", 80);
  in["bind_to_port"] = false;
  start({in}, {echo("a")});
  EXPECT_EQ(worker_->listenerFor(*net::Address::parse("127.0.0.1:80")), nullptr);
  EXPECT_NE(worker_->listenerFor(*net::Address::parse("[::2]:80")), nullptr);
}

TEST_F(AcceptTest, ConnectionLimitOfAListener) {
  ConfigStore::Options options;
  options.connection_limits["in"] = 1;
  start({listener({tcpChain("a")})}, {echo("a")}, std::move(options));
  SocketPeer first(loop_, address());
  EXPECT_EQ(first.receive(1), "a");
  SocketPeer second(loop_, address());
  EXPECT_EQ(second.receive(), "(end)");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_cx_overflow"), 1);
}

TEST_F(AcceptTest, HalfCloseGoesThrough) {
  start({listener({tcpChain("a")})}, {echo("a")});
  SocketPeer peer(loop_, address());
  EXPECT_EQ(peer.receive(1), "a");
  peer.send("last words");
  peer.endSending();
  ASSERT_EQ(kept_.size(), 1U);
  SocketPeer server(loop_, std::move(kept_.front()));
  EXPECT_EQ(server.receive(), "last words(end)");
  server.send("answer");
  server.endSending();
  EXPECT_EQ(peer.receive(), "answer(end)");
  EXPECT_EQ(stats_.value("tcp.a.downstream_cx_rx_bytes_total"), 10);
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_active"), 0);
}

TEST_F(AcceptTest, IdleConnectionsEnd) {
  start({listener({tcpChain("a", json::object(), {{"idle_timeout", "0.05s"}})})}, {echo("a")});
  SocketPeer peer(loop_, address());
  EXPECT_EQ(peer.receive(), "a(end)");
  EXPECT_EQ(stats_.value("tcp.a.idle_timeout"), 1);
}

TEST_F(AcceptTest, ConnectionBreakerAndMissingCluster) {
  json cluster = echo("a");
  cluster["circuit_breakers"] = {{"thresholds", {{{"max_connections", 0}}}}};
  start({listener({tcpChain("a")})}, {cluster});
  EXPECT_EQ(SocketPeer(loop_, address()).receive(), "(end)");
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_overflow"), 1);
}

TEST_F(AcceptTest, UnixSockets) {
  json cluster = echo("a");
  const std::string path = "@postern_accept_test_" + std::to_string(::getpid());
  json in = listener({tcpChain("a")});
  in["address"] = {{"pipe", {{"path", path}}}};
  start({in}, {cluster});
  SocketPeer peer(loop_, net::Address::unixPath(path));
  EXPECT_EQ(peer.receive(1), "a");
}

TEST_F(AcceptTest, UnixSocketHasItsModeAndNeverReplacesAnotherFile) {
  const std::string path = "/tmp/postern_accept_test_" + std::to_string(::getpid());
  json in = listener({tcpChain("a")});
  in["address"] = {{"pipe", {{"path", path}, {"mode", 0660}}}};
  start({in}, {echo("a")});
  struct stat found{};
  ASSERT_EQ(::stat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777U, 0660U);
  SocketPeer peer(loop_, net::Address::unixPath(path));
  EXPECT_EQ(peer.receive(1), "a");
  worker_.reset();
  store_.reset();
  ::unlink(path.c_str());
  std::ofstream(path) << "precious";
  EXPECT_NE(tryStart({in}, {echo("a")}), "");
  EXPECT_EQ(readFile(path), "precious");
  ::unlink(path.c_str());
  in["address"] = {{"pipe", {{"path", "@x"}, {"mode", 0660}}}};
  EXPECT_EQ(tryStart({in}, {echo("a")}),
            "static_resources.listeners[0].address.pipe.mode: Cannot set mode for Abstract AF_UNIX "
            "sockets");
}

TEST_F(AcceptTest, AdditionalAddressesAreTheSameListener) {
  const std::string path = "@postern_additional_" + std::to_string(::getpid());
  json in = listener({tcpChain("a")});
  in["additional_addresses"] = {{{"address", socketAddress("127.0.0.1", 0)}},
                                {{"address", {{"pipe", {{"path", path}}}}}}};
  ConfigStore::Options options;
  options.connection_limits["in"] = 3;
  start(json::array(), {echo("a")}, std::move(options));
  ASSERT_EQ(update(in), "");
  const std::vector<net::Address> all = worker_->addresses();
  ASSERT_EQ(all.size(), 3U);
  std::vector<std::unique_ptr<SocketPeer>> peers;
  for (const net::Address& each : all) {
    peers.push_back(std::make_unique<SocketPeer>(loop_, each));
    EXPECT_EQ(peers.back()->receive(1), "a");
  }
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_cx_total"), 3);
  EXPECT_EQ(stats_.value("listener_manager.total_listeners_active"), 1);
  EXPECT_EQ(SocketPeer(loop_, all[1]).receive(), "(end)");  // they share the listener's limit
  // Another version keeps the ports, and the connections of chains that did not change.
  in["filter_chains"].push_back(tcpChain("b", {{"destination_port", 1}}));
  ASSERT_EQ(update(in), "");
  EXPECT_EQ(worker_->addresses(), all);
  peers[1]->send("still there");
  SocketPeer server(loop_, base::Fd(::dup(kept_[1].get())));
  EXPECT_EQ(server.receive(11), "still there");
  in["additional_addresses"].push_back(in["additional_addresses"][1]);
  EXPECT_NE(update(in).find("additional_addresses[2].address: is there twice"), std::string::npos);
  json other = listener({tcpChain("a")});
  other["name"] = "other";
  other["address"] = socketAddress("127.0.0.1", all[1].port());
  EXPECT_NE(update(other).find("has duplicate address"), std::string::npos);
}

TEST_F(AcceptTest, SocketOptionsReachTheSockets) {
  json in = listener({tcpChain("a")});
  in["socket_options"] = {{{"level", SOL_SOCKET},
                           {"name", SO_RCVBUF},
                           {"int_value", 20000},
                           {"state", "STATE_PREBIND"}},
                          {{"level", SOL_SOCKET},
                           {"name", SO_SNDBUF},
                           {"int_value", 30000},
                           {"type", {{"datagram", json::object()}}}}};
  in["tcp_keepalive"] = {{"keepalive_time", 77}};
  in["max_connections_to_accept_per_socket_event"] = 1;
  start({in}, {echo("a")});
  const auto sockets = store_->snapshot().listeners.at("in").sockets->take(0);
  ASSERT_EQ(sockets.size(), 1U);
  const auto get = [&](int level, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    ::getsockopt(sockets[0].get(), level, name, &value, &size);
    return value;
  };
  EXPECT_EQ(get(SOL_SOCKET, SO_RCVBUF), 40000);  // the kernel doubles it
  EXPECT_NE(get(SOL_SOCKET, SO_SNDBUF), 60000);  // meant for datagrams
  EXPECT_EQ(get(IPPROTO_TCP, TCP_KEEPIDLE), 77);
  std::vector<std::unique_ptr<SocketPeer>> peers;
  for (int i = 0; i < 5; ++i) peers.push_back(std::make_unique<SocketPeer>(loop_, address()));
  for (const auto& peer : peers) EXPECT_EQ(peer->receive(1), "a");
  in["socket_options"] = {{{"level", 1}, {"name", 9999}, {"int_value", 1}}};
  EXPECT_NE(tryStart({in}, {echo("a")}), "");
}

TEST_F(AcceptTest, ConnectionLimitOfAChain) {
  json chain = tcpChain("a");
  json& filters = chain["filters"];
  filters.insert(filters.begin(), typed("network.connection_limit.v3.ConnectionLimit",
                                        {{"stat_prefix", "few"}, {"max_connections", 1}}));
  start({listener({chain})}, {echo("a")});
  {
    SocketPeer first(loop_, address());
    EXPECT_EQ(first.receive(1), "a");
    EXPECT_EQ(SocketPeer(loop_, address()).receive(), "(end)");
    EXPECT_EQ(stats_.value("connection_limit.few.limited_connections"), 1);
    EXPECT_EQ(stats_.value("connection_limit.few.active_connections"), 1);
    first.endSending();
    kept_.clear();
    EXPECT_EQ(first.receive(), "(end)");
  }
  EXPECT_EQ(SocketPeer(loop_, address()).receive(1), "a");
}

TEST_F(AcceptTest, LimitedConnectionsAreClosedAfterTheDelay) {
  json chain = tcpChain("a");
  json& filters = chain["filters"];
  filters.insert(filters.begin(),
                 typed("network.connection_limit.v3.ConnectionLimit",
                       {{"stat_prefix", "few"}, {"max_connections", 1}, {"delay", "0.1s"}}));
  start({listener({chain})}, {echo("a")});
  SocketPeer first(loop_, address());
  EXPECT_EQ(first.receive(1), "a");
  SocketPeer second(loop_, address());
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(second.receive(), "(end)");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(90));
}

// Connections that have not said yet what they are count, too.
TEST_F(AcceptTest, GlobalLimitCountsSilentConnections) {
  limit_ = std::make_shared<ConnectionLimit>();
  limit_->max = 2;
  start({listener({tcpChain("a")}, {typed("listener.tls_inspector.v3.TlsInspector")})},
        {echo("a")});
  {
    SocketPeer silent(loop_, address());
    SocketPeer speaks(loop_, address());
    speaks.send("x");
    EXPECT_EQ(speaks.receive(1), "a");
    EXPECT_EQ(SocketPeer(loop_, address()).receive(), "(end)");
    EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_global_cx_overflow"), 1);
  }
  kept_.clear();
  for (int i = 0; i < 100 && limit_->open != 0; ++i) loop_.runOnce(std::chrono::milliseconds(2));
  EXPECT_EQ(limit_->open, 0U);
}

// What is left of the process's descriptors is for origins and the admin port.
TEST_F(AcceptTest, DescriptorsAreKeptInReserve) {
  descriptor_max_ = ::dup(0);
  ::close(descriptor_max_);
  descriptor_max_ += 30;
  start({listener({tcpChain("a")})}, {echo("a")});
  std::vector<std::unique_ptr<SocketPeer>> peers;
  int served = 0;
  for (int i = 0; i < 30; ++i) {
    peers.push_back(std::make_unique<SocketPeer>(loop_, address()));
    if (peers.back()->receive(1) != "a") break;
    ++served;
  }
  EXPECT_GT(served, 2);
  EXPECT_LT(served, 15);
  EXPECT_GT(stats_.value("listener.127.0.0.1_0.downstream_global_cx_overflow"), 0);
  peers.erase(peers.begin());
  kept_.erase(kept_.begin());
  for (int i = 0; i < 20; ++i) loop_.runOnce(std::chrono::milliseconds(2));
  EXPECT_EQ(SocketPeer(loop_, address()).receive(1), "a");
}

TEST_F(AcceptTest, FiltersCanBeLeftOutByPort) {
  json filter = typed("listener.http_inspector.v3.HttpInspector");
  filter["filter_disabled"] = {
      {"not_match", {{"destination_port_range", {{"start", 1}, {"end", 2}}}}}};
  json in = listener({tcpChain("a")}, {filter});
  start({in}, {echo("a")});
  EXPECT_EQ(SocketPeer(loop_, address()).receive(1), "a");  // it did not have to speak first
}

/// Redirects by nftables in a network namespace of its own; the work is done in a child.
class OriginalDestinationTest : public AcceptTest {
 protected:
  static bool enterNamespace() {
    if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
    if (std::system("ip link set lo up") != 0) return false;
    std::FILE* nft = ::popen("nft -f -", "w");
    if (nft == nullptr) return false;
    std::fputs(
        "table ip t {\nchain o {\ntype nat hook output priority -100\n"
        "ip daddr 127.1.0.0/16 tcp dport 1-65535 redirect to :15001\n}\n}\n",
        nft);
    return ::pclose(nft) == 0;
  }
  static json outbound(const char* ip, int port, const std::string& cluster) {
    return {{"name", std::string(ip) + "_" + std::to_string(port)},
            {"address", socketAddress(ip, port)},
            {"bind_to_port", false},
            {"filter_chains", {tcpChain(cluster)}}};
  }
  void check() {
    json entry = {
        {"name", "virtualOutbound"},
        {"address", socketAddress("0.0.0.0", 15001)},
        {"use_original_dst", true},
        {"filter_chains", {tcpChain("loop", {{"destination_port", 15001}}), tcpChain("original")}}};
    json original = {{"name", "original"},
                     {"type", "ORIGINAL_DST"},
                     {"lb_policy", "CLUSTER_PROVIDED"},
                     {"circuit_breakers", {{"thresholds", {{{"max_connections", 3}}}}}}};
    json plain = {{"name", "plain"},
                  {"address", socketAddress("127.0.0.1", 15002)},
                  {"use_original_dst", true},
                  {"filter_chains", {tcpChain("original")}}};
    start({entry, plain, outbound("127.1.0.1", 80, "exact"), outbound("0.0.0.0", 80, "wildcard")},
          {echo("exact"), echo("wildcard"), echo("loop"), original});
    const auto at = [&](const char* where, std::size_t size) {
      return SocketPeer(loop_, *net::Address::parse(where)).receive(size);
    };
    EXPECT_EQ(at("127.1.0.1:80", 5), "exact");
    EXPECT_EQ(at("127.1.0.2:80", 8), "wildcard");
    EXPECT_EQ(at("127.0.0.1:15001", 4), "loop");
    // Addressed to a listener itself: the original destination is the listener.
    EXPECT_EQ(at("127.0.0.1:15002", 1), "(end)");
    EXPECT_EQ(stats_.value("cluster.original.upstream_cx_total"), 0);
    EXPECT_EQ(stats_.value("cluster.original.upstream_cx_none_healthy"), 1);
    // Nobody has this address: the connection goes on to where it wanted, which is redirected to
    // the proxy again, until the limit of the cluster ends it.
    EXPECT_EQ(at("127.1.0.9:99", 1), "(end)");
    EXPECT_EQ(stats_.value("cluster.original.upstream_cx_total"), 3);
    EXPECT_EQ(stats_.value("cluster.original.upstream_cx_overflow"), 1);
  }
};

TEST_F(OriginalDestinationTest, HandsOverByAddressThenByPort) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!enterNamespace()) ::_exit(77);
    check();
    std::fflush(nullptr);
    ::_exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs a network namespace and nft";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace postern::proxy
