#include "proxy/config_tls.h"

#include "api/message.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/common.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/type/matcher/v3/string.pb.h"
#include "proxy/config_matchers.h"

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
namespace ssl = envoy::extensions::transport_sockets::tls::v3;

tls::Version versionOf(ssl::TlsParameters::TlsProtocol version, const Place& place,
                       std::string_view field) {
  switch (version) {
    case ssl::TlsParameters::TLS_AUTO:
      return tls::Version::kAuto;
    case ssl::TlsParameters::TLSv1_0:
      return tls::Version::k10;
    case ssl::TlsParameters::TLSv1_1:
      return tls::Version::k11;
    case ssl::TlsParameters::TLSv1_2:
      return tls::Version::k12;
    case ssl::TlsParameters::TLSv1_3:
      return tls::Version::k13;
    default:
      place.fail(field, "is not a known version");
      return tls::Version::kAuto;
  }
}

/// A source that may say which directory to watch.
std::string readWatched(const core::DataSource& message, const Place& place) {
  core::DataSource plain = message;
  plain.clear_watched_directory();
  return readDataSource(plain, place);
}

/// As the admin port shows it.
std::string originOf(const core::DataSource& message) {
  std::string file = fileOf(message);
  return file.empty() ? "<inline>" : file;
}

void readSan(const ssl::SubjectAltNameMatcher& message, const Place& place, tls::TrustSource& out) {
  tls::SanMatcher san;
  switch (message.san_type()) {
    case ssl::SubjectAltNameMatcher::EMAIL:
      san.type = tls::SanType::kEmail;
      break;
    case ssl::SubjectAltNameMatcher::DNS:
      san.type = tls::SanType::kDns;
      break;
    case ssl::SubjectAltNameMatcher::URI:
      san.type = tls::SanType::kUri;
      break;
    case ssl::SubjectAltNameMatcher::IP_ADDRESS:
      san.type = tls::SanType::kIp;
      break;
    case ssl::SubjectAltNameMatcher::OTHER_NAME:
      san.type = tls::SanType::kOther;
      if (message.oid().empty()) place.fail("oid", "is required with OTHER_NAME");
      break;
    default:
      place.fail("san_type", "must be EMAIL, DNS, URI, IP_ADDRESS or OTHER_NAME");
      return;
  }
  if (!message.oid().empty() && san.type != tls::SanType::kOther)
    place.fail("oid", "is only for OTHER_NAME");
  san.oid = message.oid();
  const StringMatcher matcher = readString(message.matcher(), place.field("matcher"));
  // The case of DNS names never counts (RFC 4343), and an exact one may be met by a wildcard.
  if (matcher.kind == StringMatcher::Kind::kExact &&
      (!matcher.ignore_case || san.type == tls::SanType::kDns)) {
    san.exact = matcher.text;
    if (san.exact.empty()) place.fail("matcher.exact", "must not be empty");
  } else {
    san.matches = [matcher](std::string_view name) { return matcher.matches(name); };
    san.pattern = api::serialize(message.matcher());
  }
  out.sans.push_back(std::move(san));
}

/// The old form has no type: a matcher for each one that Envoy looks at.
void readUntypedSan(const envoy::type::matcher::v3::StringMatcher& message, const Place& place,
                    tls::TrustSource& out) {
  ssl::SubjectAltNameMatcher typed;
  *typed.mutable_matcher() = message;
  for (const auto type :
       {ssl::SubjectAltNameMatcher::DNS, ssl::SubjectAltNameMatcher::URI,
        ssl::SubjectAltNameMatcher::EMAIL, ssl::SubjectAltNameMatcher::IP_ADDRESS}) {
    typed.set_san_type(type);
    readSan(typed, place, out);
  }
}

/// Puts an error of the TLS layer, which names a field of the message, at its place.
template <class T>
T take(base::ConfigResult<T> result, const Place& place) {
  if (result) return std::move(*result);
  if (result.error().path.empty()) {
    place.fail(result.error().text);
  } else {
    place.fail(result.error().path, result.error().text);
  }
  return T{};
}

}  // namespace

std::string fileOf(const core::DataSource& message) {
  return message.specifier_case() == core::DataSource::kFilename ? message.filename() : "";
}

std::string directoryOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

