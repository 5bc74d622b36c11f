// Keys and certificates: a small certificate authority (local cluster, mesh CA), fingerprints,
// digests, random bytes.
#pragma once

#include "base/error.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace postern::tls {

struct KeyPair {
  std::string certificate_pem;
  std::string private_key_pem;  // PKCS#8
};

struct CertificateRequest {
  std::string common_name;
  std::vector<std::string> organizations;
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;
  std::vector<std::string> uris;  // SPIFFE identities
  std::chrono::seconds lifetime{std::chrono::hours(24 * 365)};
  bool client = true;
  bool server = true;
};

/// A self-signed P-256 root.
base::Result<KeyPair> makeRoot(std::string_view common_name, std::chrono::seconds lifetime);
/// A P-256 key with a certificate signed by `issuer`.
base::Result<KeyPair> issue(const KeyPair& issuer, const CertificateRequest& request);

/// A bare PKCS#8 P-256 key (service-account token signing) and its public half as PEM.
base::Result<std::string> makePrivateKey();
base::Result<std::string> publicKeyOf(std::string_view private_key_pem);
/// ES256 (RFC 7518): raw 64-byte r||s over SHA-256.
base::Result<std::string> signEs256(std::string_view private_key_pem, std::string_view message);
bool verifyEs256(std::string_view public_key_pem, std::string_view message,
                 std::string_view signature);

std::string sha256(std::string_view bytes);  // 32 raw bytes
std::string sha512(std::string_view bytes);  // 64 raw bytes
std::string sha1(std::string_view bytes);    // 20 raw bytes (WebSocket accept only)
std::string randomBytes(std::size_t count);

}  // namespace postern::tls
