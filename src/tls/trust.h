// What peers' certificates are checked against. Only for .cc files of this folder.
#pragma once

#include "tls/openssl_handles.h"
#include "tls/settings.h"

#include <optional>
#include <set>
#include <string>

namespace postern::tls {

class SessionCache;

/// The facts of one handshake, shared by the callbacks of OpenSSL and the transport.
struct HandshakeState {
  HandshakeObserver* observer = nullptr;
  std::string required_san;
  Failure failure = Failure::kProtocol;
  std::string detail;  // of a verification that failed
  bool validated = false;
  bool staple_asked = false;
  bool enforce_rsa_key_usage = false;
  SessionCache* sessions = nullptr;  // client: where new ones go
  std::string session_key;           // destination and name
  /// Attached to the SSL object.
  static HandshakeState* of(const SSL* ssl);
  static void attach(SSL* ssl, HandshakeState* state);
};

class LoadedTrust final : public Trust {
 public:
  TrustSource source;                        // without the PEM texts
  StorePtr store;                            // null: the chain is not verified
  std::set<std::string> certificate_hashes;  // raw
  std::set<std::string> spki_hashes;
  std::string fingerprint;  // equal for equal sources
  std::optional<net::CertificateInfo> first_authority;

  const net::CertificateInfo* authority() const override {
    return first_authority ? &*first_authority : nullptr;
  }
  const std::string& origin() const override { return source.origin; }
  /// True when a certificate of the peer is asked for at all.
  bool asks() const {
    return store != nullptr || !certificate_hashes.empty() || !spki_hashes.empty() ||
           !source.sans.empty() || source.accept_untrusted;
  }
  /// True when a client without a certificate cannot be what was asked for.
  bool needsCertificate() const {
    return !source.accept_untrusted &&
           (!certificate_hashes.empty() || !spki_hashes.empty() || !source.sans.empty());
  }
  /// True when what a certificate vouches for ends with its time.
  bool endsWithCertificate() const {
    return store != nullptr && !source.allow_expired && !source.accept_untrusted;
  }
  /// False when the certificate a session began with is out of its time by now. OpenSSL does not
  /// look at it again, and the session holds no chain that could be verified anew.
  bool stillVouches(const SSL_SESSION* session) const;
  /// Checks the names and hashes; sets the state's failure and detail.
  bool accepts(X509* leaf, HandshakeState& state) const;
};

/// Makes the context verify peers; `trust` (may be null) outlives it.
void useTrust(SSL_CTX* ctx, const LoadedTrust* trust, int mode);

}  // namespace postern::tls
