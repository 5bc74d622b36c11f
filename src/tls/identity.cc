#include "tls/identity.h"

#include "base/strings.h"
#include "tls/certificate_info.h"

#include <ctime>

namespace postern::tls {
namespace {

using OcspPtr = std::unique_ptr<OCSP_RESPONSE, Freer<OCSP_RESPONSE_free>>;
using OcspBasicPtr = std::unique_ptr<OCSP_BASICRESP, Freer<OCSP_BASICRESP_free>>;
using Pkcs12Ptr = std::unique_ptr<PKCS12, Freer<PKCS12_free>>;

constexpr int kRsaBitsMin = 2048;
constexpr int kTlsFeatureStatusRequest = 5;  // RFC 7633
constexpr int kChainMax = 32;

int givePassword(char* buffer, int size, int, void* argument) {
  const auto& password = *static_cast<const std::string*>(argument);
  if (password.size() > static_cast<std::size_t>(size)) return -1;
  password.copy(buffer, password.size());
  return static_cast<int>(password.size());
}

base::ConfigResult<void> readChain(const std::string& pem, LoadedIdentity& out) {
  BioPtr bio = readBio(pem);
  out.leaf.reset(PEM_read_bio_X509_AUX(bio.get(), nullptr, noPassword, nullptr));
  if (!out.leaf) {
    return base::failConfig("certificate_chain",
                            "Failed to load certificate chain: " + lastError());
  }
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, noPassword, nullptr)) {
    out.chain.emplace_back(next);
    if (out.chain.size() > kChainMax)
      return base::failConfig("certificate_chain", "has too many certificates");
  }
  const unsigned long last = ERR_peek_last_error();
  const bool ended =
      ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
  if (!ended) {
    return base::failConfig("certificate_chain",
                            "Failed to load certificate chain: " + lastError());
  }
  ERR_clear_error();
  return {};
}

base::ConfigResult<void> readPrivateKey(const IdentitySource& source, LoadedIdentity& out) {
  BioPtr bio = readBio(source.private_key_pem);
  // Without a password an encrypted key is an error, not a question on a terminal.
  out.key.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, givePassword,
                                        const_cast<std::string*>(&source.password)));
  if (!out.key)
    return base::failConfig("private_key", "Failed to load private key, Cause: " + lastError());
  if (X509_check_private_key(out.leaf.get(), out.key.get()) != 1) {
    return base::failConfig(
        "private_key", "Failed to load private key, Cause: KEY_VALUES_MISMATCH: " + lastError());
  }
  return {};
}

base::ConfigResult<void> readPkcs12(const IdentitySource& source, LoadedIdentity& out) {
  const auto* at = reinterpret_cast<const unsigned char*>(source.pkcs12.data());
  Pkcs12Ptr store(d2i_PKCS12(nullptr, &at, static_cast<long>(source.pkcs12.size())));
  EVP_PKEY* key = nullptr;
  X509* leaf = nullptr;
  STACK_OF(X509)* chain = nullptr;
  if (!store || PKCS12_parse(store.get(), source.password.c_str(), &key, &leaf, &chain) != 1)
    return base::failConfig("pkcs12", "Failed to load pkcs12: " + lastError());
  out.key.reset(key);
  out.leaf.reset(leaf);
  while (sk_X509_num(chain) > 0) out.chain.emplace_back(sk_X509_shift(chain));
  sk_X509_free(chain);
  if (!out.key || !out.leaf)
    return base::failConfig("pkcs12", "Failed to load pkcs12: it has no certificate or no key");
  if (out.chain.size() > kChainMax) return base::failConfig("pkcs12", "has too many certificates");
  return {};
}

base::ConfigResult<void> classifyKey(const char* field, LoadedIdentity& out) {
  EVP_PKEY* key = out.key.get();
  if (EVP_PKEY_is_a(key, "RSA") == 1) {
    out.type = LoadedIdentity::KeyType::kRsa;
    if (EVP_PKEY_get_bits(key) < kRsaBitsMin) {
      return base::failConfig(
          field,
          "Failed to load certificate chain, only RSA certificates with 2048-bit "
          "or larger keys are supported");
    }
    return {};
  }
  if (EVP_PKEY_is_a(key, "EC") != 1) return {};
  out.type = LoadedIdentity::KeyType::kEc;
  char group[64] = "";
  EVP_PKEY_get_group_name(key, group, sizeof group, nullptr);
  out.curve = OBJ_txt2nid(group);
  if (out.curve != NID_X9_62_prime256v1 && out.curve != NID_secp384r1 &&
      out.curve != NID_secp521r1) {
    return base::failConfig(field,
                            "Failed to load certificate chain, only P-256, P-384 or P-521 ECDSA "
                            "certificates are supported");
  }
  return {};
}

