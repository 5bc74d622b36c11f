// The OpenSSL side of the contexts declared in tls/tls.h. Only for .cc files of this folder.
#pragma once

#include "tls/identity.h"
#include "tls/openssl_handles.h"
#include "tls/settings.h"
#include "tls/trust.h"

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace postern::tls {

class OpensslServerContext final : public ServerContext {
 public:
  struct Certificate {
    CtxPtr ctx;
    std::shared_ptr<const LoadedIdentity> identity;
  };
  ServerSettings settings;
  std::vector<Certificate> certificates;  // all contexts alike but for the certificate
  std::shared_ptr<const LoadedTrust> trust;
  std::string alpn;  // wire form, in order of preference

  SSL_CTX* ctx() const { return certificates.front().ctx.get(); }
  /// The certificate the connection uses.
  const LoadedIdentity* identityOf(const SSL* ssl) const;
  static const OpensslServerContext* of(const SSL* ssl);
};

/// Sessions of one client context: resumed only towards the same destination under the same name.
class SessionCache {
 public:
  static constexpr std::size_t kDestinationsMax = 1024;
  explicit SessionCache(std::uint32_t sessions_max) : sessions_max_(sessions_max) {}
  void put(const std::string& key, SessionPtr session);
  /// Null when there is none. A TLS 1.3 session is given once.
  SessionPtr take(const std::string& key);

 private:
  struct Entry {
    std::string key;
    std::list<SessionPtr> sessions;  // newest first
  };
  const std::uint32_t sessions_max_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // used last first
  std::map<std::string, std::list<Entry>::iterator> index_;
};

class OpensslClientContext final : public ClientContext {
 public:
  explicit OpensslClientContext(const ClientSettings& given)
      : settings(given), sessions(given.sessions_max) {}
  ClientSettings settings;
  CtxPtr ctx;
  std::shared_ptr<const LoadedIdentity> identity;
  std::shared_ptr<const LoadedTrust> trust;
  std::string alpn;               // wire form
  mutable SessionCache sessions;  // guards itself

  bool verifies() const { return trust != nullptr && trust->asks(); }
};

enum class Side : unsigned char { kServer, kClient };

/// The options both sides share, and the protocol parameters. Errors name fields of TlsParameters,
/// below "tls_params".
base::ConfigResult<void> applyParameters(SSL_CTX* ctx, const Parameters& parameters, Side side);
/// Length-prefixed, as TLS sends it (RFC 7301 3.1).
base::ConfigResult<std::string> alpnWire(const std::vector<std::string>& protocols);
std::string_view groupName(SSL* ssl);
std::string_view peerSignatureName(SSL* ssl);
/// Envoy's text for what is in OpenSSL's error queue, which it empties: "TLS_error:|268435581:SSL
/// routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:…:TLS_error_end". Of a bounded set, kept for
/// ever. `handled` is set when a reason has a failure of its own.
const char* failureText(HandshakeState* state);

}  // namespace postern::tls
