// The relay's two processes between a "host" and a "node" namespace, as root and as an ordinary
// user.
#include "network/relay.h"

#include "event/loop.h"
#include "net/socket.h"
#include "network/load_balancers.h"
#include "network/namespace_scope.h"
#include "network/netfilter.h"
#include "network/network.h"
#include "network/pod_links.h"
#include "network/relay_routes.h"
#include "network/relay_table.h"
#include "network/service_rules.h"
#include "network/socket_provider.h"
#include "network/test_namespaces.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postern::network {
namespace {

using test::As;

TEST(RelayRoutes, KeepsInsideWhatMustNotLeave) {
  const RelayRoutes routes(net::Address::loopback(6443),
                           {*External::parse("a.example:80=127.0.0.1:8080")});
  const auto to = [&](const char* text) { return routes.find(*net::Address::parse(text)); };
  EXPECT_EQ(to("10.96.0.1:443")->toString(), "127.0.0.1:6443");
  EXPECT_EQ(to("192.0.2.1:443")->toString(), "192.0.2.1:443");
  const auto external = externalTargets({*External::parse("a.example:80=127.0.0.1:8080")});
  ASSERT_EQ(external.size(), 1U);
  EXPECT_EQ(to(external.begin()->first.c_str())->toString(), "127.0.0.1:8080");
  for (const char* text : {"127.0.0.1:80", "10.96.0.1:80", "10.96.3.4:443", "10.244.0.5:80",
                           "198.18.0.1:81", "224.0.0.1:1", "0.0.0.0:1", "192.0.2.1:0"}) {
    EXPECT_FALSE(to(text)) << text;
  }
}

TEST(RelayTable, IsReadAsWrittenAndRefusesOthersAddresses) {
  ServicePort port;
  port.service = "shop/web";
  port.protocol = "tcp";
  port.cluster_ip = "10.96.0.50";
  port.port = 80;
  port.load_balancers = {"127.77.0.1", "127.0.0.1", "192.0.2.1"};
  const auto table = parseRelayTable(relayTable({port}));
  ASSERT_TRUE(table);
  EXPECT_EQ(*table, (std::vector<RelayListener>{{"shop/web", "127.77.0.1", 80, "10.96.0.50"}}));
  for (const char* text :
       {"", "{}", "{\"listeners\": 1}", "{\"listeners\": [{\"address\": \"0.0.0.0\"}]}",
        "{\"listeners\": [{\"address\": \"127.77.0.1\", \"port\": 70000}]}",
        "{\"listeners\": [{\"address\": \"127.77.0.1\", \"port\": 7, \"clusterIP\": \"x\"}]}"}) {
    EXPECT_FALSE(parseRelayTable(text)) << text;
  }
  const std::vector<RelayOutcome> outcomes{{"shop/web", "127.77.0.1", 80, 10080, "why"}};
  EXPECT_EQ(*parseRelayStatus(relayStatus(outcomes)), outcomes);
}

TEST(LoadBalancers, SayWhereAndWhy) {
  const RelayListener listener{"shop/web", "127.77.0.1", 80, "10.96.0.50"};
  EXPECT_EQ(listenMessage(listener, 80, 0), "");
  EXPECT_NE(listenMessage(listener, 10080, 0).find("ip_unprivileged_port_start=80"),
            std::string::npos);
  EXPECT_NE(listenMessage(listener, 80, EADDRINUSE).find("127.77.0.1:80 is taken"),
            std::string::npos);
}

/// "" when the connection failed, or was reset before an answer.
std::string ask(int netns, const std::string& to, const std::string& text) {
  const auto scope = NamespaceScope::enter(netns);
  const auto address = net::Address::parse(to);
  const base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{3, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  if (::connect(fd.get(), address->sockaddrPtr(), address->length()) != 0) return "";
  std::size_t sent = 0;
  std::thread writer([&] {
    while (sent < text.size()) {
      const ssize_t put = ::send(fd.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (put <= 0) break;
      sent += static_cast<std::size_t>(put);
    }
    ::shutdown(fd.get(), SHUT_WR);
  });
  std::string out;
  char bytes[65536];
  while (true) {
    const ssize_t got = ::recv(fd.get(), bytes, sizeof(bytes), 0);
    if (got < 0) out.clear();
    if (got <= 0) break;
    out.append(bytes, static_cast<std::size_t>(got));
  }
  writer.join();
  return out;
}

/// Answers each connection, once its other side has ended, with "name:" and what it sent.
class Echo {
 public:
  Echo(int netns, const std::string& address, std::string name) : name_(std::move(name)) {
    const auto scope = NamespaceScope::enter(netns);
    listener_ = std::move(*net::listenSocket(*net::Address::parse(address)));
    thread_ = std::thread([this] { serve(); });
  }
  ~Echo() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::string address() const { return net::localAddress(listener_.get()).toString(); }

 private:
  void serve() {
    while (true) {
      pollfd poll{listener_.get(), POLLIN, 0};
      ::poll(&poll, 1, -1);
      const base::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd) return;
      std::string text = name_ + ":";
      char bytes[65536];
      ssize_t got = 0;
      while ((got = ::recv(fd.get(), bytes, sizeof(bytes), 0)) > 0) {
        text.append(bytes, static_cast<std::size_t>(got));
      }
      for (std::size_t at = 0; at < text.size();) {
        const ssize_t put = ::send(fd.get(), text.data() + at, text.size() - at, MSG_NOSIGNAL);
        if (put <= 0) break;
        at += static_cast<std::size_t>(put);
      }
    }
  }
  std::string name_;
  base::Fd listener_;
  std::thread thread_;
};

struct Machine {
  Machine() {
    char name[] = "/tmp/postern-relay-XXXXXX";
    folder = ::mkdtemp(name);
    host = test::currentNamespace();
    EXPECT_TRUE(Netlink::open()->setUp("lo"));
    node = test::newNamespace();
    const auto scope = NamespaceScope::enter(node.get());
    links.emplace(std::move(*PodLinks::open()));
    rules.emplace(std::move(*NetfilterSocket::open()));
    EXPECT_TRUE(rules->apply(nodeRules(kBridge, kRelayPort)));
    pod = test::newNamespace();
    EXPECT_EQ(links->attach("pod", pod.get(), ""), "10.244.0.2");
  }
  ~Machine() {
    if (relay > 0) end(SIGKILL);
    std::filesystem::remove_all(folder);
  }
  void start(std::vector<std::string> externals = {}) {
    RelayOptions options;
    options.run_folder = folder;
    options.api_server = *net::Address::parse(api);
    for (const std::string& text : externals) options.externals.push_back(*External::parse(text));
    relay = ::fork();
    if (relay == 0) {
      ::_exit(runRelay(options, [this]() -> base::Result<void> {
        if (::setns(node.get(), CLONE_NEWNET) != 0) return base::failErrno("setns");
        return {};
      }));
    }
    until([&] {
      return std::filesystem::exists(folder + "/" + kHostSocketsFile) &&
             std::filesystem::exists(folder + "/" + kClusterSocketsFile);
    });
  }
  int end(int signal) {
    ::kill(relay, signal);
    int status = 0;
    ::waitpid(relay, &status, 0);
    relay = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  template <class Condition>
  static bool until(Condition condition) {
    for (int i = 0; i < 300; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "waited in vain";
    return false;
  }
  std::string status() const { return readWholeFile(folder + "/" + kRelayStatusFile).value_or(""); }

  std::string folder;
  std::string api = "127.0.0.1:1";
  base::Fd host, node, pod;
  std::optional<PodLinks> links;
  std::optional<NetfilterSocket> rules;
  pid_t relay = -1;
};

std::string externalAddress(const std::string& text) {
  return externalTargets({*External::parse(text)}).begin()->first;
}

void podsReachTheHost() {
  Machine machine;
  const Echo api(machine.host.get(), "127.0.0.1:0", "api");
  const Echo stand_in(machine.host.get(), "127.0.0.1:0", "stand-in");
  machine.api = api.address();
  const std::string external = "httpbin.org:80=" + stand_in.address();
  const std::string closed = "closed.org:80=127.0.0.1:1";
  machine.start({external, closed});
  EXPECT_EQ(ask(machine.pod.get(), "10.96.0.1:443", "x"), "api:x");
  EXPECT_EQ(ask(machine.pod.get(), externalAddress(external), "y"), "stand-in:y");
  EXPECT_EQ(ask(machine.node.get(), "10.96.0.1:443", "z"), "api:z");
  // More than all buffers hold, both ways.
  const std::string large(8UL << 20U, 'l');
  EXPECT_EQ(ask(machine.pod.get(), "10.96.0.1:443", large), "api:" + large);
  EXPECT_EQ(ask(machine.pod.get(), externalAddress(closed), "x"), "");
  EXPECT_EQ(ask(machine.pod.get(), "198.18.0.77:80", "x"), "");
  EXPECT_EQ(ask(machine.pod.get(), "10.244.0.1:15999", "x"), "");
  EXPECT_EQ(machine.end(SIGTERM), 0);
}

void eachHalfEndsWithTheOther() {
  Machine machine;
  const Echo api(machine.host.get(), "127.0.0.1:0", "api");
  machine.api = api.address();
  for (int round = 0; round < 3; ++round) {
    machine.start();
    EXPECT_EQ(ask(machine.pod.get(), "10.96.0.1:443", "x"), "api:x");
    machine.end(SIGKILL);  // the outer half
    EXPECT_TRUE(
        Machine::until([&] { return ask(machine.pod.get(), "10.96.0.1:443", "x").empty(); }));
    std::filesystem::remove(machine.folder + "/" + kHostSocketsFile);
    std::filesystem::remove(machine.folder + "/" + kClusterSocketsFile);
  }
  machine.start();
  // The inner half is the only child of the relay.
  const auto children = readWholeFile("/proc/" + std::to_string(machine.relay) + "/task/" +
                                      std::to_string(machine.relay) + "/children");
  ASSERT_TRUE(children);
  const int inner = std::atoi(children->c_str());
  ASSERT_GT(inner, 1);
  ::kill(inner, SIGKILL);
  int status = 0;
  ::waitpid(machine.relay, &status, 0);
  machine.relay = -1;
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

void loadBalancersListenOnTheHost() {
  Machine machine;
  const Echo backend(machine.pod.get(), "10.244.0.2:8080", "pod");
  const Echo other(machine.host.get(), "127.77.0.1:9999", "other");
  ServicePort port;
  port.service = "shop/web";
  port.protocol = "tcp";
  port.cluster_ip = "10.96.0.50";
  port.load_balancers = {"127.77.0.1", "127.77.0.2"};
  port.port = 8000;
  port.backends = {{"10.244.0.2", 8080}};
  ServicePort low = port;
  low.port = 80;
  ServicePort taken = port;
  taken.port = 9999;
  ServicePort empty = port;
  empty.port = 8001;
  empty.backends.clear();
  const std::vector<ServicePort> all{port, low, taken, empty};
  ASSERT_TRUE(machine.rules->apply(serviceRules(all, RulesFor::kNode)));
  const std::string table = machine.folder + "/" + kRelayTableFile;
  machine.start();
  ASSERT_TRUE(writeFileAtomically(table, relayTable(all)));
  ASSERT_TRUE(Machine::until([&] {
    const auto outcomes = parseRelayStatus(machine.status());
    return outcomes && outcomes->size() == 8;
  }));
  EXPECT_EQ(ask(machine.host.get(), "127.77.0.1:8000", "x"), "pod:x");
  EXPECT_EQ(ask(machine.host.get(), "127.77.0.2:8000", "x"), "pod:x");
  EXPECT_EQ(ask(machine.host.get(), "127.77.0.1:8001", "x"), "");
  // In its own user namespace the test's user may open low ports: both answers are right here.
  const auto outcomes = parseRelayStatus(machine.status());
  for (const RelayOutcome& outcome : *outcomes) {
    if (outcome.port == 9999 && outcome.address == "127.77.0.1") {
      EXPECT_EQ(outcome.host_port, 0);
      EXPECT_NE(outcome.error.find("taken"), std::string::npos);
    } else {
      EXPECT_EQ(outcome.host_port, outcome.port);
      EXPECT_EQ(outcome.error, "");
    }
  }
  // A killed relay finds its table again; a removed Service's port is closed.
  machine.end(SIGKILL);
  machine.start();
  EXPECT_TRUE(
      Machine::until([&] { return ask(machine.host.get(), "127.77.0.1:8000", "x") == "pod:x"; }));
  ASSERT_TRUE(writeFileAtomically(table, "nonsense"));
  ASSERT_TRUE(writeFileAtomically(table, relayTable({low})));
  EXPECT_TRUE(
      Machine::until([&] { return ask(machine.host.get(), "127.77.0.1:8000", "x").empty(); }));
  EXPECT_EQ(ask(machine.host.get(), "127.77.0.1:80", "x"), "pod:x");
}

/// What a provider gives, by running the loop until it answered.
base::Result<base::Fd> provided(const std::string& path, const std::string& address,
                                void (SocketProvider::*verb)(const net::Address&,
                                                             SocketProvider::Callback)) {
  event::Loop loop;
  SocketProvider provider(loop, path);
  std::optional<base::Result<base::Fd>> out;
  (provider.*verb)(*net::Address::parse(address),
                   [&](base::Result<base::Fd> fd) { out.emplace(std::move(fd)); });
  EXPECT_FALSE(out);  // never within the call
  while (!out) loop.runOnce(std::chrono::milliseconds(100));
  return std::move(*out);
}

void socketsOfTheOtherSide() {
  Machine machine;
  const Echo backend(machine.pod.get(), "10.244.0.2:8080", "pod");
  machine.start();
  const std::string host = machine.folder + "/" + kHostSocketsFile;
  const std::string cluster = machine.folder + "/" + kClusterSocketsFile;
  const auto connected = provided(cluster, "10.244.0.2:8080", &SocketProvider::connect);
  ASSERT_TRUE(connected) << connected.error().message();
  EXPECT_EQ(net::localAddress(connected->get()).ip(), kNodeAddress);
  const auto refused = provided(cluster, "10.244.0.2:8081", &SocketProvider::connect);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Errc::kRefused);
  const auto listening = provided(host, "127.0.0.1:0", &SocketProvider::listen);
  ASSERT_TRUE(listening);
  EXPECT_GT(net::localAddress(listening->get()).port(), 0);
  EXPECT_TRUE(provided(host, "127.0.0.1:53", &SocketProvider::udp));
  EXPECT_FALSE(provided(host + "-absent", "127.0.0.1:53", &SocketProvider::udp));

  // A pod may be the same user and see the file: its namespace gives it away.
  const pid_t child = ::fork();
  if (child == 0) {
    ::setns(machine.pod.get(), CLONE_NEWNET);
    const auto given = provided(host, "127.0.0.1:0", &SocketProvider::listen);
    ::_exit(!given && given.error().sys == EPERM ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

void malformedRequestsAreRefused() {
  Machine machine;
  machine.start();
  const auto path = net::Address::unixPath(machine.folder + "/" + kHostSocketsFile);
  for (const std::string& text :
       {std::string("\n"), std::string("connect\n"), std::string("connect x\n"),
        std::string("connect 1.2.3.4:80 more\n"), std::string("steal 127.0.0.1:1\n"),
        std::string("connect unix:/etc/passwd\n"), std::string(kSocketRequestBytesMax + 10, 'x')}) {
    const base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(fd.get(), path.sockaddrPtr(), path.length()), 0);
    ASSERT_GT(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), 0);
    char bytes[256] = {};
    const ssize_t got = ::recv(fd.get(), bytes, sizeof(bytes) - 1, 0);
    ASSERT_GT(got, 0) << text;
    EXPECT_TRUE(std::string_view(bytes).starts_with("error 22 ")) << bytes;
  }
}

class Relay : public ::testing::TestWithParam<As> {};

TEST_P(Relay, PodsReachTheHost) { test::inNamespaces(GetParam(), podsReachTheHost); }
TEST_P(Relay, EachHalfEndsWithTheOther) {
  test::inNamespaces(GetParam(), eachHalfEndsWithTheOther);
}
TEST_P(Relay, LoadBalancersListenOnTheHost) {
  test::inNamespaces(GetParam(), loadBalancersListenOnTheHost);
}
TEST_P(Relay, SocketsOfTheOtherSide) { test::inNamespaces(GetParam(), socketsOfTheOtherSide); }
TEST_P(Relay, MalformedRequestsAreRefused) {
  test::inNamespaces(GetParam(), malformedRequestsAreRefused);
}

INSTANTIATE_TEST_SUITE_P(Both, Relay, ::testing::ValuesIn(test::everybody()),
                         [](const auto& param) {
                           return param.param == As::kRoot ? "Root" : "User";
                         });

}  // namespace
}  // namespace postern::network
