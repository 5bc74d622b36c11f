#include "tls/x509.h"

#include "base/check.h"
#include "tls/openssl_handles.h"

#include <openssl/ecdsa.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

namespace postern::tls {
namespace {

using NamePtr = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;
using SigPtr = std::unique_ptr<ECDSA_SIG, Freer<ECDSA_SIG_free>>;

constexpr int kCoordinateBytes = 32;  // P-256

base::Error opensslError(const char* text) { return {base::Errc::kInternal, text}; }

KeyPtr newKey() { return KeyPtr(EVP_EC_gen("P-256")); }

std::string keyPem(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return bioText(bio.get());
}

std::string certPem(X509* cert) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), cert);
  return bioText(bio.get());
}

void addName(X509_NAME* name, const char* field, std::string_view value) {
  X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(value.data()),
                             static_cast<int>(value.size()), -1, 0);
}

bool addExtension(X509* cert, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, cert, nullptr, nullptr, 0);
  NamePtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr && X509_add_ext(cert, extension.get(), -1) == 1;
}

void setCommon(X509* cert, EVP_PKEY* key, std::chrono::seconds lifetime) {
  X509_set_version(cert, X509_VERSION_3);
  std::string serial = randomBytes(16);
  serial[0] = static_cast<char>(serial[0] & 0x7f);
  BIGNUM* number = BN_bin2bn(reinterpret_cast<const unsigned char*>(serial.data()), 16, nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
  BN_free(number);
  // Five minutes back: clocks of peers differ.
  X509_gmtime_adj(X509_getm_notBefore(cert), -300);
  X509_gmtime_adj(X509_getm_notAfter(cert), static_cast<long>(lifetime.count()));
  X509_set_pubkey(cert, key);
}

/// Names go into a configuration string: only plain characters may pass.
bool plain(std::string_view text) {
  for (char c : text) {
    if (c <= ' ' || c == ',' || c == '"' || c == '\\' || c == '\x7f') return false;
  }
  return !text.empty();
}

base::Result<std::string> subjectAltNames(const CertificateRequest& request) {
  std::string out;
  auto add = [&out](const char* kind, const std::string& value) {
    if (!plain(value)) return false;
    out += (out.empty() ? "" : ",") + std::string(kind) + ":" + value;
    return true;
  };
  for (const auto& name : request.dns_names) {
    if (!add("DNS", name))
      return base::fail(base::Errc::kInvalidArgument, "bad DNS name in certificate request");
  }
  for (const auto& ip : request.ip_addresses) {
    if (!add("IP", ip))
      return base::fail(base::Errc::kInvalidArgument, "bad IP in certificate request");
  }
  for (const auto& uri : request.uris) {
    if (!add("URI", uri))
      return base::fail(base::Errc::kInvalidArgument, "bad URI in certificate request");
  }
  return out;
}

template <class Hash>
std::string digest(Hash hash, std::size_t size, std::string_view bytes) {
  std::string out(size, '\0');
  hash(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
       reinterpret_cast<unsigned char*>(out.data()));
  return out;
}

}  // namespace

base::Result<KeyPair> makeRoot(std::string_view common_name, std::chrono::seconds lifetime) {
  KeyPtr key = newKey();
  CertPtr cert(X509_new());
  if (!key || !cert) return std::unexpected(opensslError("key generation failed"));
  setCommon(cert.get(), key.get(), lifetime);
  addName(X509_get_subject_name(cert.get()), "CN", common_name);
  X509_set_issuer_name(cert.get(), X509_get_subject_name(cert.get()));
  bool ok = addExtension(cert.get(), cert.get(), NID_basic_constraints, "critical,CA:TRUE") &&
            addExtension(cert.get(), cert.get(), NID_key_usage,
                         "critical,keyCertSign,cRLSign,digitalSignature") &&
            addExtension(cert.get(), cert.get(), NID_subject_key_identifier, "hash");
  if (!ok || X509_sign(cert.get(), key.get(), EVP_sha256()) == 0) {
    return std::unexpected(opensslError("signing the root failed"));
  }
  return KeyPair{certPem(cert.get()), keyPem(key.get())};
}

