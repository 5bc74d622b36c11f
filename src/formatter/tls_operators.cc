#include "formatter/tls_operators.h"

#include "base/strings.h"

#include <ctime>
#include <vector>

namespace postern::formatter {

namespace {

using Info = net::PeerInfo;

bool putText(std::string& out, std::string_view value) {
  out += value;
  return !value.empty();
}

bool list(std::string& out, const std::vector<std::string>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    out += values[i];
  }
  return !values.empty();
}

bool time(std::string& out, std::int64_t at, const std::string& format) {
  if (at == 0) return false;
  const std::time_t seconds = at;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char bytes[256];
  const char* how = format.empty() ? "%Y-%m-%dT%H:%M:%S.000Z" : format.c_str();
  out.append(bytes, std::strftime(bytes, sizeof bytes, how, &parts));
  return true;
}

template <auto Field>
bool textField(std::string& out, const Info& peer, const std::string&) {
  return putText(out, peer.*Field);
}
template <auto Field>
bool listField(std::string& out, const Info& peer, const std::string&) {
  return list(out, peer.*Field);
}
template <auto Field>
bool timeField(std::string& out, const Info& peer, const std::string& format) {
  return time(out, peer.*Field, format);
}
template <auto Field>
bool localList(std::string& out, const Info& peer, const std::string&) {
  return peer.local != nullptr && list(out, peer.local->*Field);
}
template <auto Field>
bool localText(std::string& out, const Info& peer, const std::string&) {
  return peer.local != nullptr && putText(out, peer.local->*Field);
}
bool certificate(std::string& out, const Info& peer, const std::string&) {
  return putText(out, base::percentEncode(peer.certificate_pem));
}

struct TlsEntry {
  std::string_view name;
  TlsValue value;
  bool takes_format = false;
};

constexpr TlsEntry kBoth[] = {
    {"TLS_VERSION", textField<&Info::tls_version>},
    {"TLS_CIPHER", textField<&Info::cipher>},
    {"TLS_SESSION_ID", textField<&Info::session_id>},
    {"PEER_SUBJECT", textField<&Info::subject>},
    {"PEER_ISSUER", textField<&Info::issuer>},
    {"PEER_CERT", certificate},
    {"PEER_CERT_V_START", timeField<&Info::valid_from>, true},
    {"PEER_CERT_V_END", timeField<&Info::valid_to>, true},
    {"PEER_URI_SAN", listField<&Info::uri_sans>},
    {"PEER_DNS_SAN", listField<&Info::dns_sans>},
    {"PEER_IP_SAN", listField<&Info::ip_sans>},
    {"LOCAL_URI_SAN", localList<&net::CertificateInfo::uri_sans>},
    {"LOCAL_DNS_SAN", localList<&net::CertificateInfo::dns_sans>},
    {"LOCAL_IP_SAN", localList<&net::CertificateInfo::ip_sans>},
};

constexpr TlsEntry kDownstream[] = {
    {"PEER_SERIAL", textField<&Info::serial>},
    {"PEER_FINGERPRINT_256", textField<&Info::sha256_fingerprint>},
    {"PEER_FINGERPRINT_1", textField<&Info::sha1_fingerprint>},
    {"PEER_CHAIN_FINGERPRINTS_256", listField<&Info::chain_sha256>},
    {"PEER_CHAIN_FINGERPRINTS_1", listField<&Info::chain_sha1>},
    {"PEER_CHAIN_SERIALS", listField<&Info::chain_serials>},
    {"PEER_EMAIL_SAN", listField<&Info::email_sans>},
    {"PEER_OTHERNAME_SAN", listField<&Info::other_sans>},
    {"LOCAL_SUBJECT", localText<&net::CertificateInfo::subject>},
    {"LOCAL_EMAIL_SAN", localList<&net::CertificateInfo::email_sans>},
    {"LOCAL_OTHERNAME_SAN", localList<&net::CertificateInfo::other_sans>},
};

template <std::size_t N>
const TlsEntry* findTlsEntry(const TlsEntry (&table)[N], std::string_view name) {
  for (const TlsEntry& each : table) {
    if (each.name == name) return &each;
  }
  return nullptr;
}

}  // namespace

TlsOperator findTlsOperator(std::string_view name) {
  constexpr std::string_view kDown = "DOWNSTREAM_";
  constexpr std::string_view kUp = "UPSTREAM_";
  const bool upstream = name.starts_with(kUp);
  if (!upstream && !name.starts_with(kDown)) return {};
  name.remove_prefix(upstream ? kUp.size() : kDown.size());
  const TlsEntry* found = findTlsEntry(kBoth, name);
  if (found == nullptr && !upstream) found = findTlsEntry(kDownstream, name);
  if (found == nullptr) return {};
  return {found->value, upstream, found->takes_format};
}

}  // namespace postern::formatter
