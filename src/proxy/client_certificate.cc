#include "proxy/client_certificate.h"

#include "base/strings.h"

#include <string>

namespace postern::proxy {

namespace {

constexpr std::string_view kName = "x-forwarded-client-cert";

/// By (the URIs of our own certificate), Hash; then Cert, Subject, URI, DNS, when asked for.
std::string element(const HttpManager& config, const net::PeerInfo& peer) {
  const HttpManager::CertificateDetails& wanted = config.certificate_details;
  std::string out;
  if (peer.local != nullptr) {
    for (const std::string& each : peer.local->uri_sans) out += "By=" + each + ';';
  }
  out += "Hash=" + peer.sha256_fingerprint;
  if (wanted.cert) out += ";Cert=\"" + base::percentEncode(peer.certificate_pem) + '"';
  if (wanted.subject) {
    out += ";Subject=\"";
    for (char c : peer.subject) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    out += '"';
  }
  if (wanted.uri) {
    if (peer.uri_sans.empty()) out += ";URI=";
    for (const std::string& each : peer.uri_sans) out += ";URI=" + each;
  }
  if (wanted.dns) {
    for (const std::string& each : peer.dns_sans) out += ";DNS=" + each;
  }
  return out;
}

}  // namespace

void forwardCertificate(const HttpManager& config, const net::PeerInfo& peer,
                        http::HeaderMap& headers) {
  using Mode = ClientCertificate;
  const Mode mode = config.client_certificate;
  if (mode == Mode::kAlwaysForwardOnly) return;
  const bool mutual = peer.tls && !peer.sha256_fingerprint.empty();
  if (!mutual || mode == Mode::kSanitize) {
    headers.remove(kName);
    return;
  }
  if (mode == Mode::kForwardOnly) return;
  std::string value = element(config, peer);
  if (mode == Mode::kAppendForward) {
    if (auto before = headers.joined(kName)) value = *before + ',' + value;
  }
  headers.set(kName, value);
}

}  // namespace postern::proxy
