// What a TLS context is made of, in full: identities, trust, protocol parameters, tickets, and who
// is told how a handshake went. For those who configure TLS field by field (the proxy); others use
// the short options of tls/tls.h. Values are built on one thread and then immutable, shared by any.
#pragma once

#include "base/clock.h"
#include "base/error.h"
#include "tls/tls.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::tls {

enum class Version : unsigned char { kAuto, k10, k11, k12, k13 };

/// Empty lists take the defaults of this folder.
struct Parameters {
  Version version_min = Version::kAuto;
  Version version_max = Version::kAuto;
  std::vector<std::string> ciphers;  // of TLS 1.2 and below; "[A|B]" is a group of equals
  std::vector<std::string> groups;   // "X25519", "P-256"
  std::vector<std::string> signature_algorithms;
};

/// A certificate with its key, as PEM; or both in a PKCS#12 store.
struct IdentitySource {
  std::string certificate_chain_pem;
  std::string private_key_pem;
  std::string password;     // of the key or the store
  std::string pkcs12;       // DER
  std::string ocsp_staple;  // DER; empty: none
  std::string origin;       // where the chain was read, for those who list certificates
};

/// From when until when something holds, in seconds since 1970; 0: not said.
struct Validity {
  std::int64_t from = 0;
  std::int64_t until = 0;
};

/// A certificate and its key, loaded and checked. Opaque.
class Identity {
 public:
  virtual ~Identity() = default;
  /// Errors name the field of IdentitySource as Envoy spells it ("certificate_chain").
  static base::ConfigResult<std::shared_ptr<const Identity>> load(const IdentitySource& source);
  /// As the proxy shows it in logs: the certificate of our own side.
  virtual const net::CertificateInfo& info() const = 0;
  /// IdentitySource::origin.
  virtual const std::string& origin() const = 0;
  /// Of its OCSP staple; none: there is no staple.
  virtual std::optional<Validity> staple() const = 0;
};

enum class SanType : unsigned char { kEmail, kDns, kUri, kIp, kOther };

/// Accepts a certificate by one of its subject alternative names.
struct SanMatcher {
  SanType type = SanType::kDns;
  std::string oid;    // kOther
  std::string exact;  // not empty: equal to this; a DNS name of the certificate may be a wildcard
  std::function<bool(std::string_view)> matches;  // else; handshakes only, never per request
  std::string pattern;  // what `matches` looks for: others' sessions are not resumed
};

struct TrustSource {
  std::string trusted_ca_pem;
  std::string origin;  // where that was read
  bool system_roots = false;
  std::string crl_pem;
  std::vector<std::string> certificate_hashes;  // SHA-256 in hex, colons allowed
  std::vector<std::string> spki_hashes;         // SHA-256 in base64
  std::vector<SanMatcher> sans;                 // one of them must match; empty: any name
  bool allow_expired = false;
  bool accept_untrusted = false;  // everything is let in, and known as not validated
  bool crl_of_leaf_only = false;
  std::optional<std::uint32_t> depth_max;
  bool announce_authorities = true;  // server: the names of the authorities go to the client
};

/// What a peer's certificate is checked against, loaded. Opaque.
class Trust {
 public:
  virtual ~Trust() = default;
  /// The first certificate of trusted_ca; null: there is none.
  virtual const net::CertificateInfo* authority() const = 0;
  /// TrustSource::origin.
  virtual const std::string& origin() const = 0;
  static base::ConfigResult<std::shared_ptr<const Trust>> load(const TrustSource& source);
};

/// Keys that encrypt session tickets: the first one encrypts, all decrypt. Any thread.
class TicketKeys {
 public:
  static constexpr std::size_t kKeyBytes = 80;  // name 16, HMAC 32, AES 32
  static constexpr auto kRotation = std::chrono::hours(24);
  virtual ~TicketKeys() = default;
  /// Given keys of 80 bytes each.
  static base::ConfigResult<std::shared_ptr<TicketKeys>> fixed(
      const std::vector<std::string>& keys);
  /// Random ones, replaced after kRotation; the one before still decrypts.
  static std::shared_ptr<TicketKeys> rotating(const base::Clock& clock);
};

