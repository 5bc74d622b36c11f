// UDP listeners: sessions, sizes, limits.
#include "net/datagram.h"
#include "proxy/accept_fixture_test.h"

#include <map>

#include <netinet/in.h>

namespace postern::proxy {
namespace {

constexpr const char* kUdp = "udp.udp_proxy.v3.UdpProxyConfig";

/// A UDP socket on loopback.
class Datagrams {
 public:
  explicit Datagrams(event::Loop& loop)
      : loop_(loop), fd_(*net::udpSocket(net::Address::loopback(0))) {}
  net::Address address() const { return net::localAddress(fd_.get()); }
  void send(std::string_view bytes, const net::Address& to) {
    EXPECT_EQ(::sendto(fd_.get(), bytes.data(), bytes.size(), 0, to.sockaddrPtr(), to.length()),
              static_cast<ssize_t>(bytes.size()));
  }
  /// The next datagram, and who sent it; "(none)" when none comes for a while.
  std::string receive(net::Address* from = nullptr, int tries = 100) {
    char bytes[65536];
    net::Datagram datagram;
    for (int i = 0; i < tries; ++i) {
      loop_.runOnce(std::chrono::milliseconds(2));
      if (net::receiveDatagram(fd_.get(), bytes, sizeof bytes, {}, datagram) != net::IoStatus::kOk)
        continue;
      if (from != nullptr) *from = datagram.peer;
      return {bytes, datagram.bytes};
    }
    return "(none)";
  }

 private:
  event::Loop& loop_;
  base::Fd fd_;
};

class UdpTest : public AcceptTest {
 protected:
  UdpTest() : host_(loop_), other_(loop_), client_(loop_) {}
  json cluster(std::vector<const Datagrams*> hosts) {
    json endpoints = json::array();
    for (const Datagrams* host : hosts) {
      endpoints.push_back(
          {{"endpoint", {{"address", socketAddress("127.0.0.1", host->address().port())}}}});
    }
    return {{"name", "a"},
            {"type", "STATIC"},
            {"load_assignment",
             {{"cluster_name", "a"},
              {"endpoints", json::array({{{"lb_endpoints", std::move(endpoints)}}})}}}};
  }
  json udpListener(json fields = json::object(), json more = json::object()) {
    fields["stat_prefix"] = "u";
    if (!fields.contains("matcher")) fields["cluster"] = "a";
    json in = {{"name", "in"},
               {"address", socketAddress("127.0.0.1", 0)},
               {"listener_filters", json::array({typed(kUdp, std::move(fields))})}};
    in["address"]["socket_address"]["protocol"] = "UDP";
    in.update(more);
    return in;
  }
  Datagrams host_;
  Datagrams other_;
  Datagrams client_;
};

TEST_F(UdpTest, AnswersGoBackToWhoAsked) {
  start({udpListener()}, {cluster({&host_})});
  Datagrams second(loop_);
  client_.send("one", address());
  net::Address session;
  EXPECT_EQ(host_.receive(&session), "one");
  second.send("two", address());
  net::Address other_session;
  EXPECT_EQ(host_.receive(&other_session), "two");
  EXPECT_FALSE(session == other_session);
  host_.send("to one", session);
  net::Address from;
  EXPECT_EQ(client_.receive(&from), "to one");
  EXPECT_EQ(from, address());
  client_.send("again", address());
  net::Address again;
  EXPECT_EQ(host_.receive(&again), "again");
  EXPECT_EQ(again, session);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_total"), 2);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_active"), 2);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_rx_datagrams"), 3);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_rx_bytes"), 11);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_tx_bytes"), 6);
  EXPECT_EQ(stats_.value("cluster.a.udp.sess_tx_datagrams"), 3);
  EXPECT_EQ(stats_.value("cluster.a.udp.sess_rx_datagrams"), 1);
}

TEST_F(UdpTest, MatcherNamesTheCluster) {
  json route = {{"name", "r"},
                {"typed_config",
                 {{"@type", "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route"},
                  {"cluster", "a"}}}};
  start({udpListener({{"matcher", {{"on_no_match", {{"action", route}}}}}})}, {cluster({&host_})});
  client_.send("hello", address());
  EXPECT_EQ(host_.receive(), "hello");
}

TEST_F(UdpTest, SessionsEndWhenIdle) {
  start({udpListener({{"idle_timeout", "0.05s"}})}, {cluster({&host_})});
  client_.send("one", address());
  net::Address before;
  EXPECT_EQ(host_.receive(&before), "one");
  for (int i = 0; i < 100 && stats_.value("udp.u.downstream_sess_active") != 0; ++i)
    loop_.runOnce(std::chrono::milliseconds(5));
  EXPECT_EQ(stats_.value("udp.u.idle_timeout"), 1);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_active"), 0);
  client_.send("two", address());
  EXPECT_EQ(host_.receive(), "two");
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_total"), 2);
}

TEST_F(UdpTest, EachSessionHasALineInTheLog) {
  const std::string path = "/tmp/postern_udp_test_" + std::to_string(::getpid());
  json log = {
      {"name", "file"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"},
        {"path", path},
        {"log_format",
         {{"text_format_source",
           {{"inline_string",
             "%BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %DOWNSTREAM_REMOTE_ADDRESS% "
             "%UPSTREAM_HOST%\n"}}}}}}}};
  start({udpListener({{"idle_timeout", "0.05s"}, {"access_log", json::array({log})}})},
        {cluster({&host_})});
  client_.send("three", address());
  net::Address session;
  EXPECT_EQ(host_.receive(&session), "three");
  host_.send("answer", session);
  EXPECT_EQ(client_.receive(), "answer");
  const std::string line =
      "5 6 a " + client_.address().toString() + " " + host_.address().toString() + "\n";
  for (int i = 0; i < 200 && readFile(path) != line; ++i)
    loop_.runOnce(std::chrono::milliseconds(5));
  EXPECT_EQ(readFile(path), line);
  ::unlink(path.c_str());
}

