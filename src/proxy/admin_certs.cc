// The admin port's /certs: what each TLS context shows of itself and whom it trusts.
#include "proxy/admin.h"
#include "proxy/server.h"

#include <fmt/chrono.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>

namespace postern::proxy {

namespace {

std::string certificateTime(std::int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}Z", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

std::string daysLeft(std::int64_t end, const base::Clock& clock) {
  constexpr std::int64_t kDaySeconds = 24 * 60 * 60;
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(clock.wall().time_since_epoch());
  return std::to_string(std::max<std::int64_t>(0, end - now.count()) / kDaySeconds);
}

nlohmann::json certificateJson(const net::CertificateInfo& certificate, const std::string& path,
                               const base::Clock& clock) {
  nlohmann::json names = nlohmann::json::array();
  for (const std::string& each : certificate.dns_sans) names.push_back({{"dns", each}});
  for (const std::string& each : certificate.uri_sans) names.push_back({{"uri", each}});
  for (const std::string& each : certificate.ip_sans) names.push_back({{"ip_address", each}});
  return {{"path", path},
          {"serial_number", certificate.serial},
          {"subject_alt_names", std::move(names)},
          {"days_until_expiration", daysLeft(certificate.valid_to, clock)},
          {"valid_from", certificateTime(certificate.valid_from)},
          {"expiration_time", certificateTime(certificate.valid_to)}};
}

void listContext(const TlsSocket* socket, const base::Clock& clock, nlohmann::json& out) {
  if (socket == nullptr || !socket->certificates()) return;
  const TlsCertificates& certificates = *socket->certificates();
  nlohmann::json authorities = nlohmann::json::array();
  nlohmann::json chains = nlohmann::json::array();
  if (certificates.trust != nullptr && certificates.trust->authority() != nullptr) {
    authorities.push_back(
        certificateJson(*certificates.trust->authority(), certificates.trust->origin(), clock));
  }
  for (const auto& each : certificates.chains) {
    nlohmann::json details = certificateJson(each->info(), each->origin(), clock);
    if (const auto staple = each->staple()) {
      details["ocsp_details"] = {{"valid_from", certificateTime(staple->from)},
                                 {"expiration", certificateTime(staple->until)}};
    }
    chains.push_back(std::move(details));
  }
  out.push_back({{"ca_cert", std::move(authorities)}, {"cert_chain", std::move(chains)}});
}

}  // namespace

void answerCerts(Server& server, http::Responder& responder) {
  const base::Clock& clock = server.loop().clock();
  const Snapshot& snapshot = server.store().snapshot();
  nlohmann::json out = nlohmann::json::array();
  for (const auto& [name, entry] : snapshot.listeners) {
    for (const auto& chain : entry.config->chains) listContext(chain->tls.get(), clock, out);
    if (entry.config->fallback != nullptr)
      listContext(entry.config->fallback->tls.get(), clock, out);
  }
  for (const auto& [name, entry] : snapshot.clusters) {
    for (const ClusterSocket& socket : entry.config->sockets)
      listContext(socket.tls.get(), clock, out);
  }
  respondJson(responder, {{"certificates", std::move(out)}});
}

}  // namespace postern::proxy