enum class StaplePolicy : unsigned char { kLenient, kStrict, kMust };

struct ServerSettings {
  Parameters parameters;
  std::vector<std::shared_ptr<const Identity>> identities;  // the first is the default
  std::shared_ptr<const Trust> trust;  // null: no client certificate is asked for
  bool require_client_certificate = false;
  bool require_sni = false;
  std::vector<std::string> alpn;        // in order of preference
  std::shared_ptr<TicketKeys> tickets;  // null: no tickets
  bool session_ids = true;              // TLS 1.2 sessions kept here
  std::chrono::seconds session_timeout{7200};
  /// After the full handshake it began with no session is resumed, however often its tickets were
  /// renewed (RFC 8446 4.6.1).
  std::chrono::seconds resumption_max{std::chrono::hours(7 * 24)};
  StaplePolicy staple_policy = StaplePolicy::kLenient;
  bool full_scan_on_sni_mismatch = false;
  bool prefer_client_ciphers = false;
  /// Equal for contexts that may resume each other's sessions: everything trust depends on.
  std::string session_scope;
};
base::ConfigResult<std::shared_ptr<const ServerContext>> makeServerContext(
    const ServerSettings& settings);

struct ClientSettings {
  Parameters parameters;
  std::shared_ptr<const Identity> identity;  // null: none
  std::shared_ptr<const Trust> trust;        // null: any certificate is accepted
  bool verify_name = false;        // ConnectOptions::server_name must be in the certificate
  std::vector<std::string> alpn;   // empty: what ConnectOptions offers
  std::uint32_t sessions_max = 1;  // kept per destination and name; 0: none
  bool enforce_rsa_key_usage = true;
};
base::ConfigResult<std::shared_ptr<const ClientContext>> makeClientContext(
    const ClientSettings& settings);

// ---- how handshakes went ----

enum class Failure : unsigned char {
  kProtocol,       // a TLS error that is none of the others
  kNoCertificate,  // the client gave none and had to
  kUntrusted,      // the chain does not verify
  kSan,
  kHash,
  kClosed,  // by the peer, or below
  kTimeout,
};

struct HandshakeReport {
  std::string_view version;    // "TLSv1.3"
  std::string_view cipher;     // "TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"
  std::string_view group;      // "X25519"; empty: none
  std::string_view signature;  // of the peer, "ecdsa_secp256r1_sha256"; empty: none
  bool resumed = false;
  bool peer_certificate = false;
};

enum class Staple : unsigned char { kRequested, kSent, kOmitted, kFailed };

/// Told about handshakes of one place (a listener, a cluster) on one thread; outlives them.
class HandshakeObserver {
 public:
  virtual ~HandshakeObserver() = default;
  virtual void onHandshake(const HandshakeReport& report) = 0;
  virtual void onFailure(Failure failure) = 0;
  /// A chain that does not verify, let in all the same.
  virtual void onUntrusted() {}
  virtual void onStaple(Staple) {}
  /// A key usage that would have been refused were it enforced.
  virtual void onBadKeyUsage() {}
};

struct AcceptOptions {
  HandshakeObserver* observer = nullptr;
  base::Duration handshake_timeout{};  // 0: none
};
std::unique_ptr<net::Transport> acceptTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                          std::shared_ptr<const ServerContext> context,
                                          const AcceptOptions& options);

struct ConnectOptions {
  std::string server_name;        // sent as SNI; empty: none
  std::string required_san;       // a DNS name (or IP) the certificate must have; empty: none
  std::vector<std::string> alpn;  // offered when the context names none
  HandshakeObserver* observer = nullptr;
};
std::unique_ptr<net::Transport> connectTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                           std::shared_ptr<const ClientContext> context,
                                           const ConnectOptions& options);
/// Instead of connectTls where the context is not there yet: fails in a later turn.
std::unique_ptr<net::Transport> notReady(event::Loop& loop, std::unique_ptr<net::Transport> inner);

}  // namespace postern::tls
