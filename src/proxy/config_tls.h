// From Envoy's TLS messages to the settings of tls/settings.h; files are read now. Internal to the
// builders of transport sockets. Main thread.
#pragma once

#include "proxy/proto_fields.h"
#include "tls/settings.h"

#include <set>
#include <string>

namespace envoy::config::core::v3 {
class DataSource;
}
namespace envoy::extensions::transport_sockets::tls::v3 {
class CertificateValidationContext;
class TlsCertificate;
class TlsParameters;
class TlsSessionTicketKeys;
}  // namespace envoy::extensions::transport_sockets::tls::v3

namespace postern::proxy {

tls::Parameters readTlsParameters(
    const envoy::extensions::transport_sockets::tls::v3::TlsParameters& message,
    const Place& place);
std::shared_ptr<const tls::Identity> readIdentity(
    const envoy::extensions::transport_sockets::tls::v3::TlsCertificate& message,
    const Place& place);
std::shared_ptr<const tls::Trust> readTrust(
    const envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext& message,
    const Place& place);
std::shared_ptr<tls::TicketKeys> readTicketKeys(
    const envoy::extensions::transport_sockets::tls::v3::TlsSessionTicketKeys& message,
    const Place& place);

/// The file a source names; "" for other sources.
std::string fileOf(const envoy::config::core::v3::DataSource& message);
/// The directory of a path: "." without one.
std::string directoryOf(const std::string& path);

}  // namespace postern::proxy
