#include "tls/certificate_info.h"

#include "base/strings.h"

#include <openssl/sha.h>

#include <algorithm>
#include <ctime>

#include <arpa/inet.h>

namespace postern::tls {
namespace {

using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;

std::string digestHex(X509* certificate, const EVP_MD* algorithm) {
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  X509_digest(certificate, algorithm, hash, &size);
  return base::toHex(std::string_view(reinterpret_cast<char*>(hash), size));
}

std::string nameText(const X509_NAME* name) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  return bioText(bio.get());
}

std::string serialHex(X509* certificate) {
  BIGNUM* number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr);
  if (number == nullptr) return "";
  char* hex = BN_bn2hex(number);
  std::string out = base::toLower(hex == nullptr ? "" : hex);
  OPENSSL_free(hex);
  BN_free(number);
  return out;
}

std::string pemOf(X509* certificate) {
  BioPtr pem(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(pem.get(), certificate);
  return bioText(pem.get());
}

NamesPtr alternativeNames(X509* certificate) {
  return NamesPtr(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
}

std::string ipText(const ASN1_OCTET_STRING* address) {
  char out[INET6_ADDRSTRLEN] = "";
  const int size = ASN1_STRING_length(address);
  if (size != 4 && size != 16) return "";
  ::inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), out, sizeof out);
  return out;
}

std::string otherText(const OTHERNAME* name) {
  const ASN1_TYPE* value = name->value;
  if (value == nullptr) return "";
  switch (value->type) {
    case V_ASN1_BOOLEAN:
      return value->value.boolean != 0 ? "true" : "false";
    case V_ASN1_UTF8STRING:
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_T61STRING:
    case V_ASN1_VISIBLESTRING:
    case V_ASN1_GENERALSTRING:
    case V_ASN1_NUMERICSTRING:
    case V_ASN1_OCTET_STRING:
      return std::string(textOf(value->value.asn1_string));
    default:
      return "";
  }
}

bool oidIs(const ASN1_OBJECT* object, const std::string& oid) {
  char text[128] = "";
  OBJ_obj2txt(text, sizeof text, object, 1);
  return oid == text;
}

std::string nameOf(const GENERAL_NAME* name, SanType type, const std::string& oid) {
  switch (type) {
    case SanType::kEmail:
      return name->type == GEN_EMAIL ? std::string(textOf(name->d.rfc822Name)) : "";
    case SanType::kDns:
      return name->type == GEN_DNS ? std::string(textOf(name->d.dNSName)) : "";
    case SanType::kUri:
      return name->type == GEN_URI ? std::string(textOf(name->d.uniformResourceIdentifier)) : "";
    case SanType::kIp:
      return name->type == GEN_IPADD ? ipText(name->d.iPAddress) : "";
    case SanType::kOther:
      if (name->type != GEN_OTHERNAME) return "";
      if (!oid.empty() && !oidIs(name->d.otherName->type_id, oid)) return "";
      return otherText(name->d.otherName);
  }
  return "";
}

std::string entryText(const X509_NAME* name, int at) {
  return std::string(textOf(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at))));
}

}  // namespace

std::vector<std::string> sanNames(X509* certificate, SanType type, const std::string& oid) {
  std::vector<std::string> out;
  const NamesPtr names = alternativeNames(certificate);
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    std::string name = nameOf(sk_GENERAL_NAME_value(names.get(), i), type, oid);
    // A name with a control character is nobody's, and must not reach a log or a header field.
    const bool printable = std::none_of(name.begin(), name.end(), [](const char c) {
      return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    });
    if (name.empty() || !printable) continue;
    out.push_back(std::move(name));
  }
  return out;
}

std::string sanList(X509* certificate) {
  constexpr std::size_t kBytesMax = 512;
  std::string out = "[";
  const NamesPtr names = alternativeNames(certificate);
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()) && out.size() < kBytesMax; ++i) {
    const GENERAL_NAME* each = sk_GENERAL_NAME_value(names.get(), i);
    std::string text;
    for (const SanType type :
         {SanType::kDns, SanType::kUri, SanType::kIp, SanType::kEmail, SanType::kOther}) {
      if (text.empty()) text = nameOf(each, type, "");
    }
    // It ends up in logs: nothing that could look like another line.
    for (char& c : text) c = c < ' ' || c == '\x7f' ? '?' : c;
    if (text.size() > kBytesMax) text.resize(kBytesMax);
    out += (out.size() > 1 ? ", " : "") + text;
  }
  return out + "]";
}

bool dnsNameMatches(std::string_view name, std::string_view pattern) {
  if (base::equalsIgnoreCase(name, pattern)) return true;
  if (!pattern.starts_with("*.") || pattern.size() < 3) return false;
  const std::size_t dot = name.find('.');
  return dot != std::string_view::npos && dot > 0 &&
         base::equalsIgnoreCase(name.substr(dot), pattern.substr(1));
}

std::string sha256Of(X509* certificate) {
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  X509_digest(certificate, EVP_sha256(), hash, &size);
  return {reinterpret_cast<char*>(hash), size};
}

std::string spkiSha256(X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  if (size > 0)
    SHA256(der, static_cast<std::size_t>(size), reinterpret_cast<unsigned char*>(out.data()));
  OPENSSL_free(der);
  return size > 0 ? out : "";
}

std::int64_t secondsOf(const ASN1_TIME* time) {
  std::tm parts{};
  return time != nullptr && ASN1_TIME_to_tm(time, &parts) == 1 ? ::timegm(&parts) : 0;
}

net::CertificateInfo describe(X509* certificate) {
  net::CertificateInfo out;
  out.subject = nameText(X509_get_subject_name(certificate));
  out.issuer = nameText(X509_get_issuer_name(certificate));
  out.serial = serialHex(certificate);
  out.sha256_fingerprint = digestHex(certificate, EVP_sha256());
  out.sha1_fingerprint = digestHex(certificate, EVP_sha1());
  out.valid_from = secondsOf(X509_get0_notBefore(certificate));
  out.valid_to = secondsOf(X509_get0_notAfter(certificate));
  out.uri_sans = sanNames(certificate, SanType::kUri);
  out.dns_sans = sanNames(certificate, SanType::kDns);
  out.ip_sans = sanNames(certificate, SanType::kIp);
  out.email_sans = sanNames(certificate, SanType::kEmail);
  out.other_sans = sanNames(certificate, SanType::kOther);
  return out;
}

void describePeer(SSL* ssl, net::PeerInfo& out) {
  X509* certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr) return;
  static_cast<net::CertificateInfo&>(out) = describe(certificate);
  const X509_NAME* name = X509_get_subject_name(certificate);
  for (int at = -1; (at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0;)
    out.common_name = entryText(name, at);
  for (int at = -1; (at = X509_NAME_get_index_by_NID(name, NID_organizationName, at)) >= 0;)
    out.organizations.push_back(entryText(name, at));
  out.certificate_pem = pemOf(certificate);
  const auto add = [&](X509* each) {
    out.chain_pem += pemOf(each);
    out.chain_sha256.push_back(digestHex(each, EVP_sha256()));
    out.chain_sha1.push_back(digestHex(each, EVP_sha1()));
    out.chain_serials.push_back(serialHex(each));
  };
  // OpenSSL's server leaves the peer's own certificate out of the chain, its client does not.
  if (SSL_is_server(ssl) != 0) add(certificate);
  const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl);
  for (int i = 0; i < sk_X509_num(chain); ++i) add(sk_X509_value(chain, i));
}

}  // namespace postern::tls
