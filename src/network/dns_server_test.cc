// The name server on loopback, with scripted resolvers.
#include "network/dns_server.h"

#include "network/network.h"
#include "network/resolv_conf.h"
#include "network/socket_server.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postern::network {
namespace {

std::shared_ptr<const json::Json> object(std::string_view yaml) {
  return std::make_shared<const json::Json>(*json::parseYaml(yaml));
}

std::shared_ptr<const DnsNames> clusterNames() {
  return std::make_shared<const DnsNames>(DnsNamesInput{
      {object("{metadata: {namespace: shop, name: web}, spec: {clusterIP: 10.96.0.50, ports: "
              "[{name: http, port: 80}]}}"),
       object("{metadata: {namespace: shop, name: db}, spec: {clusterIP: None}}"),
       object("{metadata: {namespace: shop, name: out}, spec: {type: ExternalName, externalName: "
              "Real.Example}}"),
       object("{metadata: {namespace: shop, name: in}, spec: {type: ExternalName, externalName: "
              "web.shop.svc.cluster.local}}")},
      {object("{metadata: {namespace: shop, labels: {kubernetes.io/service-name: db}}, endpoints: "
              "[{addresses: [10.244.0.9], hostname: db-0}, {addresses: [10.244.0.8]}], ports: "
              "[{name: sql, port: 5432}]}")},
      {"api.example.com"}});
}

/// A resolver that answers every A question with one address, names beginning "no" with NXDOMAIN;
/// or is silent.
class ScriptedResolver {
 public:
  enum class Mood { kAnswers, kSilent };
  explicit ScriptedResolver(Mood mood) : mood_(mood) {
    // A port that is free for TCP may be taken for UDP.
    for (int tries = 0; tries < 100 && !fd_; ++tries) {
      stream_ = std::move(*net::listenSocket(net::Address::loopback(0)));
      address_ = net::localAddress(stream_.get());
      if (auto datagrams = net::udpSocket(address_)) fd_ = std::move(*datagrams);
    }
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedResolver() {
    done_ = true;
    thread_.join();
  }
  const net::Address& address() const { return address_; }
  int asked() const { return asked_; }

 private:
  std::string answer(std::string_view message) {
    ++asked_;
    const auto query = parseDnsQuery(message);
    if (!query) return "";
    const bool none = query->name.starts_with("no");
    std::vector<DnsRecord> records;
    if (!none && query->type == kDnsTypeA) records.push_back(dnsA("192.0.2.7"));
    if (!none && query->type == kDnsTypeAaaa) {
      records.push_back({"", kDnsTypeAaaa, std::string(16, '\x20')});
    }
    return dnsResponse(*query, none ? DnsCode::kNoName : DnsCode::kNoError, records, 60);
  }
  void serve() {
    while (!done_) {
      pollfd polls[2] = {{fd_.get(), POLLIN, 0}, {stream_.get(), POLLIN, 0}};
      if (::poll(polls, 2, 20) <= 0) continue;
      char bytes[4096];
      if (polls[0].revents != 0) {
        sockaddr_storage from{};
        socklen_t length = sizeof(from);
        const ssize_t got = ::recvfrom(fd_.get(), bytes, sizeof(bytes), 0,
                                       reinterpret_cast<sockaddr*>(&from), &length);
        if (got <= 0) continue;
        const std::string reply = answer({bytes, static_cast<std::size_t>(got)});
        if (mood_ == Mood::kSilent) continue;
        ::sendto(fd_.get(), reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from),
                 length);
      } else {
        const base::Fd fd(::accept4(stream_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const ssize_t got = ::recv(fd.get(), bytes, sizeof(bytes), 0);
        if (got <= 2) continue;
        const std::string reply = answer({bytes + 2, static_cast<std::size_t>(got) - 2});
        const std::string framed{static_cast<char>(reply.size() >> 8U),
                                 static_cast<char>(reply.size() & 0xffU)};
        ::send(fd.get(), framed.data(), framed.size(), MSG_NOSIGNAL);
        ::send(fd.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
      }
    }
  }
  const Mood mood_;
  base::Fd fd_;
  base::Fd stream_;
  net::Address address_;
  std::atomic<bool> done_ = false;
  std::atomic<int> asked_ = 0;
  std::thread thread_;
};

class DnsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/postern-dns-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  void TearDown() override {
    if (thread_.joinable()) {
      loop_.post([this] {
        server_.reset();
        sockets_.reset();
        loop_.stop();
      });
      thread_.join();
    }
    std::filesystem::remove_all(folder_);
  }
  void start(std::vector<net::Address> resolvers) {
    auto sockets =
        SocketServer::start(loop_, folder_ + "/host-sockets.sock", [](int) { return true; });
    ASSERT_TRUE(sockets);
    sockets_ = std::move(*sockets);
    DnsServer::Options options;
    options.address = net::Address::loopback(0);
    options.resolvers = std::move(resolvers);
    options.host_sockets = folder_ + "/host-sockets.sock";
    options.names = clusterNames();
    auto server = DnsServer::start(loop_, std::move(options));
    ASSERT_TRUE(server);
    server_ = std::move(*server);
    address_ = server_->address();
    thread_ = std::thread([this] { loop_.run(); });
  }
  base::Fd connected(int type) const {
    base::Fd fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    const timeval limit{4, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    EXPECT_EQ(::connect(fd.get(), address_.sockaddrPtr(), address_.length()), 0);
    return fd;
  }
  std::string exchange(const std::string& message) const {
    const base::Fd fd = connected(SOCK_DGRAM);
    ::send(fd.get(), message.data(), message.size(), 0);
    char bytes[4096];
    const ssize_t got = ::recv(fd.get(), bytes, sizeof(bytes), 0);
    return {bytes, got > 0 ? static_cast<std::size_t>(got) : 0};
  }
  DnsReply ask(std::string_view name, std::uint16_t type = kDnsTypeA) const {
    const std::string query = dnsQuery(0x1234, name, type);
    last_ = exchange(query);
    EXPECT_EQ(dnsId(last_), 0x1234);
    const auto reply = parseDnsReply(last_, parseDnsQuery(query)->question);
    EXPECT_TRUE(reply) << name;
    return reply.value_or(DnsReply{});
  }
  unsigned answers() const { return static_cast<unsigned char>(last_.at(7)); }

  std::string folder_;
  event::Loop loop_;
  std::unique_ptr<SocketServer> sockets_;
  std::unique_ptr<DnsServer> server_;
  net::Address address_;
  std::thread thread_;
  mutable std::string last_;
};

using Strings = std::vector<std::string>;

TEST_F(DnsServerTest, AnswersTheClustersNames) {
  start({});
  EXPECT_EQ(ask("web.shop.svc.cluster.local").ipv4_addresses, Strings{"10.96.0.50"});
  EXPECT_EQ(ask("WEB.Shop.svc.cluster.local").ipv4_addresses, Strings{"10.96.0.50"});
  EXPECT_EQ(ask("db.shop.svc.cluster.local").ipv4_addresses.size(), 2U);
  EXPECT_EQ(ask("db-0.db.shop.svc.cluster.local").ipv4_addresses, Strings{"10.244.0.9"});
  EXPECT_EQ(ask("10-244-0-8.db.shop.svc.cluster.local").ipv4_addresses, Strings{"10.244.0.8"});
  EXPECT_EQ(ask("10-244-0-5.shop.pod.cluster.local").ipv4_addresses, Strings{"10.244.0.5"});
  EXPECT_EQ(ask("a.b.127.77.0.1.nip.io").ipv4_addresses, Strings{"127.77.0.1"});
  EXPECT_TRUE(ask("api.example.com").ipv4_addresses.at(0).starts_with("198.1"));
  EXPECT_EQ(ask("in.shop.svc.cluster.local").ipv4_addresses, Strings{"10.96.0.50"});
  EXPECT_EQ(ask("gone.shop.svc.cluster.local").code, DnsCode::kNoName);
  EXPECT_EQ(ask("httpbin.org.shop.svc.cluster.local").code, DnsCode::kNoName);
}

TEST_F(DnsServerTest, AnswersOtherTypesOfTheClustersNames) {
  start({});
  EXPECT_EQ(ask("web.shop.svc.cluster.local", kDnsTypeAaaa).code, DnsCode::kNoError);
  EXPECT_EQ(answers(), 0U);
  ask("_http._tcp.web.shop.svc.cluster.local", kDnsTypeSrv);
  EXPECT_EQ(answers(), 1U);
  EXPECT_NE(last_.find(std::string("\x00\x50\x03web\x04shop", 11)), std::string::npos);
  ask("_sql._tcp.db.shop.svc.cluster.local", kDnsTypeSrv);
  EXPECT_EQ(answers(), 2U);
  ask("50.0.96.10.in-addr.arpa", kDnsTypePtr);
  EXPECT_EQ(answers(), 1U);
  EXPECT_NE(last_.find("\x03web\x04shop\x03svc\x07"
                       "cluster"),
            std::string::npos);
  EXPECT_EQ(ask("51.0.96.10.in-addr.arpa", kDnsTypePtr).code, DnsCode::kNoName);
}

TEST_F(DnsServerTest, ForwardsWhatIsNotOurs) {
  const ScriptedResolver resolver(ScriptedResolver::Mood::kAnswers);
  start({resolver.address()});
  EXPECT_EQ(ask("real.example").ipv4_addresses, Strings{"192.0.2.7"});
  EXPECT_EQ(ask("nobody.example").code, DnsCode::kNoName);
  EXPECT_EQ(ask("real.example", kDnsTypeAaaa).code, DnsCode::kNoError);
  EXPECT_EQ(answers(), 0U);  // the pod network is IPv4
  EXPECT_EQ(ask("nobody.example", kDnsTypeAaaa).code, DnsCode::kNoName);
  EXPECT_EQ(ask("out.shop.svc.cluster.local").ipv4_addresses, Strings{"192.0.2.7"});
  EXPECT_EQ(answers(), 2U);  // the alias and its address
  // Over TCP, several in a row on one connection.
  const base::Fd fd = connected(SOCK_STREAM);
  for (const char* name : {"real.example", "web.shop.svc.cluster.local"}) {
    const std::string query = dnsQuery(7, name, kDnsTypeA);
    std::string framed{'\0', static_cast<char>(query.size())};
    framed += query;
    ASSERT_EQ(::send(fd.get(), framed.data(), framed.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(framed.size()));
    char length[2];
    ASSERT_EQ(::recv(fd.get(), length, 2, MSG_WAITALL), 2);
    std::string reply(static_cast<unsigned char>(length[1]), '\0');
    ASSERT_EQ(::recv(fd.get(), reply.data(), reply.size(), MSG_WAITALL),
              static_cast<ssize_t>(reply.size()));
    const auto parsed = parseDnsReply(reply, parseDnsQuery(query)->question);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->ipv4_addresses.size(), 1U);
  }
}

TEST_F(DnsServerTest, LeavesASilentResolverAlone) {
  const ScriptedResolver silent(ScriptedResolver::Mood::kSilent);
  const ScriptedResolver other(ScriptedResolver::Mood::kAnswers);
  start({silent.address(), other.address()});
  EXPECT_EQ(ask("real.example").ipv4_addresses, Strings{"192.0.2.7"});
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 10; ++i) ask("real.example");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(500));
  EXPECT_EQ(silent.asked(), 1);
}

TEST_F(DnsServerTest, FailsAtOnceWithoutResolvers) {
  // One that refuses: nobody is at its port.
  const net::Address nobody = [] {
    const base::Fd fd = std::move(*net::udpSocket(net::Address::loopback(0)));
    return net::localAddress(fd.get());
  }();
  start({nobody});
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ask("real.example").code, DnsCode::kServerFailure);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(500));
}

