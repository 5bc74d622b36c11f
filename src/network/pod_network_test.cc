// Links and service rules with real traffic between namespaces; as root and as an ordinary user.
#include "base/clock.h"
#include "net/socket.h"
#include "network/namespace_scope.h"
#include "network/netfilter.h"
#include "network/network.h"
#include "network/pod_links.h"
#include "network/service_rules.h"
#include "network/test_namespaces.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <chrono>
#include <optional>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

namespace postern::network {
namespace {

using test::As;

struct Pod {
  base::Fd netns = test::newNamespace();
  std::string ip;
  std::optional<NetfilterSocket> rules;

  base::Fd listen(std::uint16_t port) const {
    const auto scope = NamespaceScope::enter(netns.get());
    return std::move(*net::listenSocket(*net::Address::fromIp("0.0.0.0", port)));
  }
};

/// 0 when connected, else errno.
int connectFrom(int netns, const std::string& to, base::Fd* out = nullptr) {
  const auto scope = NamespaceScope::enter(netns);
  const auto address = net::Address::parse(to);
  base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (::connect(fd.get(), address->sockaddrPtr(), address->length()) != 0) return errno;
  if (out != nullptr) *out = std::move(fd);
  return 0;
}

std::optional<std::string> acceptedFrom(const base::Fd& listener) {
  pollfd poll{listener.get(), POLLIN, 0};
  if (::poll(&poll, 1, 200) != 1) return std::nullopt;
  const base::Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return net::peerAddress(fd.get()).ip();
}

struct Cluster {
  Cluster() : home(test::currentNamespace()) {
    auto made = PodLinks::open();
    EXPECT_TRUE(made) << made.error().message();
    links.emplace(std::move(*made));
    auto node = NetfilterSocket::open();
    EXPECT_TRUE(node && node->apply(nodeRules(kBridge, 15999)));
  }
  Pod add(const std::string& uid) {
    Pod pod;
    auto ip = links->attach(uid, pod.netns.get(), "");
    EXPECT_TRUE(ip) << ip.error().message();
    if (ip) pod.ip = *ip;
    const auto scope = NamespaceScope::enter(pod.netns.get());
    pod.rules.emplace(std::move(*NetfilterSocket::open()));
    return pod;
  }
  base::Fd home;
  std::optional<PodLinks> links;
};

ServicePort service(std::vector<ServicePort::Backend> backends) {
  ServicePort port;
  port.service = "shop/web";
  port.protocol = "tcp";
  port.cluster_ip = "10.96.0.50";
  port.load_balancers = {"127.77.0.1"};
  port.port = 80;
  port.backends = std::move(backends);
  return port;
}

void servicesReachPods() {
  Cluster cluster;
  const Pod client = cluster.add("client");
  const Pod one = cluster.add("one");
  const Pod two = cluster.add("two");
  EXPECT_EQ(client.ip, "10.244.0.2");
  const base::Fd at_one = one.listen(8080);
  const base::Fd at_two = two.listen(8080);
  const auto applied = client.rules->apply(
      serviceRules({service({{one.ip, 8080}, {two.ip, 8080}})}, RulesFor::kPod));
  ASSERT_TRUE(applied) << applied.error().message();

  for (int i = 0; i < 40; ++i) ASSERT_EQ(connectFrom(client.netns.get(), "10.96.0.50:80"), 0);
  int to_one = 0;
  int to_two = 0;
  for (; const auto from = acceptedFrom(at_one); ++to_one) EXPECT_EQ(*from, client.ip);
  while (acceptedFrom(at_two)) ++to_two;
  EXPECT_EQ(to_one + to_two, 40);
  EXPECT_GT(to_one, 5);
  EXPECT_GT(to_two, 5);

  // A load balancer address is 127.x: it leaves the pod all the same, with the pod's address.
  base::Fd connected;
  ASSERT_EQ(connectFrom(client.netns.get(), "127.77.0.1:80", &connected), 0);
  auto from = acceptedFrom(at_one);
  if (!from) from = acceptedFrom(at_two);
  EXPECT_EQ(from, client.ip);
  EXPECT_EQ(connectFrom(client.netns.get(), "127.77.0.1:81"), ECONNREFUSED);
  EXPECT_EQ(connectFrom(client.netns.get(), "127.77.0.9:80"), ECONNREFUSED);
}

void affinityKeepsTheBackend() {
  Cluster cluster;
  const Pod client = cluster.add("client");
  const Pod one = cluster.add("one");
  const Pod two = cluster.add("two");
  const base::Fd at_one = one.listen(8080);
  const base::Fd at_two = two.listen(8080);
  ServicePort sticky = service({{one.ip, 8080}, {two.ip, 8080}});
  sticky.affinity = true;
  ASSERT_TRUE(client.rules->apply(serviceRules({sticky}, RulesFor::kPod)));
  int counts[2] = {};
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(connectFrom(client.netns.get(), "10.96.0.50:80"), 0);
  }
  while (acceptedFrom(at_one)) ++counts[0];
  while (acceptedFrom(at_two)) ++counts[1];
  EXPECT_EQ(counts[0] + counts[1], 10);
  EXPECT_EQ(counts[0] * counts[1], 0);
}

void servicesWithoutEndpointsRefuse() {
  Cluster cluster;
  const Pod client = cluster.add("client");
  ASSERT_TRUE(client.rules->apply(serviceRules({service({})}, RulesFor::kPod)));
  EXPECT_EQ(connectFrom(client.netns.get(), "10.96.0.50:80"), ECONNREFUSED);
  EXPECT_EQ(connectFrom(client.netns.get(), "127.77.0.1:80"), ECONNREFUSED);
  // No such service: the node refuses. Nothing listens at the relay's port here.
  EXPECT_EQ(connectFrom(client.netns.get(), "10.96.7.7:80"), ECONNREFUSED);
  EXPECT_EQ(connectFrom(client.netns.get(), "192.0.2.1:80"), ECONNREFUSED);
}

void whatLeavesGoesToTheRelay() {
  Cluster cluster;
  const Pod client = cluster.add("client");
  auto relay = net::listenSocket(*net::Address::fromIp("0.0.0.0", 15999));
  ASSERT_TRUE(relay);
  const auto expectOriginal = [&](int netns, const char* to) {
    base::Fd connected;
    ASSERT_EQ(connectFrom(netns, to, &connected), 0) << to;
    pollfd poll{relay->get(), POLLIN, 0};
    ASSERT_EQ(::poll(&poll, 1, 200), 1);
    const base::Fd fd(::accept4(relay->get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_EQ(net::originalDestination(fd.get())->toString(), to);
  };
  expectOriginal(client.netns.get(), "192.0.2.1:443");
  expectOriginal(client.netns.get(), "10.96.0.1:443");
  expectOriginal(client.netns.get(), "198.18.3.4:80");
  // The node's own processes, too.
  auto node = NetfilterSocket::open();
  ASSERT_TRUE(node->apply(serviceRules({service({})}, RulesFor::kNode)));
  expectOriginal(cluster.home.get(), "10.96.0.1:443");
  expectOriginal(cluster.home.get(), "192.0.2.1:443");
  EXPECT_EQ(connectFrom(cluster.home.get(), "10.96.0.50:80"), ECONNREFUSED);
  EXPECT_EQ(connectFrom(cluster.home.get(), "10.96.7.7:80"), ECONNREFUSED);

  // UDP has no way out and hears so at once.
  const auto scope = NamespaceScope::enter(client.netns.get());
  const base::Fd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto target = net::Address::parse("192.0.2.1:53");
  ASSERT_EQ(::connect(udp.get(), target->sockaddrPtr(), target->length()), 0);
  ASSERT_EQ(::send(udp.get(), "x", 1, 0), 1);
  pollfd poll{udp.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&poll, 1, 500), 1);
  char byte = 0;
  EXPECT_EQ(::recv(udp.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

void sidecarComesFirst() {
  Cluster cluster;
  const Pod client = cluster.add("client");
  const Pod server = cluster.add("server");
  const base::Fd at_server = server.listen(8080);
  ASSERT_TRUE(client.rules->apply(serviceRules({service({{server.ip, 8080}})}, RulesFor::kPod)));
  // As `postern-proxy capture` does it: everything but the proxy's (here: by no rule) to 15001.
  NetfilterBatch capture("capture");
  capture.addBaseChain("output", "nat", NetfilterHook::kOutput, -100);
  capture.addRule("output", NetfilterRule().protocolIs(IPPROTO_TCP).redirect(15001));
  const std::string rules = capture.finish();
  ASSERT_TRUE(client.rules->apply(rules));
  const base::Fd sidecar = client.listen(15001);
  base::Fd connected;
  ASSERT_EQ(connectFrom(client.netns.get(), "10.96.0.50:80", &connected), 0);
  const base::Fd fd(::accept4(sidecar.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(fd);
  EXPECT_EQ(net::originalDestination(fd.get())->toString(), "10.96.0.50:80");
  // What a capture rule lets pass falls through to the services.
  ASSERT_TRUE(client.rules->apply([] {
    NetfilterBatch none("capture");
    none.addBaseChain("output", "nat", NetfilterHook::kOutput, -100);
    none.addRule("output", NetfilterRule().protocolIs(IPPROTO_TCP).accept());
    return none.finish();
  }()));
  ASSERT_EQ(connectFrom(client.netns.get(), "10.96.0.50:80", &connected), 0);
  EXPECT_EQ(acceptedFrom(at_server), client.ip);
}

void linksAreFoundAgain() {
  Cluster cluster;
  const Pod one = cluster.add("one");
  const Pod two = cluster.add("two");
  auto next = PodLinks::open();  // a restarted node agent
  ASSERT_TRUE(next) << next.error().message();
  EXPECT_EQ(next->uids(), (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(next->attach("one", one.netns.get(), ""), one.ip);
  const Pod three;
  EXPECT_EQ(next->attach("three", three.netns.get(), two.ip), "10.244.0.4");  // taken: another
  next->detach("two");
  next->detach("two");
  const Pod again;  // a pod whose namespaces were made anew keeps its address
  EXPECT_EQ(next->attach("one", again.netns.get(), ""), one.ip);
  const Pod four;
  EXPECT_EQ(next->attach("four", four.netns.get(), two.ip), two.ip);
  EXPECT_FALSE(next->attach("", four.netns.get(), ""));
  EXPECT_FALSE(next->attach("five", -1, ""));
}

void attachIsQuick() {
  Cluster cluster;
  std::vector<Pod> pods;
  std::vector<ServicePort> ports;
  for (int i = 0; i < 40; ++i) {
    ServicePort port = service({{"10.244.0.2", 80}, {"10.244.0.3", 80}});
    port.port = static_cast<std::uint16_t>(1000 + i);
    ports.push_back(port);
  }
  const std::string rules = serviceRules(ports, RulesFor::kPod);
  using Clock = std::chrono::steady_clock;
  const auto ms = [](Clock::duration d) {
    return std::chrono::duration<double, std::milli>(d).count();
  };
  double attach = 0;
  for (int i = 0; i < 20; ++i) {
    const auto start = Clock::now();
    pods.push_back(cluster.add(std::to_string(i)));
    attach += ms(Clock::now() - start);
  }
  for (int round = 0; round < 2; ++round) {
    const auto start = Clock::now();
    for (const Pod& pod : pods) EXPECT_TRUE(pod.rules->apply(rules));
    std::printf("attach %.2f ms each; rules (%zu bytes) %.2f ms for 20 pods\n", attach / 20,
                rules.size(), ms(Clock::now() - start));
  }
}

class PodNetwork : public ::testing::TestWithParam<As> {};

TEST_P(PodNetwork, ServicesReachPods) { test::inNamespaces(GetParam(), servicesReachPods); }
TEST_P(PodNetwork, AffinityKeepsTheBackend) {
  test::inNamespaces(GetParam(), affinityKeepsTheBackend);
}
TEST_P(PodNetwork, ServicesWithoutEndpointsRefuse) {
  test::inNamespaces(GetParam(), servicesWithoutEndpointsRefuse);
}
TEST_P(PodNetwork, WhatLeavesGoesToTheRelay) {
  test::inNamespaces(GetParam(), whatLeavesGoesToTheRelay);
}
TEST_P(PodNetwork, SidecarComesFirst) { test::inNamespaces(GetParam(), sidecarComesFirst); }
TEST_P(PodNetwork, LinksAreFoundAgain) { test::inNamespaces(GetParam(), linksAreFoundAgain); }
TEST_P(PodNetwork, AttachIsQuick) { test::inNamespaces(GetParam(), attachIsQuick); }

INSTANTIATE_TEST_SUITE_P(Both, PodNetwork, ::testing::ValuesIn(test::everybody()),
                         [](const auto& param) {
                           return param.param == As::kRoot ? "Root" : "User";
                         });

}  // namespace
}  // namespace postern::network