bool mustStaple(X509* certificate) {
  auto* features = static_cast<ASN1_SEQUENCE_ANY*>(nullptr);
  const int at = X509_get_ext_by_NID(certificate, NID_tlsfeature, -1);
  if (at < 0) return false;
  const ASN1_OCTET_STRING* der = X509_EXTENSION_get_data(X509_get_ext(certificate, at));
  const unsigned char* bytes = ASN1_STRING_get0_data(der);
  features = d2i_ASN1_SEQUENCE_ANY(nullptr, &bytes, ASN1_STRING_length(der));
  bool out = false;
  for (int i = 0; i < sk_ASN1_TYPE_num(features); ++i) {
    const ASN1_TYPE* each = sk_ASN1_TYPE_value(features, i);
    out = out || (each->type == V_ASN1_INTEGER &&
                  ASN1_INTEGER_get(each->value.integer) == kTlsFeatureStatusRequest);
  }
  sk_ASN1_TYPE_pop_free(features, ASN1_TYPE_free);
  return out;
}

base::ConfigResult<void> readStaple(const std::string& der, LoadedIdentity& out) {
  const auto bad = [](const std::string& text) { return base::failConfig("ocsp_staple", text); };
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  OcspPtr response(d2i_OCSP_RESPONSE(nullptr, &at, static_cast<long>(der.size())));
  if (!response) return bad("Failed to parse the OCSP response: " + lastError());
  if (OCSP_response_status(response.get()) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
    return bad("OCSP response was unsuccessful");
  OcspBasicPtr basic(OCSP_response_get1_basic(response.get()));
  if (!basic || OCSP_resp_count(basic.get()) != 1)
    return bad("OCSP Response must be for one certificate only");
  OCSP_SINGLERESP* single = OCSP_resp_get0(basic.get(), 0);
  ASN1_INTEGER* serial = nullptr;
  OCSP_id_get0_info(nullptr, nullptr, nullptr, &serial,
                    const_cast<OCSP_CERTID*>(OCSP_SINGLERESP_get0_id(single)));
  if (serial == nullptr || ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(out.leaf.get())) != 0) {
    return bad("OCSP response does not match its TLS certificate");
  }
  ASN1_GENERALIZEDTIME* from = nullptr;
  ASN1_GENERALIZEDTIME* until = nullptr;
  OCSP_single_get0_status(single, nullptr, nullptr, &from, &until);
  out.ocsp_validity = {secondsOf(from), secondsOf(until)};
  out.ocsp = der;
  return {};
}

void collectNames(LoadedIdentity& out) {
  for (const std::string& name : out.described.dns_sans) out.names.push_back(base::toLower(name));
  if (!out.names.empty() || X509_get_ext_by_NID(out.leaf.get(), NID_subject_alt_name, -1) >= 0)
    return;
  const X509_NAME* subject = X509_get_subject_name(out.leaf.get());
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return;
  const auto name = textOf(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (name.find('\0') == std::string_view::npos) out.names.push_back(base::toLower(name));
}

}  // namespace

bool LoadedIdentity::stapleValid() const {
  // One that names no end is taken for outdated: nobody could tell how old it may get.
  return !ocsp.empty() && ocsp_validity.until > std::time(nullptr);
}

base::ConfigResult<std::shared_ptr<const Identity>> Identity::load(const IdentitySource& source) {
  auto out = std::make_shared<LoadedIdentity>();
  const char* field = "certificate_chain";
  if (!source.pkcs12.empty()) {
    field = "pkcs12";
    POSTERN_TRY_VOID(readPkcs12(source, *out));
  } else {
    POSTERN_TRY_VOID(readChain(source.certificate_chain_pem, *out));
    POSTERN_TRY_VOID(readPrivateKey(source, *out));
  }
  POSTERN_TRY_VOID(classifyKey(field, *out));
  out->described = describe(out->leaf.get());
  out->read_from = source.origin;
  collectNames(*out);
  out->must_staple = mustStaple(out->leaf.get());
  if (!source.ocsp_staple.empty()) POSTERN_TRY_VOID(readStaple(source.ocsp_staple, *out));
  if (out->must_staple && out->ocsp.empty())
    return base::failConfig("ocsp_staple", "OCSP response is required for must-staple certificate");
  return out;
}

base::ConfigResult<void> useIdentity(SSL_CTX* ctx, const LoadedIdentity& identity) {
  if (SSL_CTX_use_certificate(ctx, identity.leaf.get()) != 1)
    return base::failConfig("certificate_chain", lastError());
  for (const CertPtr& each : identity.chain) {
    if (SSL_CTX_add1_chain_cert(ctx, each.get()) != 1)
      return base::failConfig("certificate_chain", lastError());
  }
  if (SSL_CTX_use_PrivateKey(ctx, identity.key.get()) != 1) {
    return base::failConfig("private_key", "does not belong to the certificate: " + lastError());
  }
  return {};
}

}  // namespace postern::tls
