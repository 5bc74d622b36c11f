// Contexts of tls/settings.h end to end over real sockets: resumption, its keys and its limits,
// names, and the errors that name fields.
#include "tls/settings.h"

#include "net/socket.h"
#include "tls/context.h"
#include "tls/x509.h"

#include <gtest/gtest.h>

#include <unistd.h>

namespace postern::tls {
namespace {

class Told final : public HandshakeObserver {
 public:
  void onHandshake(const HandshakeReport& report) override {
    ++handshakes;
    reused += report.resumed ? 1 : 0;
    cipher = report.cipher;
  }
  void onFailure(Failure why) override { failures.push_back(why); }
  int handshakes = 0;
  int reused = 0;
  std::string cipher;
  std::vector<Failure> failures;
};

struct End : net::TransportObserver {
  std::unique_ptr<net::Transport> transport;
  base::Buffer in;
  bool connected = false;
  std::string error;
  void onConnected() override { connected = true; }
  void onReadable() override {
    failed = transport->read(in, 1 << 16).status == net::IoStatus::kError;
  }
  bool failed = false;
  void onWritable() override {}
  void onError(base::Error e) override { error = e.message(); }
};

/// Signed by itself, with an RSA key.
IdentitySource makeRsa() {
  const KeyPtr key(EVP_RSA_gen(2048));
  const CertPtr certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  const BioPtr certificate_out(BIO_new(BIO_s_mem()));
  const BioPtr key_out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate_out.get(), certificate.get());
  PEM_write_bio_PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  IdentitySource out;
  out.certificate_chain_pem = bioText(certificate_out.get());
  out.private_key_pem = bioText(key_out.get());
  return out;
}

/// A list of one certificate, signed by its issuer.
std::string revocationOf(const KeyPair& pair, const KeyPair& issuer) {
  const std::unique_ptr<X509_CRL, Freer<X509_CRL_free>> list(X509_CRL_new());
  const CertPtr certificate = readCertificate(pair.certificate_pem);
  const CertPtr authority = readCertificate(issuer.certificate_pem);
  X509_CRL_set_version(list.get(), 1);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(authority.get()));
  X509_CRL_set1_lastUpdate(list.get(), X509_get0_notBefore(authority.get()));
  X509_CRL_set1_nextUpdate(list.get(), X509_get0_notAfter(authority.get()));
  X509_REVOKED* entry = X509_REVOKED_new();
  X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.get()));
  X509_REVOKED_set_revocationDate(entry,
                                  const_cast<ASN1_TIME*>(X509_get0_notBefore(authority.get())));
  X509_CRL_add0_revoked(list.get(), entry);
  X509_CRL_sign(list.get(), readKey(issuer.private_key_pem).get(), EVP_sha256());
  const BioPtr out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_CRL(out.get(), list.get());
  return bioText(out.get());
}

class Settings : public ::testing::Test {
 protected:
  Settings() {
    CertificateRequest request;
    request.common_name = "server";
    request.dns_names = {"api.test"};
    const KeyPair made = *issue(root, request);
    server_source.certificate_chain_pem = made.certificate_pem;
    server_source.private_key_pem = made.private_key_pem;
  }

  std::shared_ptr<const ServerContext> server(std::shared_ptr<TicketKeys> keys,
                                              const std::string& scope = "") {
    ServerSettings settings;
    settings.identities = {*Identity::load(server_source)};
    settings.tickets = std::move(keys);
    settings.session_scope = scope;
    return *makeServerContext(settings);
  }
  std::shared_ptr<const ClientContext> client(Version newest, std::uint32_t sessions = 1) {
    ClientSettings settings;
    settings.parameters.version_max = newest;
    settings.sessions_max = sessions;
    return *makeClientContext(settings);
  }