TEST_F(UdpTest, EmptyAndLargestDatagramsPassLargerOnesDoNot) {
  start({udpListener({{"upstream_socket_config", {{"max_rx_datagram_size", 2000}}}})},
        {cluster({&host_})});
  client_.send("", address());
  net::Address session;
  EXPECT_EQ(host_.receive(&session), "");
  const std::string largest(1500, 'x');
  client_.send(largest, address());
  EXPECT_EQ(host_.receive(), largest);
  client_.send(largest + "x", address());
  EXPECT_EQ(host_.receive(nullptr, 20), "(none)");
  EXPECT_EQ(stats_.value("listener.127.0.0.1_0.udp.downstream_rx_datagram_dropped"), 1);
  host_.send(std::string(2000, 'y'), session);
  EXPECT_EQ(client_.receive(), std::string(2000, 'y'));
  host_.send(std::string(2001, 'y'), session);
  EXPECT_EQ(client_.receive(nullptr, 20), "(none)");
  EXPECT_EQ(stats_.value("cluster.a.udp.sess_rx_datagrams_dropped"), 1);
}

TEST_F(UdpTest, LargestOfAllWhereAllowed) {
  json more = {
      {"udp_listener_config", {{"downstream_socket_config", {{"max_rx_datagram_size", 65535}}}}}};
  start({udpListener(json::object(), more)}, {cluster({&host_})});
  const std::string largest(65507, 'x');
  client_.send(largest, address());
  EXPECT_EQ(host_.receive(), largest);
}

TEST_F(UdpTest, SessionsAreLimited) {
  json limited = cluster({&host_});
  limited["circuit_breakers"] = {{"thresholds", {{{"max_connections", 2}}}}};
  start({udpListener()}, {limited});
  std::vector<std::unique_ptr<Datagrams>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Datagrams>(loop_));
    clients.back()->send("x", address());
  }
  EXPECT_EQ(host_.receive(), "x");
  EXPECT_EQ(host_.receive(), "x");
  EXPECT_EQ(host_.receive(nullptr, 20), "(none)");
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_active"), 2);
  EXPECT_EQ(stats_.value("cluster.a.upstream_cx_overflow"), 2);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_rx_datagrams"), 2);
}

TEST_F(UdpTest, EachDatagramMayBeBalanced) {
  start({udpListener({{"use_per_packet_load_balancing", true}})}, {cluster({&host_, &other_})});
  for (int i = 0; i < 10; ++i) client_.send("x", address());
  int first = 0;
  int second = 0;
  while (host_.receive(nullptr, 5) == "x") ++first;
  while (other_.receive(nullptr, 5) == "x") ++second;
  EXPECT_EQ(first, 5);
  EXPECT_EQ(second, 5);
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_total"), 2);
}

TEST_F(UdpTest, ClosedPortAndMissingClusterAreCounted) {
  int closed = 0;
  {
    const Datagrams gone(loop_);
    closed = gone.address().port();
  }
  json dead = cluster({&host_});
  dead["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
      socketAddress("127.0.0.1", closed);
  start({udpListener()}, {dead});
  client_.send("x", address());
  for (int i = 0; i < 50 && stats_.value("cluster.a.udp.sess_rx_errors") == 0; ++i)
    loop_.runOnce(std::chrono::milliseconds(2));
  EXPECT_EQ(stats_.value("cluster.a.udp.sess_rx_errors"), 1);
  json nowhere = udpListener();
  nowhere["listener_filters"][0]["typed_config"]["cluster"] = "nowhere";
  nowhere["name"] = "other";
  ASSERT_EQ(update(nowhere), "");
  client_.send("x", worker_->addresses().back());
  for (int i = 0; i < 50 && stats_.value("udp.u.downstream_sess_no_route") == 0; ++i)
    loop_.runOnce(std::chrono::milliseconds(2));
  EXPECT_EQ(stats_.value("udp.u.downstream_sess_no_route"), 1);
}

TEST_F(UdpTest, WhatIsNotHonouredIsRefused) {
  const auto refused = [&](json in) { return tryStart({std::move(in)}, {cluster({&host_})}); };
  EXPECT_EQ(refused(udpListener({{"use_original_src_ip", true}})),
            "static_resources.listeners[0].listener_filters[0].typed_config.use_original_src_ip: "
            "is not supported");
  EXPECT_EQ(refused(udpListener({{"hash_policies", {{{"source_ip", true}}}}})),
            "static_resources.listeners[0].listener_filters[0].typed_config.hash_policies: "
            "is not supported");
  json chains = udpListener();
  chains["filter_chains"] = json::array({tcpChain("a")});
  EXPECT_EQ(refused(chains),
            "static_resources.listeners[0].filter_chains: error adding listener: 1 filter chain(s) "
            "specified for connection-less UDP listener.");
  json size = udpListener(
      json::object(),
      {{"udp_listener_config", {{"downstream_socket_config", {{"max_rx_datagram_size", 65536}}}}}});
  EXPECT_EQ(refused(size),
            "static_resources.listeners[0].udp_listener_config.downstream_socket_config."
            "max_rx_datagram_size: must be between 1 and 65535");
  ConfigStore::Options workers;
  workers.workers = 2;
  json shared = udpListener(json::object(), {{"enable_reuse_port", false}});
  EXPECT_TRUE(tryStart({shared}, {cluster({&host_})}, std::move(workers))
                  .starts_with("enable_reuse_port: error adding listener: Listening on UDP"));
}

}  // namespace
}  // namespace postern::proxy
