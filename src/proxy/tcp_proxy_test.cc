// The TCP proxy: bodies in the kernel and by copy, back-pressure, ends, attempts.
#include "proxy/tcp_proxy.h"

#include "proxy/accept_fixture_test.h"
#include "tls/tls.h"
#include "tls/x509.h"

#include <chrono>
#include <thread>

#include <fcntl.h>

namespace postern::proxy {
namespace {

/// A client that sends without end.
class Flood final : public net::Transport {
 public:
  explicit Flood(event::Loop& loop) : again_(loop, [this] { tell(); }) {}
  void setObserver(net::TransportObserver* observer) override { observer_ = observer; }
  net::IoResult read(base::Buffer& into, std::size_t max) override {
    into.append(std::string(max, 'x'));
    return {net::IoStatus::kOk, max};
  }
  net::IoResult write(base::Buffer& from) override {
    from.clear();
    return {net::IoStatus::kOk, 0};
  }
  void resumeRead() override { again_.arm({}); }
  void shutdownWrite() override {}
  void resetOnClose() override {}
  base::Error error() const override { return {}; }
  const net::Address& local() const override { return address_; }
  const net::Address& remote() const override { return address_; }
  const net::PeerInfo& peer() const override { return peer_; }
  int fd() const override { return -1; }

