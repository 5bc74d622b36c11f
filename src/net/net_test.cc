#include "net/resolver.h"
#include "net/socket.h"

#include <gtest/gtest.h>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

namespace postern::net {
namespace {

using std::chrono::milliseconds;

TEST(Address, ParsesWhatItPrints) {
  for (std::string text : {"10.1.2.3:80", "[::1]:443", "0.0.0.0:0"}) {
    auto address = Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->toString(), text);
  }
  EXPECT_EQ(Address::parse("unix:///tmp/x")->toString(), "/tmp/x");
  for (std::string bad : {"10.1.2.3", "10.1.2.3:70000", "::1:80", "a:80", "10.1.2.3:"})
    EXPECT_FALSE(Address::parse(bad));
}

TEST(Cidr, ContainsItsRangeOnly) {
  Cidr range = *Cidr::parse("10.16.0.0/12");
  EXPECT_TRUE(range.contains(*Address::fromIp("10.31.255.255", 1)));
  EXPECT_FALSE(range.contains(*Address::fromIp("10.32.0.0", 1)));
  EXPECT_FALSE(range.contains(*Address::fromIp("::1", 1)));
  EXPECT_TRUE(Cidr::parse("0.0.0.0/0")->contains(*Address::fromIp("1.2.3.4", 1)));
  EXPECT_FALSE(Cidr::parse("10.0.0.0/33"));
}

struct Recorder : TransportObserver {
  std::unique_ptr<Transport> transport;
  base::Buffer in;
  base::Buffer out;
  bool connected = false;
  bool eof = false;
  base::Errc failed = base::Errc::kOk;
  void onConnected() override {
    connected = true;
    flush();
  }
  void onReadable() override {
    for (;;) {
      IoResult result = transport->read(in, 1 << 20);
      if (result.status == IoStatus::kEof) eof = true;
      if (result.status != IoStatus::kOk) return;
      if (result.bytes < (1 << 20)) return;
    }
  }
  void onWritable() override { flush(); }
  void onError(base::Error error) override { failed = error.code; }
  void flush() { transport->write(out); }
};

struct Pair {
  event::Loop loop;
  Recorder client;
  Recorder server;
  Acceptor acceptor;
  Pair()
      : acceptor(loop, std::move(*listenSocket(Address::loopback(0))),
                 [this](base::Fd fd, const Address&) {
                   server.transport = makeSocketTransport(loop, std::move(fd));
                   server.transport->setObserver(&server);
                 }) {
    client.transport = connectTransport(loop, acceptor.local());
    client.transport->setObserver(&client);
    until([this] { return client.connected && server.transport != nullptr; });
  }
  template <class F>
  void until(F done) {
    for (int i = 0; i < 2000 && !done(); ++i) loop.runOnce(milliseconds(5));
    ASSERT_TRUE(done());
  }
};

TEST(SocketTransport, CarriesMoreThanTheSocketBuffersHold) {
  Pair pair;
  std::string big(20'000'000, 'x');
  pair.client.out.append(big);
  pair.client.flush();
  pair.until([&] { return pair.server.in.size() == big.size(); });
  EXPECT_TRUE(pair.client.out.empty());
}

TEST(SocketTransport, ReportsTheEndThatCameWithTheLastBytes) {
  Pair pair;
  pair.client.out.append("bye");
  pair.client.flush();
  pair.client.transport->shutdownWrite();
  pair.until([&] { return pair.server.eof; });
  EXPECT_EQ(pair.server.in.toString(), "bye");
}

TEST(SocketTransport, ReportsTheEndThatCameBeforeTheConnectionWasReported) {
  event::Loop loop;
  const base::Fd listener = std::move(*listenSocket(Address::loopback(0)));
  Recorder client;
  client.transport = connectTransport(loop, localAddress(listener.get()));
  client.transport->setObserver(&client);
  {
    // The kernel has connected it already: bytes and end are there before the first report.
    pollfd waits{.fd = listener.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&waits, 1, 3000), 1);
    const base::Fd peer(::accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(peer);
    ASSERT_EQ(::send(peer.get(), "bye", 3, MSG_NOSIGNAL), 3);
  }
  for (int i = 0; i < 200 && !client.eof; ++i) loop.runOnce(milliseconds(5));
  EXPECT_TRUE(client.eof);
  EXPECT_EQ(client.in.toString(), "bye");
}

TEST(Listener, KnowsTheAddressOfItsConnectionsUnlessTheyMayDiffer) {
  const base::Fd one = std::move(*listenSocket(Address::loopback(0)));
  ASSERT_TRUE(onlyAddress(one.get()));
  EXPECT_EQ(*onlyAddress(one.get()), localAddress(one.get()));
  const base::Fd any = std::move(*listenSocket(*Address::parse("0.0.0.0:0")));
  EXPECT_FALSE(onlyAddress(any.get()));
  const base::Fd any_six(::socket(AF_INET6, SOCK_STREAM, 0));  // an unbound one is "::"
  if (any_six) {
    EXPECT_FALSE(onlyAddress(any_six.get()));
  }
  // Only who may redirect connections can make such a socket.
  if (const auto transparent = listenSocket(Address::loopback(0), {.transparent = true})) {
    int on = 0;
    socklen_t length = sizeof on;
    ASSERT_EQ(::getsockopt(transparent->get(), SOL_IP, IP_TRANSPARENT, &on, &length), 0);
    EXPECT_EQ(onlyAddress(transparent->get()).has_value(), on == 0);
  }
}

TEST(SocketTransport, RefusedConnectIsToldInALaterTurn) {
  event::Loop loop;
  base::Fd closed = std::move(*listenSocket(Address::loopback(0)));
  Address nobody = localAddress(closed.get());
  closed.reset();
  Recorder client;
  client.transport = connectTransport(loop, nobody);
  client.transport->setObserver(&client);
  EXPECT_EQ(client.failed, base::Errc::kOk);
  for (int i = 0; i < 100 && client.failed == base::Errc::kOk; ++i) loop.runOnce(milliseconds(5));
  EXPECT_EQ(client.failed, base::Errc::kRefused);
}

TEST(Resolver, AnswersNumericNamesAndLocalhostAndCancels) {
  event::Loop loop;
  auto resolver = makeResolver(loop);
  int answers = 0;
  auto one = resolver->resolve("127.0.0.9", DnsFamily::kAuto, [&](base::Result<DnsAnswer> answer) {
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->addresses.at(0).ip(), "127.0.0.9");
    ++answers;
  });
  auto two =
      resolver->resolve("localhost", DnsFamily::kV4Only, [&](base::Result<DnsAnswer> answer) {
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->addresses.at(0).ip(), "127.0.0.1");
        ++answers;
      });
  auto three = resolver->resolve("127.0.0.1", DnsFamily::kAuto,
                                 [&](base::Result<DnsAnswer>) { answers += 100; });
  three.reset();
  for (int i = 0; i < 100 && answers < 2; ++i) loop.runOnce(milliseconds(5));
  EXPECT_EQ(answers, 2);
}

}  // namespace
}  // namespace postern::net
