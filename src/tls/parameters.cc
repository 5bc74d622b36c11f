// Protocol versions, ciphers, groups, signature algorithms: names as Envoy writes them.
#include "base/strings.h"
#include "tls/context.h"

#include <algorithm>

namespace postern::tls {
namespace {

constexpr const char* kCiphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
constexpr const char* kGroups = "X25519:P-256";
/// A certificate chain a peer may send, in bytes.
constexpr long kPeerChainBytesMax = 100 * 1024;

int versionNumber(Version version, int automatic) {
  switch (version) {
    case Version::kAuto:
      return automatic;
    case Version::k10:
      return TLS1_VERSION;
    case Version::k11:
      return TLS1_1_VERSION;
    case Version::k12:
      return TLS1_2_VERSION;
    case Version::k13:
      return TLS1_3_VERSION;
  }
  return automatic;
}

/// "[A|B]:C" and lists of those: OpenSSL knows no groups of equals, their order is a preference.
std::string cipherList(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) {
    if (!out.empty()) out += ':';
    for (const char c : name) {
      if (c == '[' || c == ']') continue;
      out += c == '|' ? ':' : c;
    }
  }
  return out;
}

base::ConfigResult<void> applyCiphers(SSL_CTX* ctx, const std::vector<std::string>& names) {
  if (names.empty()) {
    SSL_CTX_set_cipher_list(ctx, kCiphers);
    return {};
  }
  const std::string list = cipherList(names);
  std::string bad;
  // OpenSSL takes a list of which only some are known; a name that means nothing is refused.
  for (const std::string_view each : base::split(list, ':')) {
    if (each.empty() || each.front() == '!' || each.front() == '-' || each.front() == '+') continue;
    if (SSL_CTX_set_cipher_list(ctx, std::string(each).c_str()) == 1) continue;
    bad += bad.empty() ? "" : ", ";
    bad += each;
  }
  ERR_clear_error();
  if (bad.empty() && SSL_CTX_set_cipher_list(ctx, list.c_str()) == 1) return {};
  ERR_clear_error();
  return base::failConfig(
      "tls_params.cipher_suites",
      "Failed to initialize cipher suites " + list +
          ". The following ciphers were rejected when tried individually: " + bad);
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ":") + name;
  return out;
}

struct Named {
  int nid;
  std::string_view name;
};
constexpr Named kGroupNames[] = {{NID_X25519, "X25519"},
                                 {NID_X9_62_prime256v1, "P-256"},
                                 {NID_secp384r1, "P-384"},
                                 {NID_secp521r1, "P-521"},
                                 {NID_X448, "X448"}};

struct Signature {
  int type;
  int hash;
  std::string_view name;
};
constexpr Signature kSignatures[] = {{EVP_PKEY_RSA, NID_sha1, "rsa_pkcs1_sha1"},
                                     {EVP_PKEY_RSA, NID_sha256, "rsa_pkcs1_sha256"},
                                     {EVP_PKEY_RSA, NID_sha384, "rsa_pkcs1_sha384"},
                                     {EVP_PKEY_RSA, NID_sha512, "rsa_pkcs1_sha512"},
                                     {EVP_PKEY_RSA_PSS, NID_sha256, "rsa_pss_rsae_sha256"},
                                     {EVP_PKEY_RSA_PSS, NID_sha384, "rsa_pss_rsae_sha384"},
                                     {EVP_PKEY_RSA_PSS, NID_sha512, "rsa_pss_rsae_sha512"},
                                     {EVP_PKEY_EC, NID_sha256, "ecdsa_secp256r1_sha256"},
                                     {EVP_PKEY_EC, NID_sha384, "ecdsa_secp384r1_sha384"},
                                     {EVP_PKEY_EC, NID_sha512, "ecdsa_secp521r1_sha512"},
                                     {EVP_PKEY_ED25519, NID_undef, "ed25519"}};

}  // namespace

base::ConfigResult<void> applyParameters(SSL_CTX* ctx, const Parameters& parameters, Side side) {
  // Envoy's defaults: clients stay at 1.2 unless told otherwise.
  const int newest = side == Side::kServer ? TLS1_3_VERSION : TLS1_2_VERSION;
  const int low = versionNumber(parameters.version_min, TLS1_2_VERSION);
  const int high = std::max(versionNumber(parameters.version_max, newest), 0);
  if (low > high) {
    return base::failConfig("tls_params.tls_minimum_protocol_version",
                            "is above tls_maximum_protocol_version");
  }
  SSL_CTX_set_min_proto_version(ctx, low);
  SSL_CTX_set_max_proto_version(ctx, high);
  // TLS 1.0 and 1.1 sign with SHA-1, which OpenSSL allows on its lowest level only.
  SSL_CTX_set_security_level(ctx, low < TLS1_2_VERSION ? 0 : 1);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_SSLv3);
  SSL_CTX_set_max_cert_list(ctx, kPeerChainBytesMax);
  POSTERN_TRY_VOID(applyCiphers(ctx, parameters.ciphers));
  const std::string groups = parameters.groups.empty() ? kGroups : joined(parameters.groups);
  if (SSL_CTX_set1_groups_list(ctx, groups.c_str()) != 1) {
    ERR_clear_error();
    return base::failConfig("tls_params.ecdh_curves", "Failed to initialize ECDH curves " + groups);
  }
  if (parameters.signature_algorithms.empty()) return {};
  const std::string algorithms = joined(parameters.signature_algorithms);
  if (SSL_CTX_set1_sigalgs_list(ctx, algorithms.c_str()) != 1) {
    ERR_clear_error();
    return base::failConfig("tls_params.signature_algorithms",
                            "Failed to initialize TLS signature algorithms " + algorithms);
  }
  return {};
}

base::ConfigResult<std::string> alpnWire(const std::vector<std::string>& protocols) {
  constexpr std::size_t kNameBytesMax = 255;
  constexpr std::size_t kListBytesMax = 65535;
  std::string out;
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > kNameBytesMax)
      return base::failConfig("alpn_protocols", "Invalid ALPN protocol string");
    out.push_back(static_cast<char>(protocol.size()));
    out += protocol;
  }
  if (out.size() > kListBytesMax)
    return base::failConfig("alpn_protocols", "Invalid ALPN protocol string");
  return out;
}

std::string_view groupName(SSL* ssl) {
  const int nid = static_cast<int>(SSL_get_negotiated_group(ssl));
  for (const Named& each : kGroupNames) {
    if (each.nid == nid) return each.name;
  }
  return "";
}

std::string_view peerSignatureName(SSL* ssl) {
  int type = NID_undef;
  int hash = NID_undef;
  if (SSL_get_peer_signature_type_nid(ssl, &type) != 1) return "";
  SSL_get_peer_signature_nid(ssl, &hash);
  for (const Signature& each : kSignatures) {
    if (each.type == type && (each.hash == hash || each.hash == NID_undef)) return each.name;
  }
  return "";
}

}  // namespace postern::tls