  /// Of a server that asks for a certificate.
  std::shared_ptr<const ServerContext> asking(const TrustSource& trust,
                                              std::shared_ptr<TicketKeys> keys = nullptr) {
    ServerSettings settings;
    settings.identities = {*Identity::load(server_source)};
    settings.trust = *Trust::load(trust);
    settings.tickets = std::move(keys);
    return *makeServerContext(settings);
  }
  TrustSource trustingRoot() const {
    TrustSource out;
    out.trusted_ca_pem = root.certificate_pem;
    return out;
  }
  KeyPair clientPair(std::chrono::seconds lifetime = std::chrono::hours(1)) const {
    CertificateRequest request;
    request.common_name = "client";
    request.dns_names = {"client.test"};
    request.lifetime = lifetime;
    return *issue(root, request);
  }
  std::shared_ptr<const ClientContext> showing(const KeyPair& pair, Version newest) {
    IdentitySource source;
    source.certificate_chain_pem = pair.certificate_pem;
    source.private_key_pem = pair.private_key_pem;
    ClientSettings settings;
    settings.identity = *Identity::load(source);
    settings.parameters.version_max = newest;
    settings.sessions_max = 2;  // as many as a server of TLS 1.3 gives
    return *makeClientContext(settings);
  }

  /// One connection; false when it failed.
  bool meet(const std::shared_ptr<const ServerContext>& accepts,
            const std::shared_ptr<const ClientContext>& connects, ConnectOptions options = {}) {
    End near;
    End far;
    AcceptOptions accept_options;
    accept_options.observer = &server_told;
    options.observer = &client_told;
    if (options.server_name.empty()) options.server_name = "api.test";
    if (!acceptor) {
      acceptor = std::make_unique<net::Acceptor>(
          loop, std::move(*net::listenSocket(net::Address::loopback(0))),
          [this](base::Fd fd, const net::Address&) { accepted = std::move(fd); });
    }
    near.transport =
        connectTls(loop, net::connectTransport(loop, acceptor->local()), connects, options);
    near.transport->setObserver(&near);
    for (int i = 0; i < 2000; ++i) {
      loop.runOnce(std::chrono::milliseconds(1));
      if (accepted) {
        far.transport = acceptTls(loop, net::makeSocketTransport(loop, std::move(accepted)),
                                  accepts, accept_options);
        far.transport->setObserver(&far);
        accepted = base::Fd();
      }
      if (!near.error.empty() || near.failed) return false;
      if (!far.error.empty()) continue;  // the client hears of it, too
      // A TLS 1.3 ticket comes with the first bytes of the server.
      if (near.connected && far.connected) {
        base::Buffer hello("hello");
        far.transport->write(hello);
        far.connected = false;
      }
      if (near.in.size() == 5) return true;
    }
    return false;
  }

  event::Loop loop;
  KeyPair root = *makeRoot("root", std::chrono::hours(1));
  IdentitySource server_source;
  std::unique_ptr<net::Acceptor> acceptor;
  base::Fd accepted;
  Told server_told;
  Told client_told;
};

TEST_F(Settings, TicketsResumeInAContextThatReplacesAnother) {
  base::ManualClock clock;
  const auto keys = TicketKeys::rotating(clock);
  for (const Version newest : {Version::k12, Version::k13}) {
    const auto connects = client(newest);
    client_told.reused = 0;
    EXPECT_TRUE(meet(server(keys), connects));
    EXPECT_TRUE(meet(server(keys), connects));  // another context, as after a rotation
    EXPECT_EQ(client_told.reused, 1);
    // Other trust, other scope: the session is not taken.
    EXPECT_TRUE(meet(server(keys, "elsewhere"), connects));
    EXPECT_EQ(client_told.reused, 1);
  }
}

// Each ticket of TLS 1.3 is used once: whoever resumes gets the next one.
TEST_F(Settings, TicketsOfTls13AreRenewedUntilTheHandshakeIsTooLongAgo) {
  const auto keys = TicketKeys::rotating(base::systemClock());
  ServerSettings settings;
  settings.identities = {*Identity::load(server_source)};
  settings.tickets = keys;
  settings.resumption_max = std::chrono::seconds(2);
  const auto accepts = *makeServerContext(settings);
  const auto connects = client(Version::k13);  // keeps one session
  EXPECT_TRUE(meet(accepts, connects));
  EXPECT_TRUE(meet(accepts, connects));
  ::usleep(1'100'000);
  EXPECT_TRUE(meet(accepts, connects));
  EXPECT_EQ(client_told.reused, 2);
  ::usleep(2'000'000);  // three seconds after the handshake, two after the last ticket
  EXPECT_TRUE(meet(accepts, connects));
  EXPECT_EQ(client_told.reused, 2);
  EXPECT_TRUE(meet(accepts, connects));  // that was a handshake
  EXPECT_EQ(client_told.reused, 3);
}

