// HTTP/2 end to end: whole requests and gRPC over cleartext, TLS and Unix sockets.
#include "http/client.h"
#include "http/grpc.h"
#include "http/server.h"
#include "tls/x509.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include <unistd.h>

namespace postern::http {
namespace {

using std::chrono::milliseconds;

enum class Wire { kCleartext, kTls, kUnix };

/// Sockets, certificates and a folder for one test.
struct Ground {
  event::Loop loop;
  std::string folder;
  std::shared_ptr<const tls::ServerContext> server_tls;
  std::shared_ptr<const tls::ClientContext> client_tls;
  Wire wire;

  explicit Ground(Wire w) : wire(w) {
    char name[] = "/tmp/postern-h2-XXXXXX";
    folder = ::mkdtemp(name);
    if (wire != Wire::kTls) return;
    tls::KeyPair root = *tls::makeRoot("r", std::chrono::hours(1));
    tls::CertificateRequest request;
    request.dns_names = {"server.test"};
    tls::KeyPair pair = *tls::issue(root, request);
    server_tls = *tls::ServerContext::make({pair.certificate_pem,
                                            pair.private_key_pem,
                                            "",
                                            tls::ClientAuth::kNone,
                                            {"h2", "http/1.1"}});
    tls::ClientOptions options;
    options.ca_pem = root.certificate_pem;
    options.alpn = {"h2", "http/1.1"};
    client_tls = *tls::ClientContext::make(options);
  }
  ~Ground() {
    ::unlink((folder + "/s").c_str());
    ::rmdir(folder.c_str());
  }
  base::Fd listener() {
    return std::move(*net::listenSocket(wire == Wire::kUnix ? net::Address::unixPath(folder + "/s")
                                                            : net::Address::loopback(0)));
  }
  template <class F>
  void until(F done) {
    for (int i = 0; i < 4000 && !done(); ++i) loop.runOnce(milliseconds(5));
    ASSERT_TRUE(done());
  }
};

class Http2 : public ::testing::TestWithParam<Wire> {
 protected:
  Ground ground{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Wires, Http2,
                         ::testing::Values(Wire::kCleartext, Wire::kTls, Wire::kUnix));

struct WholeRequests {
  Ground& ground;
  std::unique_ptr<Server> server;
  std::unique_ptr<Client> client;

