#include "tls/tls.h"

#include "net/socket.h"
#include "tls/x509.h"

#include <gtest/gtest.h>

namespace postern::tls {
namespace {

struct Peer : net::TransportObserver {
  std::unique_ptr<net::Transport> transport;
  base::Buffer in;
  base::Buffer out;
  bool connected = false;
  bool eof = false;
  std::string error;
  void onConnected() override {
    connected = true;
    transport->write(out);
  }
  bool stops = false;  // reads nothing and asks to be told again
  int told = 0;
  void onReadable() override {
    ++told;
    if (stops) return transport->resumeRead();
    for (;;) {
      net::IoResult result = transport->read(in, 1 << 20);
      if (result.status == net::IoStatus::kEof) eof = true;
      if (result.status != net::IoStatus::kOk) return;
    }
  }
  bool write_failed = false;
  void onWritable() override {
    write_failed = transport->write(out).status == net::IoStatus::kError || write_failed;
  }
  void onError(base::Error e) override { error = e.message(); }
};

struct Session {
  event::Loop loop;
  Peer client;
  Peer server;
  KeyPair root = *makeRoot("test root", std::chrono::hours(1));
  KeyPair server_cert;
  KeyPair client_cert;

  Session() {
    CertificateRequest request;
    request.common_name = "server";
    request.dns_names = {"api.test"};
    request.ip_addresses = {"127.0.0.1"};
    server_cert = *issue(root, request);
    CertificateRequest user;
    user.common_name = "jane";
    user.organizations = {"system:masters", "devs"};
    user.uris = {"spiffe://cluster.local/ns/a/sa/b"};
    client_cert = *issue(root, user);
  }

  void connect(const std::string& name, bool with_client_certificate) {
    ServerOptions options;
    options.certificate_chain_pem = server_cert.certificate_pem;
    options.private_key_pem = server_cert.private_key_pem;
    options.client_ca_pem = root.certificate_pem;
    options.client_auth = ClientAuth::kRequest;
    options.alpn = {"h2", "http/1.1"};
    auto server_context = *ServerContext::make(options);
    ClientOptions client_options;
    client_options.ca_pem = root.certificate_pem;
    client_options.alpn = {"http/1.1"};
    if (with_client_certificate) {
      client_options.certificate_chain_pem = client_cert.certificate_pem;
      client_options.private_key_pem = client_cert.private_key_pem;
    }
    net::Acceptor acceptor(loop, std::move(*net::listenSocket(net::Address::loopback(0))),
                           [&](base::Fd fd, const net::Address&) {
                             server.transport =
                                 acceptTls(loop, net::makeSocketTransport(loop, std::move(fd)),
                                           server_context);
                             server.transport->setObserver(&server);
                           });
    client.transport = connectTls(loop, net::connectTransport(loop, acceptor.local()),
                                  *ClientContext::make(client_options), name);
    client.transport->setObserver(&client);
    until([&] { return (client.connected && server.connected) || !client.error.empty(); });
  }
  template <class F>
  void until(F done) {
    for (int i = 0; i < 2000 && !done(); ++i) loop.runOnce(std::chrono::milliseconds(5));
    EXPECT_TRUE(done());
  }
};

TEST(Tls, CarriesBytesBothWaysAndTellsThePeer) {
  Session session;
  std::string big(5'000'000, 'y');
  session.client.out.append(big);
  session.connect("api.test", true);
  session.until([&] { return session.server.in.size() == big.size(); });
  const net::PeerInfo& peer = session.server.transport->peer();
  EXPECT_EQ(peer.common_name, "jane");
  EXPECT_EQ(peer.organizations, (std::vector<std::string>{"system:masters", "devs"}));
  EXPECT_EQ(peer.uri_sans, std::vector<std::string>{"spiffe://cluster.local/ns/a/sa/b"});
  EXPECT_EQ(peer.sni, "api.test");
  EXPECT_EQ(peer.alpn, "http/1.1");
  session.client.transport->shutdownWrite();
  session.until([&] { return session.server.eof; });
}

TEST(Tls, AReaderThatStopsIsToldInALaterTurn) {
  Session session;
  session.connect("api.test", false);
  session.until([&] { return session.server.told > 0; });  // after the handshake, once
  session.server.stops = true;
  session.client.out.append("bytes");
  session.client.onWritable();
  int turns = 0;
  const int before = session.server.told;
  for (; session.server.told < before + 20 && turns < 2000; ++turns) {
    const int told = session.server.told;
    session.loop.runOnce(std::chrono::milliseconds(5));
    ASSERT_LE(session.server.told, told + 2);  // the socket's report, and what it was asked for
  }
  EXPECT_GE(turns, 10);
  session.server.stops = false;
  session.until([&] { return session.server.in.toString() == "bytes"; });
}

// What waited for the peer is lost: whoever waits to write more is told so.
TEST(Tls, AWriterThatWaitsSeesTheReset) {
  Session session;
  session.connect("api.test", false);
  session.client.transport->setObserver(nullptr);  // reads no more
  session.server.out.append(std::string(20 << 20, 'y'));
  session.server.onWritable();
  std::size_t left = 0;
  for (int same = 0; same < 20;) {
    session.loop.runOnce(std::chrono::milliseconds(5));
    same = session.server.out.size() == left ? same + 1 : 0;
    left = session.server.out.size();
  }
  ASSERT_GT(left, 0U);
  ASSERT_FALSE(session.server.write_failed);
  session.client.transport.reset();  // with bytes unread: a reset
  session.until([&] { return session.server.write_failed; });
}

TEST(Tls, VerifiesAnIpAddressAndAllowsNoClientCertificate) {
  Session session;
  session.connect("127.0.0.1", false);
  EXPECT_TRUE(session.client.error.empty()) << session.client.error;
  EXPECT_TRUE(session.server.transport->peer().common_name.empty());
}

TEST(Tls, RefusesAnotherName) {
  Session session;
  session.connect("evil.test", false);
  EXPECT_NE(session.client.error.find("hostname mismatch"), std::string::npos)
      << session.client.error;
}

TEST(Tls, RefusesAKeyOfAnotherCertificate) {
  Session session;
  ServerOptions options;
  options.certificate_chain_pem = session.server_cert.certificate_pem;
  options.private_key_pem = session.client_cert.private_key_pem;
  auto context = ServerContext::make(options);
  ASSERT_FALSE(context);
  EXPECT_EQ(context.error().path, "private_key");
}

TEST(X509, SignsAndVerifiesEs256) {
  std::string key = *makePrivateKey();
  std::string signature = *signEs256(key, "message");
  EXPECT_TRUE(verifyEs256(*publicKeyOf(key), "message", signature));
  EXPECT_FALSE(verifyEs256(*publicKeyOf(key), "massage", signature));
  EXPECT_FALSE(verifyEs256(*publicKeyOf(key), "message", signature.substr(1)));
}

TEST(X509, RefusesNamesThatWouldInject) {
  KeyPair root = *makeRoot("r", std::chrono::hours(1));
  CertificateRequest request;
  request.dns_names = {"a,DNS:evil"};
  EXPECT_FALSE(issue(root, request));
}

}  // namespace
}  // namespace postern::tls