TEST_F(Settings, TicketKeysRotate) {
  base::ManualClock clock;
  const auto keys = TicketKeys::rotating(clock);
  const auto accepts = server(keys);
  const auto connects = client(Version::k12);
  EXPECT_TRUE(meet(accepts, connects));
  clock.advance(TicketKeys::kRotation);
  EXPECT_TRUE(meet(accepts, connects));  // the key before still decrypts
  EXPECT_EQ(client_told.reused, 1);
  clock.advance(TicketKeys::kRotation * 4);
  EXPECT_TRUE(meet(accepts, connects));
  EXPECT_EQ(client_told.reused, 1);
}

TEST_F(Settings, SessionsStayWithTheirNameAndCanBeTurnedOff) {
  const auto keys = TicketKeys::rotating(base::systemClock());
  const auto accepts = server(keys);
  const auto connects = client(Version::k12);
  ConnectOptions other;
  other.server_name = "other.test";
  EXPECT_TRUE(meet(accepts, connects));
  EXPECT_TRUE(meet(accepts, connects, other));
  EXPECT_EQ(client_told.reused, 0);
  EXPECT_TRUE(meet(accepts, connects));
  EXPECT_EQ(client_told.reused, 1);
  const auto never = client(Version::k12, 0);
  EXPECT_TRUE(meet(accepts, never));
  EXPECT_TRUE(meet(accepts, never));
  EXPECT_EQ(client_told.reused, 1);
}

TEST_F(Settings, SessionCacheForgetsTheDestinationUsedLongestAgo) {
  SessionCache cache(2);
  for (std::size_t i = 0; i <= SessionCache::kDestinationsMax; ++i)
    cache.put(std::to_string(i), SessionPtr(SSL_SESSION_new()));
  EXPECT_EQ(cache.take("0"), nullptr);
  EXPECT_NE(cache.take("1"), nullptr);
  for (int i = 0; i < 5; ++i) cache.put("1", SessionPtr(SSL_SESSION_new()));
  EXPECT_NE(cache.take("1"), nullptr);
}

TEST_F(Settings, ARequiredNameIsLookedFor) {
  const auto accepts = server(nullptr);
  ClientSettings settings;
  TrustSource trust;
  trust.trusted_ca_pem = root.certificate_pem;
  settings.trust = *Trust::load(trust);
  const auto connects = *makeClientContext(settings);
  ConnectOptions options;
  options.required_san = "api.test";
  EXPECT_TRUE(meet(accepts, connects, options));
  options.required_san = "evil.test";
  EXPECT_FALSE(meet(accepts, connects, options));
  EXPECT_EQ(client_told.failures, std::vector<Failure>{Failure::kSan});
}

TEST_F(Settings, ARequiredNameStandsInsteadOfThoseOfTheTrust) {
  const auto accepts = server(nullptr);
  ClientSettings settings;
  TrustSource trust = trustingRoot();
  trust.sans.push_back({SanType::kDns, "", "other.test", nullptr, ""});
  settings.trust = *Trust::load(trust);
  const auto connects = *makeClientContext(settings);
  EXPECT_FALSE(meet(accepts, connects));
  ConnectOptions options;
  options.required_san = "api.test";
  EXPECT_TRUE(meet(accepts, connects, options));
}

