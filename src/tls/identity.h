// A loaded certificate with its key. Only for .cc files of this folder.
#pragma once

#include "tls/openssl_handles.h"
#include "tls/settings.h"

#include <string>
#include <vector>

namespace postern::tls {

class LoadedIdentity final : public Identity {
 public:
  enum class KeyType : unsigned char { kRsa, kEc, kOther };
  CertPtr leaf;
  std::vector<CertPtr> chain;  // without the leaf
  KeyPtr key;
  KeyType type = KeyType::kOther;
  int curve = 0;                   // NID, of kEc
  std::vector<std::string> names;  // lower case: DNS names, or else the common name
  std::string ocsp;                // DER; empty: none
  Validity ocsp_validity;
  bool must_staple = false;
  net::CertificateInfo described;
  std::string read_from;

  const net::CertificateInfo& info() const override { return described; }
  const std::string& origin() const override { return read_from; }
  std::optional<Validity> staple() const override {
    return ocsp.empty() ? std::nullopt : std::optional(ocsp_validity);
  }
  bool stapleValid() const;
};

/// Gives the context this identity (as its certificate of that key type).
base::ConfigResult<void> useIdentity(SSL_CTX* ctx, const LoadedIdentity& identity);

}  // namespace postern::tls