  WholeRequests(Ground& g, Handler handler, ServerLimits limits = {}) : ground(g) {
    server = Server::make(g.loop, {limits, g.server_tls}, std::move(handler));
    base::Fd listener = g.listener();
    Client::Options options;
    options.address = net::localAddress(listener.get());
    options.host = "server.test";
    options.tls = g.client_tls;
    options.protocol = g.client_tls ? Protocol::kAuto : Protocol::kHttp2;
    server->listen(std::move(listener));
    client = Client::make(g.loop, std::move(options));
  }
  base::Result<ClientResponse> fetch(ClientRequest request) {
    std::optional<base::Result<ClientResponse>> out;
    auto call = client->fetch(std::move(request),
                              [&](base::Result<ClientResponse> r) { out = std::move(r); });
    ground.until([&] { return out.has_value(); });
    return std::move(*out);
  }
};

Handler echo() {
  return [](Request request, std::unique_ptr<Responder> responder) {
    responder->respond(200,
                       {{"x-path", request.path},
                        {"x-host", request.headers.authority()},
                        {"connection", "close"}},
                       request.body);
  };
}

TEST_P(Http2, CarriesWholeRequestsOverOneConnection) {
  WholeRequests f(ground, echo());
  std::vector<std::unique_ptr<Client::Call>> calls;
  int answers = 0;
  for (int i = 0; i < 100; ++i) {
    ClientRequest request{.method = "POST", .path = "/p" + std::to_string(i), .body = "hello"};
    calls.push_back(f.client->fetch(std::move(request), [&, i](base::Result<ClientResponse> r) {
      ASSERT_TRUE(r) << r.error().message();
      EXPECT_EQ(r->status, 200);
      EXPECT_EQ(r->body, "hello");
      EXPECT_EQ(r->headers.value("x-path"), "/p" + std::to_string(i));
      EXPECT_EQ(r->headers.value("x-host"), "server.test");
      EXPECT_FALSE(r->headers.has("connection"));
      ++answers;
    }));
  }
  ground.until([&] { return answers == 100; });
  EXPECT_EQ(f.server->connections(), 1u);
}

TEST_P(Http2, CarriesLargeBodiesBothWays) {
  WholeRequests f(ground, echo(), {.body_bytes_max = 50'000'000});
  std::string big(20'000'000, 'b');
  for (std::size_t i = 0; i < big.size(); i += 1000) big[i] = static_cast<char>('a' + i % 23);
  auto response = f.fetch({.method = "PUT", .path = "/", .body = big});
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_TRUE(response->body == big);
}

TEST_P(Http2, AnswersHeadWithoutABody) {
  WholeRequests f(ground, [](Request, std::unique_ptr<Responder> responder) {
    responder->respond(200, {}, "body");
  });
  auto response = f.fetch({.method = "HEAD"});
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->body, "");
  EXPECT_EQ(response->headers.value("content-length"), "4");
}

TEST_P(Http2, TellsTheProducerThatTheReaderWentAway) {
  std::unique_ptr<Responder> kept;
  bool gone = false;
  WholeRequests f(ground, [&](Request, std::unique_ptr<Responder> responder) {
    kept = std::move(responder);
    kept->onGone([&] { gone = true; });
    kept->start(200, {});
    kept->write("one\n");
  });
  std::string got;
  Client::StreamCallbacks callbacks;
  callbacks.on_data = [&](std::string_view bytes) { got += bytes; };
  auto call = f.client->stream({.path = "/watch"}, std::move(callbacks));
  ground.until([&] { return got == "one\n"; });
  call.reset();
  ground.until([&] { return gone; });
  kept.reset();
}

TEST_P(Http2, DrainsAndRefusesNothingThatWasSent) {
  std::unique_ptr<Responder> kept;
  WholeRequests f(
      ground, [&](Request, std::unique_ptr<Responder> responder) { kept = std::move(responder); });
  std::optional<base::Result<ClientResponse>> out;
  auto call = f.client->fetch({}, [&](base::Result<ClientResponse> r) { out = std::move(r); });
  ground.until([&] { return kept != nullptr; });
  f.server->drain();
  for (int i = 0; i < 20; ++i) ground.loop.runOnce(milliseconds(1));
  EXPECT_EQ(f.server->connections(), 1u);
  kept->respond(200, {}, "late");
  ground.until([&] { return out.has_value(); });
  ASSERT_TRUE(*out) << out->error().message();
  EXPECT_EQ((*out)->body, "late");
  ground.until([&] { return f.server->connections() == 0; });
}

TEST_P(Http2, TheServerStillSpeaksHttp1) {
  WholeRequests f(ground, echo());
  Client::Options options;
  base::Fd listener = std::move(*net::listenSocket(net::Address::loopback(0)));
  options.address = net::localAddress(listener.get());
  options.host = "server.test";
  f.server->listen(std::move(listener));
  if (ground.client_tls) return;  // its context offers h2
  f.client = Client::make(ground.loop, std::move(options));
  auto response = f.fetch({.path = "/one"});
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->headers.value("x-path"), "/one");
}

// ---- gRPC ----

struct Rpc {
  Ground& ground;
  std::unique_ptr<GrpcServer> server;
  std::unique_ptr<GrpcChannel> channel;
  std::unique_ptr<GrpcStream> at_server;
  std::string authorization;