TEST_F(Settings, WhereANameOrAHashIsAskedForThereMustBeACertificate) {
  TrustSource named = trustingRoot();
  named.sans.push_back({SanType::kDns, "", "client.test", nullptr, ""});
  TrustSource pinned;
  pinned.certificate_hashes = {std::string(64, 'a')};
  TrustSource pinned_key;
  pinned_key.spki_hashes = {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="};
  for (const TrustSource& each : {named, pinned, pinned_key}) {
    for (const Version newest : {Version::k12, Version::k13}) {
      server_told.failures.clear();
      EXPECT_FALSE(meet(asking(each), client(newest)));
      EXPECT_EQ(server_told.failures, std::vector<Failure>{Failure::kNoCertificate});
    }
  }
  EXPECT_TRUE(meet(asking(named), showing(clientPair(), Version::k12)));
  EXPECT_TRUE(meet(asking(trustingRoot()), client(Version::k12)));  // it may show one
  named.accept_untrusted = true;
  EXPECT_TRUE(meet(asking(named), client(Version::k12)));
}

TEST_F(Settings, SessionsOfOtherTrustAreNotResumed) {
  const auto keys = TicketKeys::rotating(base::systemClock());
  const auto matching = [this](const char* prefix, std::optional<std::uint32_t> depth) {
    TrustSource out = trustingRoot();
    out.sans.push_back({SanType::kDns, "", "",
                        [prefix](std::string_view name) { return name.starts_with(prefix); },
                        prefix});
    out.depth_max = depth;
    return out;
  };
  const auto connects = showing(clientPair(), Version::k12);
  EXPECT_TRUE(meet(asking(matching("client", std::nullopt), keys), connects));
  EXPECT_TRUE(meet(asking(matching("client", std::nullopt), keys), connects));
  EXPECT_EQ(client_told.reused, 1);
  EXPECT_FALSE(meet(asking(matching("server", std::nullopt), keys), connects));
  EXPECT_FALSE(meet(asking(matching("client", 0), keys), connects));
  EXPECT_EQ(client_told.reused, 1);
}

TEST_F(Settings, SessionsEndWithTheCertificateTheyBeganWith) {
  constexpr std::chrono::seconds kLifetime{3};
  const auto keys = TicketKeys::rotating(base::systemClock());
  const KeyPair pair = clientPair(kLifetime);
  TrustSource lenient = trustingRoot();
  lenient.allow_expired = true;
  const KeyPair short_lived = clientPair(kLifetime);  // a server's
  struct Way {
    const char* name;
    std::shared_ptr<const ServerContext> accepts;
    std::shared_ptr<const ClientContext> connects;
    bool after;
  };
  ClientSettings verifying;
  verifying.trust = *Trust::load(trustingRoot());
  server_source.certificate_chain_pem = short_lived.certificate_pem;
  server_source.private_key_pem = short_lived.private_key_pem;
  const auto outdated = server(keys);
  const Way ways[] = {
      {"ticket", asking(trustingRoot(), keys), showing(pair, Version::k12), false},
      {"ticket of 1.3", asking(trustingRoot(), keys), showing(pair, Version::k13), false},
      {"kept", asking(trustingRoot()), showing(pair, Version::k12), false},
      {"any time", asking(lenient, keys), showing(pair, Version::k13), true},
      {"of the server", outdated, *makeClientContext(verifying), false},
  };
  for (int time = 0; time < 2; ++time) {
    for (const Way& way : ways) EXPECT_TRUE(meet(way.accepts, way.connects)) << way.name;
  }
  EXPECT_EQ(client_told.reused, 5);
  const auto over = std::chrono::steady_clock::now() + kLifetime;
  while (std::chrono::steady_clock::now() < over) loop.runOnce(std::chrono::milliseconds(50));
  for (const Way& way : ways) EXPECT_EQ(meet(way.accepts, way.connects), way.after) << way.name;
}

TEST_F(Settings, WhatIsTrustedNeedNotBeARoot) {
  const KeyPair pair = clientPair();
  TrustSource trust;
  trust.trusted_ca_pem = pair.certificate_pem;
  EXPECT_TRUE(meet(asking(trust), showing(pair, Version::k12)));
  EXPECT_FALSE(meet(asking(trust), showing(clientPair(), Version::k12)));
}

TEST_F(Settings, RevocationsAmongTheAuthoritiesCount) {
  const KeyPair revoked = clientPair();
  TrustSource trust = trustingRoot();
  trust.trusted_ca_pem += revocationOf(revoked, root);
  EXPECT_TRUE(meet(asking(trust), showing(clientPair(), Version::k12)));
  EXPECT_FALSE(meet(asking(trust), showing(revoked, Version::k12)));
  EXPECT_EQ(server_told.failures, std::vector<Failure>{Failure::kUntrusted});
}

// The server of TLS 1.3 says what it thinks of the client only when the client is through.
TEST_F(Settings, ARefusalAfterTheHandshakeIsCountedOnce) {
  ServerSettings settings;
  settings.identities = {*Identity::load(server_source)};
  settings.trust = *Trust::load(trustingRoot());
  settings.require_client_certificate = true;
  EXPECT_FALSE(meet(*makeServerContext(settings), client(Version::k13)));
  EXPECT_EQ(client_told.handshakes, 1);
  EXPECT_EQ(client_told.failures, std::vector<Failure>{Failure::kProtocol});
}

TEST_F(Settings, TheCertificateIsOneThatTheCiphersOfTheClientCanUse) {
  ServerSettings settings;
  settings.identities = {*Identity::load(server_source), *Identity::load(makeRsa())};
  settings.full_scan_on_sni_mismatch = true;  // the RSA certificate has no name
  const auto accepts = *makeServerContext(settings);
  ClientSettings old;
  old.parameters.version_max = Version::k12;
  for (const char* cipher : {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"}) {
    old.parameters.ciphers = {cipher};
    EXPECT_TRUE(meet(accepts, *makeClientContext(old))) << cipher;
    EXPECT_EQ(server_told.cipher, cipher);
  }
  // In TLS 1.3 no cipher is tied to a kind of key.
  ClientSettings newer;
  newer.parameters.version_max = Version::k13;
  newer.parameters.ciphers = {"ECDHE-RSA-AES128-GCM-SHA256"};
  EXPECT_TRUE(meet(accepts, *makeClientContext(newer)));
  EXPECT_TRUE(server_told.cipher.starts_with("TLS_")) << server_told.cipher;
}

TEST_F(Settings, ErrorsNameTheField) {
  TrustSource trust;
  trust.sans.push_back({SanType::kDns, "", "a", nullptr, ""});
  EXPECT_EQ(Trust::load(trust).error().path, "match_typed_subject_alt_names");
  trust = {};
  trust.certificate_hashes = {"abcd"};
  EXPECT_EQ(Trust::load(trust).error().path, "verify_certificate_hash[0]");
  trust = {};
  trust.trusted_ca_pem = root.certificate_pem;
  trust.crl_pem = "nothing";
  EXPECT_EQ(Trust::load(trust).error().path, "crl");
  EXPECT_EQ(TicketKeys::fixed({std::string(79, 'k')}).error().path, "keys[0]");
  IdentitySource source = server_source;
  source.private_key_pem = *makePrivateKey();
  EXPECT_EQ(Identity::load(source).error().path, "private_key");
  source = server_source;
  source.ocsp_staple = "no DER";
  EXPECT_EQ(Identity::load(source).error().path, "ocsp_staple");
  ServerSettings settings;
  EXPECT_EQ(makeServerContext(settings).error().path, "tls_certificates");
  settings.identities = {*Identity::load(server_source)};
  settings.parameters.ciphers = {"ECDHE-ECDSA-AES128-GCM-SHA256", "NONSENSE"};
  EXPECT_EQ(makeServerContext(settings).error().path, "tls_params.cipher_suites");
  settings.parameters.ciphers.clear();
  settings.parameters.version_min = Version::k13;
  settings.parameters.version_max = Version::k12;
  EXPECT_EQ(makeServerContext(settings).error().path, "tls_params.tls_minimum_protocol_version");
  settings.parameters = {};
  settings.staple_policy = StaplePolicy::kMust;
  EXPECT_EQ(makeServerContext(settings).error().path, "ocsp_staple");
}

}  // namespace
}  // namespace postern::tls
