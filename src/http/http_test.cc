#include "codec/h2_frame.h"
#include "http/client.h"
#include "http/server.h"
#include "tls/x509.h"

#include <gtest/gtest.h>

#include <optional>

#include <sys/socket.h>

namespace postern::http {
namespace {

using std::chrono::milliseconds;

TEST(HeaderMap, KeepsOrderPutsPseudoHeadersFirstAndLowersNames) {
  HeaderMap map;
  map.add("Host", "a");
  map.add(":status", "200");
  map.add("X-A", "1");
  map.add("x-a", "2");
  EXPECT_EQ(map.at(0).name, ":status");
  EXPECT_EQ(map.at(1).name, "host");
  EXPECT_EQ(*map.joined("x-a"), "1,2");
  map.set("x-a", map.value("host"));
  EXPECT_EQ(map.size(), 3u);
  EXPECT_EQ(map.value("x-a"), "a");
  EXPECT_EQ(map.remove("x-a"), 1u);
  EXPECT_EQ(map.status(), 200);
}

/// A server with a handler, and a client to it, on one loop.
struct Fixture {
  event::Loop loop;
  std::unique_ptr<Server> server;
  std::unique_ptr<Client> client;
  net::Address address;

  explicit Fixture(Handler handler, ServerLimits limits = {}, bool with_tls = false) {
    Server::Options options;
    options.limits = limits;
    Client::Options to;
    if (with_tls) {
      tls::KeyPair root = *tls::makeRoot("r", std::chrono::hours(1));
      tls::CertificateRequest request;
      request.dns_names = {"server.test"};
      tls::KeyPair pair = *tls::issue(root, request);
      options.tls = *tls::ServerContext::make(
          {pair.certificate_pem, pair.private_key_pem, "", tls::ClientAuth::kNone, {}});
      tls::ClientOptions client_options;
      client_options.ca_pem = root.certificate_pem;
      to.tls = *tls::ClientContext::make(client_options);
    }
    server = Server::make(loop, std::move(options), std::move(handler));
    base::Fd listener = std::move(*net::listenSocket(net::Address::loopback(0)));
    address = net::localAddress(listener.get());
    server->listen(std::move(listener));
    to.address = address;
    to.host = "server.test";
    client = Client::make(loop, std::move(to));
  }
  template <class F>
  void until(F done) {
    for (int i = 0; i < 2000 && !done(); ++i) loop.runOnce(milliseconds(5));
    ASSERT_TRUE(done());
  }
  base::Result<ClientResponse> fetch(ClientRequest request) {
    std::optional<base::Result<ClientResponse>> out;
    auto call = client->fetch(std::move(request),
                              [&](base::Result<ClientResponse> r) { out = std::move(r); });
    until([&] { return out.has_value(); });
    return std::move(*out);
  }
  /// Sends raw bytes and returns what comes until the server closes (or is quiet for 50 turns).
  std::string raw(const std::string& bytes) {
    struct Peer : net::TransportObserver {
      std::unique_ptr<net::Transport> transport;
      base::Buffer in;
      base::Buffer out;
      bool over = false;
      void onConnected() override { transport->write(out); }
      void onReadable() override {
        net::IoResult r{};
        while ((r = transport->read(in, 65536)).status == net::IoStatus::kOk) {
        }
        over = over || r.status != net::IoStatus::kAgain;
      }
      void onWritable() override { transport->write(out); }
      void onError(base::Error) override { over = true; }
    } peer;
    peer.out.append(bytes);
    peer.transport = net::connectTransport(loop, address);
    peer.transport->setObserver(&peer);
    for (int i = 0; i < 50 && !peer.over; ++i) loop.runOnce(milliseconds(5));
    return peer.in.toString();
  }
};

Handler echoBody() {
  return [](Request request, std::unique_ptr<Responder> responder) {
    responder->respond(200, {{"x-path", request.path}, {"x-q", request.parameter("q")}},
                       request.body);
  };
}

TEST(Http, AnswersOverOneReusedConnection) {
  Fixture f(echoBody());
  for (int i = 0; i < 3; ++i) {
    ClientRequest request{.method = "POST", .path = "/p%20x?q=a%2Bb+c", .body = "hello"};
    auto response = f.fetch(std::move(request));
    ASSERT_TRUE(response) << response.error().message();
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->body, "hello");
    EXPECT_EQ(response->headers.value("x-path"), "/p%20x");
    EXPECT_EQ(response->headers.value("x-q"), "a+b c");
  }
  EXPECT_EQ(f.server->connections(), 1u);
}

TEST(Http, CarriesLargeBodiesBothWaysOverTls) {
  Fixture f(echoBody(), {.body_bytes_max = 50'000'000}, true);
  std::string big(20'000'000, 'b');
  ClientRequest request{.method = "PUT", .path = "/", .body = big};
  auto response = f.fetch(std::move(request));
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_TRUE(response->body == big);
}

TEST(Http, RefusesABodyOverTheLimit) {
  Fixture f(echoBody(), {.body_bytes_max = 1000});
  auto response = f.fetch({.method = "POST", .path = "/", .body = std::string(1001, 'x')});
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 413);
}