base::Result<KeyPair> issue(const KeyPair& issuer, const CertificateRequest& request) {
  CertPtr ca = readCertificate(issuer.certificate_pem);
  KeyPtr ca_key = readKey(issuer.private_key_pem);
  if (!ca || !ca_key) return base::fail(base::Errc::kParse, "bad issuer certificate or key");
  POSTERN_TRY(std::string names, subjectAltNames(request));
  KeyPtr key = newKey();
  CertPtr cert(X509_new());
  if (!key || !cert) return std::unexpected(opensslError("key generation failed"));
  setCommon(cert.get(), key.get(), request.lifetime);
  for (const auto& organization : request.organizations) {
    addName(X509_get_subject_name(cert.get()), "O", organization);
  }
  if (!request.common_name.empty())
    addName(X509_get_subject_name(cert.get()), "CN", request.common_name);
  X509_set_issuer_name(cert.get(), X509_get_subject_name(ca.get()));
  std::string usage = request.server ? "serverAuth" : "";
  if (request.client) usage += usage.empty() ? "clientAuth" : ",clientAuth";
  bool ok = addExtension(cert.get(), ca.get(), NID_basic_constraints, "critical,CA:FALSE") &&
            addExtension(cert.get(), ca.get(), NID_key_usage,
                         "critical,digitalSignature,keyEncipherment") &&
            addExtension(cert.get(), ca.get(), NID_authority_key_identifier, "keyid") &&
            (usage.empty() || addExtension(cert.get(), ca.get(), NID_ext_key_usage, usage)) &&
            (names.empty() || addExtension(cert.get(), ca.get(), NID_subject_alt_name, names));
  if (!ok || X509_sign(cert.get(), ca_key.get(), EVP_sha256()) == 0) {
    return std::unexpected(opensslError("signing the certificate failed"));
  }
  return KeyPair{certPem(cert.get()), keyPem(key.get())};
}

base::Result<std::string> makePrivateKey() {
  KeyPtr key = newKey();
  if (!key) return std::unexpected(opensslError("key generation failed"));
  return keyPem(key.get());
}

base::Result<std::string> publicKeyOf(std::string_view private_key_pem) {
  KeyPtr key = readKey(private_key_pem);
  if (!key) return base::fail(base::Errc::kParse, "bad private key");
  BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PUBKEY(bio.get(), key.get());
  return bioText(bio.get());
}

base::Result<std::string> signEs256(std::string_view private_key_pem, std::string_view message) {
  KeyPtr key = readKey(private_key_pem);
  MdPtr context(EVP_MD_CTX_new());
  if (!key || !context) return base::fail(base::Errc::kParse, "bad private key");
  unsigned char der[128];
  std::size_t size = sizeof der;
  if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), der, &size,
                     reinterpret_cast<const unsigned char*>(message.data()), message.size()) != 1) {
    return std::unexpected(opensslError("signing failed"));
  }
  const unsigned char* at = der;
  SigPtr signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
  if (!signature) return std::unexpected(opensslError("signing failed"));
  std::string out(2 * kCoordinateBytes, '\0');
  auto* raw = reinterpret_cast<unsigned char*>(out.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), raw, kCoordinateBytes);
  BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), raw + kCoordinateBytes, kCoordinateBytes);
  return out;
}

bool verifyEs256(std::string_view public_key_pem, std::string_view message,
                 std::string_view signature) {
  if (signature.size() != 2 * kCoordinateBytes) return false;
  KeyPtr key(PEM_read_bio_PUBKEY(readBio(public_key_pem).get(), nullptr, nullptr, nullptr));
  SigPtr parsed(ECDSA_SIG_new());
  MdPtr context(EVP_MD_CTX_new());
  if (!key || !parsed || !context) return false;
  const auto* raw = reinterpret_cast<const unsigned char*>(signature.data());
  ECDSA_SIG_set0(parsed.get(), BN_bin2bn(raw, kCoordinateBytes, nullptr),
                 BN_bin2bn(raw + kCoordinateBytes, kCoordinateBytes, nullptr));
  unsigned char* der = nullptr;
  int size = i2d_ECDSA_SIG(parsed.get(), &der);
  if (size <= 0) return false;
  bool ok =
      EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
      EVP_DigestVerify(context.get(), der, static_cast<std::size_t>(size),
                       reinterpret_cast<const unsigned char*>(message.data()), message.size()) == 1;
  OPENSSL_free(der);
  return ok;
}

std::string sha256(std::string_view bytes) { return digest(SHA256, SHA256_DIGEST_LENGTH, bytes); }
std::string sha512(std::string_view bytes) { return digest(SHA512, SHA512_DIGEST_LENGTH, bytes); }
std::string sha1(std::string_view bytes) { return digest(SHA1, SHA_DIGEST_LENGTH, bytes); }

std::string randomBytes(std::size_t count) {
  std::string out(count, '\0');
  POSTERN_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(count)) ==
                1);
  return out;
}

}  // namespace postern::tls
