// A worker and its listeners over real sockets: listener filters, hand-over by original
// destination, limits, TCP.
#include "api/message.h"
#include "codec/client_hello.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "proxy/config_store.h"
#include "proxy/worker.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>

#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::proxy {
namespace {

using nlohmann::json;

std::string readFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

json typed(const char* type, json fields = json::object()) {
  fields["@type"] = std::string("type.googleapis.com/envoy.extensions.filters.") + type;
  return {{"name", type}, {"typed_config", std::move(fields)}};
}

json socketAddress(const std::string& ip, int port) {
  return {{"socket_address", {{"address", ip}, {"port_value", port}}}};
}

json tcpChain(const std::string& cluster, json match = json::object(), json more = json::object()) {
  more["stat_prefix"] = cluster;
  more["cluster"] = cluster;
  return {{"name", cluster},
          {"filter_chain_match", std::move(match)},
          {"filters", {typed("network.tcp_proxy.v3.TcpProxy", std::move(more))}}};
}

/// A client that speaks on one loop with the worker.
class Peer {
 public:
  Peer(event::Loop& loop, const net::Address& to) : loop_(loop) {
    fd_ = base::Fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    const bool connected = ::connect(fd_.get(), to.sockaddrPtr(), to.length()) == 0;
    EXPECT_TRUE(connected) << to.toString();
  }
  explicit Peer(event::Loop& loop, base::Fd fd) : loop_(loop), fd_(std::move(fd)) {}
  void send(std::string_view bytes) {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void endSending() { ::shutdown(fd_.get(), SHUT_WR); }
  /// What comes until the end or `size` bytes; "(open)" if neither happens for a while.
  std::string receive(std::size_t size = 1 << 20) {
    std::string out;
    for (int i = 0; i < 200; ++i) {
      loop_.runOnce(std::chrono::milliseconds(5));
      char bytes[4096];
      const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (got > 0) out.append(bytes, static_cast<std::size_t>(got));
      if (got == 0 || (got < 0 && errno != EAGAIN)) return out + "(end)";
      if (out.size() >= size) return out;
    }
    return out + "(open)";
  }

 private:
  event::Loop& loop_;
  base::Fd fd_;
};

class AcceptTest : public ::testing::Test {
 protected:
  /// An echo that says its name first and ends when the client does.
  json echo(const std::string& name) {
    auto socket = net::listenSocket(net::Address::loopback(0));
    EXPECT_TRUE(socket);
    const int port = net::localAddress(socket->get()).port();
    echoes_.push_back(std::make_unique<net::Acceptor>(
        loop_, std::move(*socket), [this, name](base::Fd fd, const net::Address&) {
          (void)::send(fd.get(), name.data(), name.size(), MSG_NOSIGNAL);
          kept_.push_back(std::move(fd));
        }));
    json endpoint = {{"endpoint", {{"address", socketAddress("127.0.0.1", port)}}}};
    return {{"name", name},
            {"type", "STATIC"},
            {"load_assignment",
             {{"cluster_name", name}, {"endpoints", {{{"lb_endpoints", {endpoint}}}}}}}};
  }
  json listener(json chains, json filters = json::array()) {
    return {{"name", "in"},
            {"address", socketAddress("127.0.0.1", 0)},
            {"listener_filters", std::move(filters)},
            {"filter_chains", std::move(chains)}};
  }
  void start(json listeners, json clusters, ConfigStore::Options options = {}) {
    envoy::config::bootstrap::v3::Bootstrap message;
    const auto read =
        api::fromJson({{"static_resources",
                        {{"listeners", std::move(listeners)}, {"clusters", std::move(clusters)}}}},
                      message);
    ASSERT_TRUE(read) << read.error().message();
    worker_ = std::make_unique<Worker>(loop_, stats_.makeStore());
    store_ = std::make_unique<ConfigStore>(
        loop_, stats_.makeStore(), std::move(options),
        [this](std::shared_ptr<const Snapshot> snapshot) { worker_->update(std::move(snapshot)); },
        nullptr);
    const auto added = store_->addStatic(message);
    ASSERT_TRUE(added) << added.error().message();
    store_->expect({}, {});
  }
  net::Address address() { return worker_->addresses().front(); }