  explicit Rpc(Ground& g, std::size_t message_bytes_max = 64 << 20) : ground(g) {
    GrpcServer::Options options;
    options.tls = g.server_tls;
    options.message_bytes_max = message_bytes_max;
    server = GrpcServer::make(g.loop, std::move(options));
    server->addMethod("/t.Test/Echo",
                      [this](std::unique_ptr<GrpcStream> stream, const HeaderMap& headers) {
                        authorization = headers.value("authorization");
                        at_server = std::move(stream);
                        GrpcCallbacks callbacks;
                        callbacks.on_message = [this](std::string_view m) { at_server->send(m); };
                        callbacks.on_half_close = [this] { at_server->close({0, ""}); };
                        callbacks.on_close = [this](GrpcStatus) { at_server.reset(); };
                        return callbacks;
                      });
    server->addMethod("/t.Test/Refuse", [](std::unique_ptr<GrpcStream> stream, const HeaderMap&) {
      stream->close({7, "no: 100% \n\xc3\xa4"});
      return GrpcCallbacks();
    });
    base::Fd listener = g.listener();
    GrpcChannel::Options to;
    to.address = net::localAddress(listener.get());
    to.host = "server.test";
    to.tls = g.client_tls;
    server->listen(std::move(listener));
    channel = GrpcChannel::make(g.loop, std::move(to));
  }
};

struct Ear {
  std::vector<std::string> messages;
  std::optional<GrpcStatus> status;
  GrpcCallbacks callbacks() {
    GrpcCallbacks out;
    out.on_message = [this](std::string_view m) { messages.emplace_back(m); };
    out.on_close = [this](GrpcStatus s) { status = std::move(s); };
    return out;
  }
};

TEST_P(Http2, GrpcStreamsBothWaysAndEndsWithAStatus) {
  Rpc rpc(ground);
  Ear ear;
  auto call = rpc.channel->call("/t.Test/Echo", {{"authorization", "Bearer x"}}, ear.callbacks());
  call->send("one");
  call->send("");
  ground.until([&] { return ear.messages.size() == 2; });
  EXPECT_EQ(rpc.authorization, "Bearer x");
  EXPECT_EQ(ear.messages[0], "one");
  EXPECT_EQ(ear.messages[1], "");
  call->send("two");
  call->close();
  ground.until([&] { return ear.status.has_value(); });
  EXPECT_EQ(ear.status->code, 0);
  EXPECT_EQ(ear.messages.back(), "two");
  ground.until([&] { return rpc.at_server == nullptr; });
}

TEST_P(Http2, GrpcCarriesLargeMessages) {
  Rpc rpc(ground);
  Ear ear;
  auto call = rpc.channel->call("/t.Test/Echo", {}, ear.callbacks());
  std::string big(10'000'000, 'm');
  for (std::size_t i = 0; i < big.size(); i += 777) big[i] = static_cast<char>(i);
  call->send(big);
  EXPECT_GT(call->unsentBytes(), 0u);
  call->send("small");
  call->close();
  ground.until([&] { return ear.status.has_value(); });
  EXPECT_EQ(ear.status->code, 0) << ear.status->message;
  ASSERT_EQ(ear.messages.size(), 2u);
  EXPECT_TRUE(ear.messages[0] == big);
}

TEST_P(Http2, GrpcRefusesByTrailersOnly) {
  Rpc rpc(ground);
  Ear refused;
  auto one = rpc.channel->call("/t.Test/Refuse", {}, refused.callbacks());
  Ear unknown;
  auto two = rpc.channel->call("/t.Test/Nothing", {}, unknown.callbacks());
  ground.until([&] { return refused.status && unknown.status; });
  EXPECT_EQ(refused.status->code, 7);
  EXPECT_EQ(refused.status->message, "no: 100% \n\xc3\xa4");
  EXPECT_EQ(unknown.status->code, 12);
}

TEST_P(Http2, GrpcLimitsTheMessage) {
  Rpc rpc(ground, 1000);
  Ear ear;
  auto call = rpc.channel->call("/t.Test/Echo", {}, ear.callbacks());
  call->send(std::string(1001, 'x'));
  ground.until([&] { return ear.status.has_value(); });
  EXPECT_EQ(ear.status->code, 8);
}

TEST_P(Http2, GrpcServerHearsOfACancelledCall) {
  Rpc rpc(ground);
  Ear ear;
  auto call = rpc.channel->call("/t.Test/Echo", {}, ear.callbacks());
  call->send("x");
  ground.until([&] { return ear.messages.size() == 1; });
  EXPECT_NE(rpc.at_server, nullptr);
  call.reset();
  ground.until([&] { return rpc.at_server == nullptr; });
  EXPECT_FALSE(ear.status.has_value());
}

TEST_P(Http2, GrpcClientHearsOfALostServer) {
  Rpc rpc(ground);
  Ear ear;
  auto call = rpc.channel->call("/t.Test/Echo", {}, ear.callbacks());
  call->send("x");
  ground.until([&] { return ear.messages.size() == 1; });
  rpc.server.reset();
  ground.until([&] { return ear.status.has_value(); });
  EXPECT_EQ(ear.status->code, 14);
  EXPECT_TRUE(rpc.channel->closed());
  Ear late;
  auto again = rpc.channel->call("/t.Test/Echo", {}, late.callbacks());
  ground.until([&] { return late.status.has_value(); });
  EXPECT_EQ(late.status->code, 14);
}

TEST(Grpc, TellsThatNobodyListens) {
  Ground ground(Wire::kUnix);
  GrpcChannel::Options options;
  options.address = net::Address::unixPath(ground.folder + "/s");
  auto channel = GrpcChannel::make(ground.loop, std::move(options));
  Ear ear;
  auto call = channel->call("/t.Test/Echo", {}, ear.callbacks());
  call->send("x");
  ground.until([&] { return ear.status.has_value(); });
  EXPECT_EQ(ear.status->code, 14);
}

}  // namespace
}  // namespace postern::http