TEST_F(DnsServerTest, SurvivesWhatIsNoQuery) {
  start({});
  const base::Fd fd = connected(SOCK_DGRAM);
  for (const std::string& text : {std::string("x"), std::string(600, '\xff'), std::string()}) {
    ::send(fd.get(), text.data(), text.size(), 0);
  }
  const base::Fd stream = connected(SOCK_STREAM);
  ASSERT_EQ(::send(stream.get(), "\x00\x01x", 3, MSG_NOSIGNAL), 3);
  char byte = 0;
  EXPECT_EQ(::recv(stream.get(), &byte, 1, 0), 0);  // closed
  EXPECT_EQ(ask("web.shop.svc.cluster.local").ipv4_addresses, Strings{"10.96.0.50"});
}

TEST_F(DnsServerTest, ClosesStreamsBeyondTheLimit) {
  start({});
  std::vector<base::Fd> open;
  for (std::size_t i = 0; i < kDnsStreamsMax; ++i) open.push_back(connected(SOCK_STREAM));
  const base::Fd last = connected(SOCK_STREAM);
  char byte = 0;
  EXPECT_EQ(::recv(last.get(), &byte, 1, 0), 0);
}

TEST_F(DnsServerTest, FailsQueriesBeyondTheLimit) {
  const ScriptedResolver silent(ScriptedResolver::Mood::kSilent);
  start({silent.address()});
  const base::Fd fd = connected(SOCK_DGRAM);
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < kDnsForwardsMax + 1; ++i) {
    const std::string query = dnsQuery(static_cast<std::uint16_t>(i), "real.example", kDnsTypeA);
    ::send(fd.get(), query.data(), query.size(), 0);
    if (i % 32 == 31) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  char bytes[512];
  EXPECT_GT(::recv(fd.get(), bytes, sizeof(bytes), 0), 0);
  EXPECT_EQ(dnsId({bytes, 2}), kDnsForwardsMax);  // the one too many
  EXPECT_LT(std::chrono::steady_clock::now() - start, kDnsResolverTimeout);
}

TEST(ResolvConf, NamesAtMostThreeServers) {
  const std::string path = ::testing::TempDir() + "resolv_" + std::to_string(::getpid());
  std::ofstream(path) << "# nameserver 9.9.9.9\nsearch x\nnameserver 192.0.2.1\nnameserver ::1\n"
                         "nameserver nonsense\n  nameserver\t192.0.2.2\nnameserver 192.0.2.3\n";
  const auto servers = resolversIn(path);
  ASSERT_EQ(servers.size(), kResolversMax);
  EXPECT_EQ(servers[0].toString(), "192.0.2.1:53");
  EXPECT_EQ(servers[2].toString(), "192.0.2.2:53");
  ::unlink(path.c_str());
  EXPECT_TRUE(resolversIn(path).empty());
}

TEST(ResolvConf, OfPodsSearchesTheirNamespaceFirst) {
  EXPECT_EQ(Network::resolvConf("shop"),
            "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local "
            "cluster.local\noptions ndots:5\n");
}

}  // namespace
}  // namespace postern::network
