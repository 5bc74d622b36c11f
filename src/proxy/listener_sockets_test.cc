// What the kernel knows of the sockets of a listener, and which of its limits and filters count.
#include "proxy/accept_fixture_test.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

namespace postern::proxy {
namespace {

class ListenerSocketsTest : public AcceptTest {
 protected:
  /// One listener with more fields; its first socket.
  int startWith(json fields) {
    json in = listener({tcpChain("a")});
    in.update(fields);
    start({in}, {echo("a")});
    const auto bound = store_->snapshot().listeners.at("in").sockets;
    sockets_ = bound == nullptr ? std::vector<base::Fd>() : bound->take(0);
    return sockets_.empty() ? -1 : sockets_[0].get();
  }
  static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    ::getsockopt(fd, level, name, &value, &size);
    return value;
  }
  static json socketOption(int level, int name, json more) {
    more["level"] = level;
    more["name"] = name;
    return more;
  }
  std::vector<base::Fd> sockets_;
};

TEST_F(ListenerSocketsTest, BacklogIsTheKernels) {
  const auto backlog = [](int fd) {
    tcp_info info{};
    socklen_t size = sizeof info;
    EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_sacked;  // of a listening socket: how many may wait
  };
  EXPECT_EQ(backlog(startWith({{"tcp_backlog_size", 9}})), 9U);
  EXPECT_GT(backlog(startWith(json::object())), 9U);
}

TEST_F(ListenerSocketsTest, FastOpenHasItsQueue) {
  EXPECT_EQ(option(startWith({{"tcp_fast_open_queue_length", 11}}), IPPROTO_TCP, TCP_FASTOPEN), 11);
  EXPECT_EQ(option(startWith(json::object()), IPPROTO_TCP, TCP_FASTOPEN), 0);
}

TEST_F(ListenerSocketsTest, FreebindTakesAnAddressThatIsNotThere) {
  json in = listener({tcpChain("a")});
  in["address"] = socketAddress("192.0.2.1", 0);
  EXPECT_NE(tryStart({in}, {echo("a")}), "");
  in["freebind"] = true;
  EXPECT_EQ(tryStart({in}, {echo("a")}), "");
}

TEST_F(ListenerSocketsTest, AnUpdateMayAskForOtherSockets) {
  const auto freebind = [&] {
    const auto sockets = store_->snapshot().listeners.at("in").sockets->take(0);
    return option(sockets[0].get(), SOL_IP, IP_FREEBIND);
  };
  start(json::array(), {echo("a")});
  json in = listener({tcpChain("a")});
  ASSERT_EQ(update(in), "");
  EXPECT_EQ(freebind(), 0);
  in["freebind"] = true;
  ASSERT_EQ(update(in), "");
  EXPECT_EQ(freebind(), 1);

  const std::string path = "/tmp/postern_sockets_test_" + std::to_string(::getpid());
  for (const unsigned mode : {0660U, 0600U}) {
    in["address"] = {{"pipe", {{"path", path}, {"mode", mode}}}};
    ASSERT_EQ(update(in), "");
    struct stat found{};
    ASSERT_EQ(::stat(path.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777U, mode);
    EXPECT_EQ(SocketPeer(loop_, net::Address::unixPath(path)).receive(1), "a");
  }
  ::unlink(path.c_str());
}

TEST_F(ListenerSocketsTest, AnAddressOfIp6TakesNoIp4) {
  json in = listener({tcpChain("a")});
  in["address"] = socketAddress("::", 0);
  if (!tryStart({in}, {echo("a")}).empty()) GTEST_SKIP() << "needs IPv6";
  const auto sockets = store_->snapshot().listeners.at("in").sockets->take(0);
  EXPECT_EQ(option(sockets[0].get(), IPPROTO_IPV6, IPV6_V6ONLY), 1);
}

TEST_F(ListenerSocketsTest, TransparentIsSetOrSaidToBeForbidden) {
  json in = listener({tcpChain("a")});
  in["transparent"] = true;
  const std::string error = tryStart({in}, {echo("a")});
  if (!error.empty()) {  // without CAP_NET_ADMIN
    EXPECT_NE(error.find("Operation not permitted"), std::string::npos) << error;
    return;
  }
  const auto sockets = store_->snapshot().listeners.at("in").sockets->take(0);
  EXPECT_EQ(option(sockets[0].get(), SOL_IP, IP_TRANSPARENT), 1);
}

TEST_F(ListenerSocketsTest, KeepaliveHasItsThreeTimes) {
  const int fd =
      startWith({{"tcp_keepalive",
                  {{"keepalive_time", 77}, {"keepalive_interval", 33}, {"keepalive_probes", 4}}}});
  EXPECT_EQ(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
  EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 33);
  EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
}

TEST_F(ListenerSocketsTest, OptionsAreForOneKindOfSocket) {
  const int fd =
      startWith({{"socket_options",
                  {socketOption(SOL_SOCKET, SO_RCVBUF,
                                {{"int_value", 20000}, {"ip_version", "SOCKET_IP_VERSION_IPV4"}}),
                   socketOption(SOL_SOCKET, SO_RCVBUF,
                                {{"int_value", 30000}, {"ip_version", "SOCKET_IP_VERSION_IPV6"}}),
                   socketOption(SOL_SOCKET, SO_SNDBUF,
                                {{"int_value", 20000}, {"type", {{"stream", json::object()}}}}),
                   socketOption(SOL_SOCKET, SO_SNDBUF,
                                {{"int_value", 30000}, {"type", {{"datagram", json::object()}}}}),
                   // The bytes of an int 55, as the kernel reads them.
                   socketOption(IPPROTO_TCP, TCP_KEEPIDLE,
                                {{"buf_value", "NwAAAA=="}, {"state", "STATE_LISTENING"}})}}});
  EXPECT_EQ(option(fd, SOL_SOCKET, SO_RCVBUF), 40000);
  EXPECT_EQ(option(fd, SOL_SOCKET, SO_SNDBUF), 40000);
  EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 55);
}

TEST_F(ListenerSocketsTest, OptionsAreSetWhenTheyShall) {
  // To bind to an address that is not there, the kernel must have been told before.
  json in = listener({tcpChain("a")});
  in["address"] = socketAddress("192.0.2.1", 0);
  json early = socketOption(SOL_IP, IP_FREEBIND, {{"int_value", 1}, {"state", "STATE_PREBIND"}});
  in["socket_options"] = json::array({early});
  EXPECT_EQ(tryStart({in}, {echo("a")}), "");
  for (const char* late : {"STATE_BOUND", "STATE_LISTENING"}) {
    in["socket_options"][0]["state"] = late;
    EXPECT_NE(tryStart({in}, {echo("a")}), "") << late;
  }
}

TEST_F(ListenerSocketsTest, TakesSoManyConnectionsPerTurn) {
  const auto taken = [&](json fields) {
    json in = listener({tcpChain("a")});
    in.update(fields);
    start({in}, {echo("a")});
    std::vector<std::unique_ptr<SocketPeer>> peers;
    for (int i = 0; i < 3; ++i) peers.push_back(std::make_unique<SocketPeer>(loop_, address()));
    const auto before = stats_.value("listener.127.0.0.1_0.downstream_cx_total");
    loop_.runOnce(std::chrono::milliseconds(0));
    return stats_.value("listener.127.0.0.1_0.downstream_cx_total") - before;
  };
  EXPECT_EQ(taken({{"max_connections_to_accept_per_socket_event", 1}}), 1);
  EXPECT_EQ(taken(json::object()), 3);
}

TEST_F(ListenerSocketsTest, AnAdditionalAddressHasOptionsOfItsOwn) {
  json in = listener({tcpChain("a")});
  in["tcp_keepalive"] = {{"keepalive_time", 77}};
  in["socket_options"] = json::array({socketOption(SOL_SOCKET, SO_RCVBUF, {{"int_value", 20000}})});
  json own = {
      {"address", socketAddress("127.0.0.1", 0)},
      {"tcp_keepalive", {{"keepalive_time", 88}}},
      {"socket_options",
       {{"socket_options", {socketOption(SOL_SOCKET, SO_RCVBUF, {{"int_value", 30000}})}}}}};
  in["additional_addresses"] = {own, {{"address", socketAddress("127.0.0.1", 0)}}};
  start({in}, {echo("a")});
  struct Wanted {
    const char* name;
    int idle;
    int buffer;
  };
  for (const Wanted& wanted : {Wanted{"in", 77, 40000}, Wanted{"in additional 0", 88, 60000},
                               Wanted{"in additional 1", 77, 40000}}) {
    const auto sockets = store_->snapshot().listeners.at(wanted.name).sockets->take(0);
    ASSERT_EQ(sockets.size(), 1U) << wanted.name;
    EXPECT_EQ(option(sockets[0].get(), IPPROTO_TCP, TCP_KEEPIDLE), wanted.idle) << wanted.name;
    EXPECT_EQ(option(sockets[0].get(), SOL_SOCKET, SO_RCVBUF), wanted.buffer) << wanted.name;
  }
}

TEST_F(ListenerSocketsTest, OneSocketForAllWorkersWithoutReusePort) {
  EXPECT_EQ(option(startWith(json::object()), SOL_SOCKET, SO_REUSEPORT), 1);
  EXPECT_EQ(option(startWith({{"enable_reuse_port", false}}), SOL_SOCKET, SO_REUSEPORT), 0);
}

TEST_F(ListenerSocketsTest, WithoutBindingThereIsNoSocket) {
  EXPECT_EQ(startWith({{"bind_to_port", false}}), -1);
  EXPECT_EQ(startWith({{"deprecated_v1", {{"bind_to_port", false}}}}), -1);
}

TEST_F(ListenerSocketsTest, TheLimitOfTheProcessMayBeIgnored) {
  limit_ = std::make_shared<ConnectionLimit>();
  limit_->max = 1;
  start({listener({tcpChain("a")})}, {echo("a")});
  SocketPeer first(loop_, address());
  EXPECT_EQ(first.receive(1), "a");
  EXPECT_EQ(SocketPeer(loop_, address()).receive(), "(end)");
  json in = listener({tcpChain("a")});
  in["ignore_global_conn_limit"] = true;
  limit_ = std::make_shared<ConnectionLimit>();
  limit_->max = 1;
  start({in}, {echo("a")});
  SocketPeer one(loop_, address());
  EXPECT_EQ(one.receive(1), "a");
  EXPECT_EQ(SocketPeer(loop_, address()).receive(1), "a");
}

TEST_F(ListenerSocketsTest, PredicatesOfFiltersCombine) {
  const auto ports = [](int begin, int end) {
    return json{{"destination_port_range", {{"start", begin}, {"end", end}}}};
  };
  const json here = ports(1, 65536);
  const json elsewhere = ports(1, 2);
  const auto rules = [](std::vector<json> all) { return json{{"rules", std::move(all)}}; };
  // The greeting of the origin comes only where the filter that waits for bytes is left out.
  const std::pair<json, const char*> cases[] = {
      {{{"any_match", true}}, "a"},
      {{{"or_match", rules({elsewhere, here})}}, "a"},
      {{{"or_match", rules({elsewhere, elsewhere})}}, "(open)"},
      {{{"and_match", rules({here, here})}}, "a"},
      {{{"and_match", rules({here, elsewhere})}}, "(open)"},
      {{{"not_match", here}}, "(open)"},
      {elsewhere, "(open)"},
      {here, "a"}};
  for (const auto& [predicate, seen] : cases) {
    json filter = typed("listener.http_inspector.v3.HttpInspector");
    filter["filter_disabled"] = predicate;
    start({listener({tcpChain("a")}, {filter})}, {echo("a")});
    EXPECT_EQ(SocketPeer(loop_, address()).receive(1), seen) << predicate.dump();
  }
}

}  // namespace
}  // namespace postern::proxy