  Stats stats_;
  event::Loop loop_;
  std::vector<std::unique_ptr<net::Acceptor>> echoes_;
  std::vector<base::Fd> kept_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<ConfigStore> store_;
};

TEST_F(AcceptTest, SplitClientHelloChoosesByName) {
  start({listener({tcpChain("named", {{"server_names", {"a.example"}}}), tcpChain("other")},
                  {typed("listener.tls_inspector.v3.TlsInspector")})},
        {echo("named"), echo("other")});
  const std::string hello =
      readFile(std::string(POSTERN_SOURCE_DIR) + "/fuzz/corpus/codec_client_hello_fuzz/tls13");
  ASSERT_GT(hello.size(), 100U);
  Peer peer(loop_, address());
  for (std::size_t at = 0; at < hello.size(); at += 50) {
    peer.send(std::string_view(hello).substr(at, 50));
    loop_.runOnce(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(peer.receive(5), "named");
  EXPECT_EQ(stats_.value("tls_inspector.sni_found"), 1);
  Peer plain(loop_, address());
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
  Peer silent(loop_, address());
  EXPECT_EQ(silent.receive(6), "silent");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_pre_cx_timeout"), 1);
  Peer http(loop_, address());
  http.send("GET / HT");
  loop_.runOnce(std::chrono::milliseconds(5));
  http.send("TP/1.1\r\n\r\n");
  EXPECT_EQ(http.receive(4), "http");
}

TEST_F(AcceptTest, TimeoutClosesUnlessToldToGoOn) {
  json in = listener({tcpChain("a")}, {typed("listener.http_inspector.v3.HttpInspector")});
  in["listener_filters_timeout"] = "0.05s";
  start({in}, {echo("a")});
  Peer silent(loop_, address());
  EXPECT_EQ(silent.receive(), "(end)");
}

TEST_F(AcceptTest, NoChainNoConnection) {
  start({listener({tcpChain("a", {{"destination_port", 1}})})}, {echo("a")});
  Peer peer(loop_, address());
  EXPECT_EQ(peer.receive(), "(end)");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.no_filter_chain_match"), 1);
}

TEST_F(AcceptTest, ConnectionLimitOfAListener) {
  ConfigStore::Options options;
  options.connection_limits["in"] = 1;
  start({listener({tcpChain("a")})}, {echo("a")}, std::move(options));
  Peer first(loop_, address());
  EXPECT_EQ(first.receive(1), "a");
  Peer second(loop_, address());
  EXPECT_EQ(second.receive(), "(end)");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_cx_overflow"), 1);
}

TEST_F(AcceptTest, HalfCloseGoesThrough) {
  start({listener({tcpChain("a")})}, {echo("a")});
  Peer peer(loop_, address());
  EXPECT_EQ(peer.receive(1), "a");
  peer.send("last words");
  peer.endSending();
  ASSERT_EQ(kept_.size(), 1U);
  Peer server(loop_, std::move(kept_.front()));
  EXPECT_EQ(server.receive(), "last words(end)");
  server.send("answer");
  server.endSending();
  EXPECT_EQ(peer.receive(), "answer(end)");
  EXPECT_EQ(stats_.value("tcp.a.downstream_cx_rx_bytes_total"), 10);
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_active"), 0);
}

TEST_F(AcceptTest, IdleConnectionsEnd) {
  start({listener({tcpChain("a", json::object(), {{"idle_timeout", "0.05s"}})})}, {echo("a")});
  Peer peer(loop_, address());
  EXPECT_EQ(peer.receive(), "a(end)");
  EXPECT_EQ(stats_.value("tcp.a.idle_timeout"), 1);
}

TEST_F(AcceptTest, ConnectionBreakerAndMissingCluster) {
  json cluster = echo("a");
  cluster["circuit_breakers"] = {{"thresholds", {{{"max_connections", 0}}}}};
  start({listener({tcpChain("a")})}, {cluster});
  EXPECT_EQ(Peer(loop_, address()).receive(), "(end)");
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_overflow"), 1);
}

TEST_F(AcceptTest, UnixSockets) {
  json cluster = echo("a");
  const std::string path = "@postern_accept_test_" + std::to_string(::getpid());
  json in = listener({tcpChain("a")});
  in["address"] = {{"pipe", {{"path", path}}}};
  start({in}, {cluster});
  Peer peer(loop_, net::Address::unixPath(path));
  EXPECT_EQ(peer.receive(1), "a");
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
    start({entry, outbound("127.1.0.1", 80, "exact"), outbound("0.0.0.0", 80, "wildcard")},
          {echo("exact"), echo("wildcard"), echo("loop"), original});
    const auto at = [&](const char* where, std::size_t size) {
      return Peer(loop_, *net::Address::parse(where)).receive(size);
    };
    EXPECT_EQ(at("127.1.0.1:80", 5), "exact");
    EXPECT_EQ(at("127.1.0.2:80", 8), "wildcard");
    EXPECT_EQ(at("127.0.0.1:15001", 4), "loop");
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