tls::Parameters readTlsParameters(const ssl::TlsParameters& message, const Place& place) {
  tls::Parameters out;
  out.version_min =
      versionOf(message.tls_minimum_protocol_version(), place, "tls_minimum_protocol_version");
  out.version_max =
      versionOf(message.tls_maximum_protocol_version(), place, "tls_maximum_protocol_version");
  out.ciphers.assign(message.cipher_suites().begin(), message.cipher_suites().end());
  out.groups.assign(message.ecdh_curves().begin(), message.ecdh_curves().end());
  out.signature_algorithms.assign(message.signature_algorithms().begin(),
                                  message.signature_algorithms().end());
  return out;
}

std::shared_ptr<const tls::Identity> readIdentity(const ssl::TlsCertificate& message,
                                                  const Place& place) {
  tls::IdentitySource source;
  if (message.has_pkcs12()) {
    if (message.has_certificate_chain() || message.has_private_key())
      place.fail("pkcs12", "stands instead of certificate_chain and private_key");
    source.pkcs12 = readWatched(message.pkcs12(), place.field("pkcs12"));
    source.origin = originOf(message.pkcs12());
  } else {
    if (!message.has_certificate_chain())
      place.fail("certificate_chain",
                 "Failed to load incomplete certificate: certificate chain not set");
    else
      source.certificate_chain_pem =
          readWatched(message.certificate_chain(), place.field("certificate_chain"));
    source.origin = originOf(message.certificate_chain());
    if (!message.has_private_key())
      place.fail("private_key", "Failed to load incomplete private key: it is not set");
    else
      source.private_key_pem = readWatched(message.private_key(), place.field("private_key"));
  }
  if (message.has_password())
    source.password = readWatched(message.password(), place.field("password"));
  if (message.has_ocsp_staple()) {
    if (message.ocsp_staple().has_inline_string()) {
      place.fail("ocsp_staple.inline_string", "OCSP staple cannot be provided via inline_string");
    }
    source.ocsp_staple = readWatched(message.ocsp_staple(), place.field("ocsp_staple"));
  }
  if (place.errors().failed()) return nullptr;
  return take(tls::Identity::load(source), place);
}

std::shared_ptr<const tls::Trust> readTrust(const ssl::CertificateValidationContext& message,
                                            const Place& place) {
  tls::TrustSource source;
  if (message.has_trusted_ca())
    source.trusted_ca_pem = readWatched(message.trusted_ca(), place.field("trusted_ca"));
  source.origin = originOf(message.trusted_ca());
  if (message.has_trusted_ca() && source.trusted_ca_pem.empty())
    place.fail("trusted_ca", "Failed to load trusted CA certificates: it is empty");
  source.system_roots = message.has_system_root_certs();
  if (source.system_roots && message.has_trusted_ca())
    place.fail("system_root_certs", "stands instead of trusted_ca");
  if (message.has_crl()) source.crl_pem = readWatched(message.crl(), place.field("crl"));
  source.certificate_hashes.assign(message.verify_certificate_hash().begin(),
                                   message.verify_certificate_hash().end());
  source.spki_hashes.assign(message.verify_certificate_spki().begin(),
                            message.verify_certificate_spki().end());
  for (int i = 0; i < message.match_typed_subject_alt_names_size(); ++i) {
    readSan(message.match_typed_subject_alt_names(i),
            place.item("match_typed_subject_alt_names", i), source);
  }
  // Envoy looks at the old form only without the new one.
  for (int i = 0; i < message.match_subject_alt_names_size() &&
                  message.match_typed_subject_alt_names_size() == 0;
       ++i) {
    readUntypedSan(message.match_subject_alt_names(i), place.item("match_subject_alt_names", i),
                   source);
  }
  source.allow_expired = message.allow_expired_certificate();
  source.accept_untrusted =
      message.trust_chain_verification() == ssl::CertificateValidationContext::ACCEPT_UNTRUSTED;
  source.crl_of_leaf_only = message.only_verify_leaf_cert_crl();
  if (message.has_max_verify_depth()) {
    constexpr std::uint32_t kDepthMax = 100;
    source.depth_max = message.max_verify_depth().value();
    if (*source.depth_max > kDepthMax) place.fail("max_verify_depth", "must be at most 100");
  }
  if (place.errors().failed()) return nullptr;
  return take(tls::Trust::load(source), place);
}

std::shared_ptr<tls::TicketKeys> readTicketKeys(const ssl::TlsSessionTicketKeys& message,
                                                const Place& place) {
  std::vector<std::string> keys;
  for (int i = 0; i < message.keys_size(); ++i)
    keys.push_back(readWatched(message.keys(i), place.item("keys", i)));
  if (place.errors().failed()) return nullptr;
  return take(tls::TicketKeys::fixed(keys), place);
}

}  // namespace postern::proxy
