// A TLS transport socket of a filter chain or a cluster: what was configured, and the context made
// of it and of its secrets. Built and rebuilt on the main thread; workers take the current context
// for each new connection, so that a certificate is exchanged without touching connections or
// pools.
#pragma once

#include "base/error.h"
#include "base/published.h"
#include "tls/settings.h"

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace envoy::config::core::v3 {
class TransportSocket;
}
namespace envoy::extensions::transport_sockets::tls::v3 {
class CertificateValidationContext;
class CommonTlsContext;
class Secret;
}  // namespace envoy::extensions::transport_sockets::tls::v3

namespace postern::proxy {

class Place;

enum class SecretKind : unsigned char { kCertificate, kValidation, kTickets };

/// Where a socket names a secret.
struct SecretUse {
  enum class From : unsigned char { kBootstrap, kAds, kFile };
  std::string name;
  SecretKind kind = SecretKind::kCertificate;
  From from = From::kBootstrap;
  std::string file;       // kFile
  std::string directory;  // kFile: what is watched; empty: the file's own
  std::chrono::milliseconds timeout{15000};
  std::string path;  // of the field that names it
};

/// The secrets there are. Main thread.
class SecretSource {
 public:
  virtual ~SecretSource() = default;
  /// Null: not there (yet).
  virtual const envoy::extensions::transport_sockets::tls::v3::Secret* find(
      const SecretUse& use) const = 0;
  /// The keys of sockets that configure none; one set for the process.
  virtual std::shared_ptr<tls::TicketKeys> tickets() const = 0;
};

/// What a context was made of, for those who list certificates.
struct TlsCertificates {
  std::vector<std::shared_ptr<const tls::Identity>> chains;
  std::shared_ptr<const tls::Trust> trust;  // null: none
};

class TlsSocket {
 public:
  virtual ~TlsSocket() = default;

  // ---- any thread ----
  /// Null until the secrets are there. Of a filter chain.
  std::shared_ptr<const tls::ServerContext> server() const { return server_.get(); }
  /// Of a cluster.
  std::shared_ptr<const tls::ClientContext> client() const { return client_.get(); }
  /// The name to ask a host for, by the name the host has ("": none).
  const std::string& serverName(const std::string& hostname) const {
    return sni_of_host_ && !hostname.empty() ? hostname : sni_;
  }
  /// What the certificate must be for, then; empty: whatever the context trusts.
  std::string requiredSan(const std::string& hostname) const {
    return san_of_sni_ ? serverName(hostname) : "";
  }
  bool sniOfHost() const { return sni_of_host_; }

  // ---- main thread ----
  const std::vector<SecretUse>& secrets() const { return secrets_; }
  /// What to watch for files that this socket names itself.
  const std::set<std::string>& directories() const { return directories_; }
  /// Makes the context anew. Without effect while a discovered secret is missing; after an error
  /// the one before stays.
  virtual base::ConfigResult<void> build(const SecretSource& source) = 0;
  /// None while there is no context.
  const std::optional<TlsCertificates>& certificates() const { return certificates_; }

 protected:
  base::Published<tls::ServerContext> server_;
  base::Published<tls::ClientContext> client_;
  std::string sni_;
  bool sni_of_host_ = false;
  bool san_of_sni_ = false;
  std::vector<SecretUse> secrets_;
  std::set<std::string> directories_;
  std::optional<TlsCertificates> certificates_;
};

/// Null for a raw buffer. `server_names` are those the filter chain matches: sessions of other
/// names are not resumed.
base::ConfigResult<std::shared_ptr<TlsSocket>> readDownstreamSocket(
    const envoy::config::core::v3::TransportSocket& message, std::string_view path,
    const std::vector<std::string>& server_names);
base::ConfigResult<std::shared_ptr<TlsSocket>> readUpstreamSocket(
    const envoy::config::core::v3::TransportSocket& message, std::string_view path);

/// Checks a secret as it came, and what its files hold now.
base::ConfigResult<void> checkSecret(
    const envoy::extensions::transport_sockets::tls::v3::Secret& message, std::string_view path);
/// The directories of the files a secret names.
std::set<std::string> secretDirectories(
    const envoy::extensions::transport_sockets::tls::v3::Secret& message);

}  // namespace postern::proxy