 private:
  void tell() {
    if (observer_ != nullptr) observer_->onReadable();
  }
  event::Timer again_;
  net::TransportObserver* observer_ = nullptr;
  net::Address address_;
  net::PeerInfo peer_;
};

class TcpProxyTest : public AcceptTest {
 protected:
  /// Sends `bytes` from one socket while the other is read; what arrived.
  std::string pass(int from, int to, std::string_view bytes) {
    std::string out;
    std::size_t sent = 0;
    for (int i = 0; i < 20000 && out.size() < bytes.size(); ++i) {
      const ssize_t put =
          ::send(from, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put > 0) sent += static_cast<std::size_t>(put);
      loop_.runOnce(std::chrono::milliseconds(put > 0 ? 0 : 1));
      char room[65536];
      const ssize_t got = ::recv(to, room, sizeof room, MSG_DONTWAIT);
      if (got > 0) out.append(room, static_cast<std::size_t>(got));
    }
    return out;
  }
  static std::string pattern(std::size_t size) {
    std::string out(size, '\0');
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 131 >> 7);
    return out;
  }
  int origin() const { return kept_.back().get(); }
  /// Writes until nobody takes more.
  void fill(int from) {
    const std::string piece(65536, 'x');
    for (int idle = 0; idle < 50;) {
      const ssize_t put = ::send(from, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      idle = put > 0 ? 0 : idle + 1;
      loop_.runOnce(std::chrono::milliseconds(1));
    }
  }
  static void reset(base::Fd fd) {
    const linger now{1, 0};
    EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
  }
  /// A connection whose kernel holds little for its reader.
  base::Fd narrowClient() {
    base::Fd out(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int bytes = 16384;
    EXPECT_EQ(::setsockopt(out.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    const net::Address to = address();
    EXPECT_EQ(::connect(out.get(), to.sockaddrPtr(), to.length()), 0);
    return out;
  }
  static json secured(json chain) {
    tls::CertificateRequest request;
    request.common_name = "server";
    const tls::KeyPair pair = *tls::issue(*tls::makeRoot("root", std::chrono::hours(1)), request);
    json certificate = {{"certificate_chain", {{"inline_string", pair.certificate_pem}}},
                        {"private_key", {{"inline_string", pair.private_key_pem}}}};
    chain["transport_socket"] = {
        {"name", "tls"},
        {"typed_config",
         {{"@type",
           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"},
          {"common_tls_context", {{"tls_certificates", json::array({certificate})}}}}}};
    return chain;
  }
};

TEST_F(TcpProxyTest, MuchGoesThroughUnchangedBothWays) {
  start({listener({tcpChain("a")})}, {echo("a")});
  SocketPeer peer(loop_, address());
  ASSERT_EQ(peer.receive(1), "a");
  const std::string much = pattern(3 << 20);
  EXPECT_TRUE(pass(peer.fd(), origin(), much) == much);
  EXPECT_TRUE(pass(origin(), peer.fd(), much) == much);
  // Little again, which is copied again, then much once more.
  for (int i = 0; i < 40; ++i) ASSERT_EQ(pass(peer.fd(), origin(), "little"), "little");
  EXPECT_TRUE(pass(peer.fd(), origin(), much) == much);
  peer.endSending();
  EXPECT_EQ(atOrigin(), "(end)");
  ::shutdown(origin(), SHUT_WR);
  EXPECT_EQ(peer.receive(), "(end)");
  EXPECT_EQ(stats_.value("tcp.a.downstream_cx_rx_bytes_total"), (6 << 20) + 40 * 6);
  EXPECT_EQ(stats_.value("tcp.a.downstream_cx_tx_bytes_total"), (3 << 20) + 1);
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_tx_bytes_total"), (6 << 20) + 40 * 6);
}

TEST_F(TcpProxyTest, SmallBufferLimitStillPassesMuch) {
  json in = listener({tcpChain("a")});
  in["per_connection_buffer_limit_bytes"] = 1000;
  start({in}, {echo("a")});
  SocketPeer peer(loop_, address());
  ASSERT_EQ(peer.receive(1), "a");
  const std::string much = pattern(300000);
  EXPECT_TRUE(pass(peer.fd(), origin(), much) == much);
}

// Nobody reads: what the proxy takes is bounded by the kernel's buffers and one piece.
TEST_F(TcpProxyTest, ReaderThatStopsStopsTheWriter) {
  start({listener({tcpChain("a")})}, {echo("a")});
  SocketPeer peer(loop_, address());
  ASSERT_EQ(peer.receive(1), "a");
  const std::string piece(65536, 'x');
  std::size_t sent = 0;
  int idle = 0;
  while (idle < 50 && sent < (256U << 20)) {
    const ssize_t put = ::send(peer.fd(), piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    idle = put > 0 ? 0 : idle + 1;
    if (put > 0) sent += static_cast<std::size_t>(put);
    loop_.runOnce(std::chrono::milliseconds(1));
  }
  EXPECT_LT(sent, 64U << 20);
  std::size_t received = 0;
  for (int i = 0; i < 20000 && received < sent; ++i) {
    char room[65536];
    const ssize_t got = ::recv(origin(), room, sizeof room, MSG_DONTWAIT);
    if (got > 0) received += static_cast<std::size_t>(got);
    loop_.runOnce(std::chrono::milliseconds(got > 0 ? 0 : 1));
  }
  EXPECT_EQ(received, sent);
}

TEST_F(TcpProxyTest, ResetIsPassedOn) {
  start({listener({tcpChain("a")})}, {echo("a")});
  SocketPeer peer(loop_, address());
  ASSERT_EQ(peer.receive(1), "a");
  const linger now{1, 0};
  ASSERT_EQ(::setsockopt(origin(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
  ASSERT_EQ(::send(origin(), "last", 4, MSG_NOSIGNAL), 4);  // arrives together with the reset
  kept_.clear();
  EXPECT_EQ(peer.receive(), "last(end)");
  EXPECT_TRUE(peer.wasReset());
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_active"), 0);
}

// The client takes nothing more, then it is gone: nobody waits for it for ever, also when all that
// the origin sent is already here.
TEST_F(TcpProxyTest, AResetOfATlsClientThatDoesNotReadEndsBoth) {
  json in = listener({secured(tcpChain("a"))});
  json small = {{"level", SOL_SOCKET}, {"name", SO_SNDBUF}, {"int_value", 20000}};
  in["socket_options"] = json::array({small});
  start({in}, {echo("a")});
  const std::string piece(4000, 'x');
  /// How many pieces the proxy reads before it waits for the client, which is reset then.
  const auto readBefore = [&](std::size_t pieces) {
    tls::ClientOptions trusting;
    trusting.verify = false;
    auto client = tls::connectTls(loop_, net::connectTransport(loop_, address()),
                                  *tls::ClientContext::make(trusting), "");
    const int bytes = 16384;
    EXPECT_EQ(::setsockopt(client->fd(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    base::Buffer greeting;
    for (int i = 0; i < 400 && greeting.empty(); ++i) {
      loop_.runOnce(std::chrono::milliseconds(5));
      (void)client->read(greeting, 1);
    }
    EXPECT_EQ(greeting.toString(), "a");
    std::size_t done = 0;
    for (int idle = 0; done < pieces && idle < 20; ++done) {
      const auto before = stats_.value("tcp.a.downstream_cx_tx_bytes_total");
      EXPECT_EQ(::send(origin(), piece.data(), piece.size(), MSG_NOSIGNAL), 4000);
      for (idle = 0; idle < 20 && stats_.value("tcp.a.downstream_cx_tx_bytes_total") == before;)
        ++idle, loop_.runOnce(std::chrono::milliseconds(1));
    }
    client.reset();  // with bytes unread: a reset
    for (int i = 0; i < 200 && stats_.value("cluster.a.upstream_cx_active") != 0; ++i)
      loop_.runOnce(std::chrono::milliseconds(5));
    EXPECT_EQ(stats_.value("cluster.a.upstream_cx_active"), 0) << done << " of " << pieces;
    EXPECT_EQ(stats_.value("listener.127.0.0.1_0.downstream_cx_active"), 0);
    return done;
  };
  const std::size_t most = readBefore(1000);
  ASSERT_LT(most, 1000U);
  for (std::size_t pieces = most - 4; pieces < most; ++pieces) readBefore(pieces);
}

// What was spliced cannot be written: it is the reader that is gone.
TEST_F(TcpProxyTest, TheLogTellsWhoReset) {
  const std::string path = "/tmp/postern_tcp_log_test_" + std::to_string(::getpid());
  json log = {
      {"name", "file"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"},
        {"path", path},
        {"log_format", {{"text_format_source", {{"inline_string", "%RESPONSE_FLAGS%\n"}}}}}}}};
  start({listener({tcpChain("a", json::object(), {{"access_log", json::array({log})}})})},
        {echo("a")});
  const auto logged = [&](const std::string& all) {
    for (int i = 0; i < 400 && readFile(path) != all; ++i)
      loop_.runOnce(std::chrono::milliseconds(5));
    return readFile(path);
  };
  {
    SocketPeer peer(loop_, address());
    ASSERT_EQ(peer.receive(1), "a");
    fill(peer.fd());
    reset(std::move(kept_.back()));
    EXPECT_EQ(logged("UR\n"), "UR\n");
  }
  kept_.clear();
  base::Fd client = narrowClient();
  for (int i = 0; i < 200 && kept_.empty(); ++i) loop_.runOnce(std::chrono::milliseconds(5));
  ASSERT_FALSE(kept_.empty());
  fill(origin());
  reset(std::move(client));
  EXPECT_EQ(logged("UR\nDR\n"), "UR\nDR\n");
  ::unlink(path.c_str());
}

// A source that is faster than the copying does not keep the loop for itself.
TEST_F(TcpProxyTest, MuchThatIsCopiedLetsOthersComeBetween) {
  start({listener({tcpChain("a")})}, {echo("a")});
  ConnectionFacts facts;
  facts.listener = store_->snapshot().listeners.at("in").config;
  facts.chain = facts.listener->chains.front();
  startTcpProxy(*worker_, std::get<TcpProxy>(facts.chain->filter), std::make_unique<Flood>(loop_),
                facts);
  for (int i = 0; i < 200 && kept_.empty(); ++i) loop_.runOnce(std::chrono::milliseconds(1));
  ASSERT_FALSE(kept_.empty());
  const int to = origin();
  ASSERT_EQ(::fcntl(to, F_SETFL, 0), 0);
  std::jthread reader([to] {
    while (::recv(to, nullptr, 1 << 24, MSG_TRUNC) > 0) {
    }
  });
  const auto passed = [&] { return stats_.value("tcp.a.downstream_cx_rx_bytes_total"); };
  std::int64_t most = 0;
  for (int i = 0; i < 100; ++i) {
    const std::int64_t before = passed();
    loop_.runOnce(std::chrono::milliseconds(1));
    most = std::max<std::int64_t>(most, passed() - before);
  }
  EXPECT_GT(most, 0);
  EXPECT_LT(most, 5 << 19);  // its own turn, and that of an origin that takes more
  ::shutdown(to, SHUT_RDWR);
}

TEST_F(TcpProxyTest, ABufferLimitOfZeroIsNone) {
  json in = listener({tcpChain("a")});
  in["per_connection_buffer_limit_bytes"] = 0;
  start({in}, {echo("a")});
  SocketPeer peer(loop_, address());
  ASSERT_EQ(peer.receive(1), "a");
  const std::string much = pattern(3 << 20);
  EXPECT_TRUE(pass(peer.fd(), origin(), much) == much);
  EXPECT_GT(worker_->pipes().idle(), 0U);  // pieces were large enough for a pipe
}

TEST_F(TcpProxyTest, ASilentClientIsIdleBeforeThereIsAnOrigin) {
  json mode = {{"upstream_connect_mode", "ON_DOWNSTREAM_DATA"},
               {"max_early_data_bytes", 4},
               {"idle_timeout", "0.05s"}};
  start({listener({tcpChain("a", json::object(), mode)})}, {echo("a")});
  EXPECT_EQ(SocketPeer(loop_, address()).receive(), "(end)");
  EXPECT_EQ(stats_.value("tcp.a.idle_timeout"), 1);
}

TEST_F(TcpProxyTest, ASlowReaderIsNotIdle) {
  json in = listener({tcpChain("a", json::object(), {{"idle_timeout", "0.3s"}})});
  json small = {{"level", SOL_SOCKET}, {"name", SO_SNDBUF}, {"int_value", 20000}};
  in["socket_options"] = json::array({small});
  start({in}, {echo("a")});
  const base::Fd client = narrowClient();
  for (int i = 0; i < 200 && kept_.empty(); ++i) loop_.runOnce(std::chrono::milliseconds(5));
  ASSERT_FALSE(kept_.empty());
  fill(origin());
  std::size_t received = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (std::chrono::steady_clock::now() < until) {
    char room[4096];
    const ssize_t got = ::recv(client.get(), room, sizeof room, MSG_DONTWAIT);
    if (got == 0) break;
    if (got > 0) received += static_cast<std::size_t>(got);
    loop_.runOnce(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(stats_.value("tcp.a.idle_timeout"), 0) << received;
}

TEST_F(TcpProxyTest, AttemptsEndWithTheirNumber) {
  json cluster = echo("a");
  echoes_.clear();  // nobody listens
  start({listener({tcpChain(
            "a", json::object(),
            {{"max_connect_attempts", 3},
             {"backoff_options", {{"base_interval", "0.001s"}, {"max_interval", "0.002s"}}}})})},
        {cluster});
  EXPECT_EQ(SocketPeer(loop_, address()).receive(), "(end)");
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_connect_fail"), 3);
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_connect_attempts_exceeded"), 1);
}

TEST_F(TcpProxyTest, AnAttemptThatFailedLeavesNoConnection) {
  json cluster = echo("", "a");  // says nothing, least of all in TLS
  cluster["connect_timeout"] = "0.2s";
  cluster["transport_socket"] = {
      {"name", "tls"},
      {"typed_config",
       {{"@type",
         "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}}}};
  start({listener({tcpChain("a", json::object(), {{"max_connect_attempts", 2}})})}, {cluster});
  SocketPeer peer(loop_, address());
  const auto happens = [&](auto check) {
    for (int i = 0; i < 200 && !check(); ++i) loop_.runOnce(std::chrono::milliseconds(5));
    return check();
  };
  ASSERT_TRUE(happens([&] { return kept_.size() == 2; }));
  const auto ended = [&](std::size_t i) {
    char room[4096];
    const ssize_t got = ::recv(kept_[i].get(), room, sizeof room, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  };
  EXPECT_TRUE(happens([&] { return ended(0); }));
  EXPECT_FALSE(ended(1));
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_connect_timeout"), 1);
}

TEST_F(TcpProxyTest, ConnectsWhenTheClientSpeaks) {
  json mode = {{"upstream_connect_mode", "ON_DOWNSTREAM_DATA"}, {"max_early_data_bytes", 4}};
  start({listener({tcpChain("a", json::object(), mode)})}, {echo("a")});
  SocketPeer peer(loop_, address());
  for (int i = 0; i < 20; ++i) loop_.runOnce(std::chrono::milliseconds(1));
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_total"), 0);
  peer.send("more than four bytes");
  EXPECT_EQ(peer.receive(1), "a");
  EXPECT_EQ(atOrigin(20), "more than four bytes");
  EXPECT_EQ(stats_.value("tcp.a.early_data_received_count_total"), 1);
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_tx_bytes_total"), 20);
  {
    SocketPeer silent(loop_, address());
    silent.endSending();
    EXPECT_EQ(silent.receive(), "(end)");
  }
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_total"), 1);
}

TEST_F(TcpProxyTest, UnixOrigins) {
  const std::string path = "/tmp/postern_tcp_test_" + std::to_string(::getpid());
  auto socket = net::listenSocket(net::Address::unixPath(path));
  ASSERT_TRUE(socket);
  echoes_.push_back(std::make_unique<net::Acceptor>(
      loop_, std::move(*socket),
      [this](base::Fd fd, const net::Address&) { kept_.push_back(std::move(fd)); }));
  json cluster = echo("a");
  cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = {
      {"pipe", {{"path", path}}}};
  start({listener({tcpChain("a")})}, {cluster});
  SocketPeer peer(loop_, address());
  peer.send("by path");
  EXPECT_EQ(atOrigin(7), "by path");
  const std::string much = pattern(1 << 20);
  EXPECT_TRUE(pass(peer.fd(), origin(), much) == much);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace postern::proxy