TEST(Http, StreamsAndTellsTheProducerThatTheReaderWentAway) {
  std::unique_ptr<Responder> kept;
  bool gone = false;
  Fixture f([&](Request, std::unique_ptr<Responder> responder) {
    kept = std::move(responder);
    kept->onGone([&] { gone = true; });
    kept->start(200, {});
    kept->write("one\n");
  });
  std::string got;
  Client::StreamCallbacks callbacks;
  callbacks.on_data = [&](std::string_view bytes) { got += bytes; };
  auto call = f.client->stream({.path = "/watch"}, std::move(callbacks));
  f.until([&] { return got == "one\n"; });
  kept->write("two\n");
  f.until([&] { return got == "one\ntwo\n"; });
  call.reset();
  f.until([&] { return gone; });
  kept.reset();
}

TEST(Http, AnAnswerWhoseWriterHasLeftEndsWhenItIsRead) {
  Fixture f([&](Request, std::unique_ptr<Responder> responder) {
    responder->start(200, {{"content-length", std::to_string(16 << 20)}});
    for (int i = 0; i < 16; ++i) responder->write(std::string(1 << 20, 'x'));
    responder->end();
  });
  const base::Fd client(::socket(f.address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), f.address.sockaddrPtr(), f.address.length()), 0);
  const std::string request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
  ASSERT_GT(::send(client.get(), request.data(), request.size(), 0), 0);
  for (int i = 0; i < 20; ++i) f.loop.runOnce(milliseconds(1));
  std::size_t got = 0;
  std::string room(1 << 20, 0);
  f.until([&] {
    const ssize_t n = ::recv(client.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (n > 0) got += static_cast<std::size_t>(n);
    return got > 16 << 20;
  });
}

TEST(Http, ServesPipelinedRequestsInOrder) {
  Fixture f(echoBody());
  std::string answer = f.raw(
      "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
      "chunked\r\n\r\n"
      "3\r\nabc\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::size_t one = answer.find("x-path: /1");
  std::size_t two = answer.find("x-path: /2");
  std::size_t three = answer.find("x-path: /3");
  EXPECT_LT(one, two);
  EXPECT_LT(two, three);
  EXPECT_NE(three, std::string::npos) << answer;
  EXPECT_NE(answer.find("\r\n\r\nabc"), std::string::npos);
}

TEST(Http, ABrokenPrefaceIsAnsweredInHttp2) {
  Fixture f(echoBody());
  const std::string answer = f.raw("PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n");
  std::optional<codec::H2Error> goaway;
  for (std::string_view rest = answer; rest.size() >= codec::kH2HeaderBytes;) {
    const codec::H2FrameHeader header = codec::parseH2Header(rest);
    ASSERT_GE(rest.size(), codec::kH2HeaderBytes + header.length);
    if (header.type == codec::H2Type::kGoAway)
      goaway = static_cast<codec::H2Error>(codec::readU32(rest.substr(codec::kH2HeaderBytes + 4)));
    rest.remove_prefix(codec::kH2HeaderBytes + header.length);
  }
  EXPECT_EQ(goaway, codec::H2Error::kProtocol);
}

TEST(Http, RefusesSmugglingAndCloses) {
  Fixture f(echoBody());
  std::string answer = f.raw(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: "
      "chunked\r\n\r\n0\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << answer;
  EXPECT_NE(answer.find("connection: close"), std::string::npos);
  // The client's end was waited for: the answer would be lost to a reset otherwise.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (f.server->connections() > 0 && std::chrono::steady_clock::now() < end)
    f.loop.runOnce(std::chrono::milliseconds(5));
  EXPECT_EQ(f.server->connections(), 0u);
}

TEST(Http, HandsOverTheConnectionOnUpgrade) {
  std::unique_ptr<net::Transport> taken;
  std::string unread;
  Fixture f([&](Request, std::unique_ptr<Responder> responder) {
    base::Buffer rest;
    taken = responder->upgrade({{"upgrade", "test"}}, rest);
    unread = rest.toString();
  });
  std::string answer =
      f.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nmore");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 101 ")) << answer;
  EXPECT_NE(taken, nullptr);
  EXPECT_EQ(unread, "more");
  taken.reset();  // before its loop
}

TEST(Http, ClosesAClientThatSendsNoHeadInTime) {
  Fixture f(echoBody(), {.headers_timeout = milliseconds(30)});
  std::string answer = f.raw("GET / HTTP/1.1\r\nHost:");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 408 ")) << answer;
}

TEST(Http, TellsARefusedConnection) {
  Fixture f(echoBody());
  Client::Options options;
  base::Fd closed = std::move(*net::listenSocket(net::Address::loopback(0)));
  options.address = net::localAddress(closed.get());
  closed.reset();
  f.client = Client::make(f.loop, std::move(options));
  auto response = f.fetch({});
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, base::Errc::kRefused);
}

TEST(Http, AnUnansweredRequestGets500) {
  Fixture f([](Request, std::unique_ptr<Responder>) {});
  auto response = f.fetch({});
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 500);
}

}  // namespace
}  // namespace postern::http
