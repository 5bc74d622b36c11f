#include "proxy/tls_socket.h"

#include "api/message.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/core/v3/config_source.pb.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"
#include "proxy/config_build.h"
#include "proxy/config_tls.h"
#include "proxy/honoured_fields.h"

#include <limits>
#include <utility>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
namespace ssl = envoy::extensions::transport_sockets::tls::v3;
using Common = ssl::CommonTlsContext;

SecretUse readUse(const ssl::SdsSecretConfig& message, SecretKind kind, const Place& place) {
  SecretUse out;
  out.name = message.name();
  out.kind = kind;
  out.path = place.path();
  if (out.name.empty()) place.fail("name", "must not be empty");
  if (!message.has_sds_config()) return out;
  const core::ConfigSource& source = message.sds_config();
  const Place at = place.field("sds_config");
  if (source.has_path_config_source() || !source.path().empty()) {
    out.from = SecretUse::From::kFile;
    out.file = source.has_path_config_source() ? source.path_config_source().path() : source.path();
    if (source.path_config_source().has_watched_directory())
      out.directory = source.path_config_source().watched_directory().path();
    if (out.file.empty()) at.fail("path_config_source.path", "must not be empty");
  } else if (source.has_ads()) {
    out.from = SecretUse::From::kAds;
  } else {
    at.fail("must be ads or path_config_source");
  }
  if (source.resource_api_version() == core::V2) at.fail("resource_api_version", "must be V3");
  if (source.has_initial_fetch_timeout())
    out.timeout = at.duration("initial_fetch_timeout", source.initial_fetch_timeout());
  return out;
}

void watch(const core::WatchedDirectory& directory, bool has, std::set<std::string>& out) {
  if (has && !directory.path().empty()) out.insert(directory.path());
}

void watch(const core::DataSource& source, std::set<std::string>& out) {
  watch(source.watched_directory(), source.has_watched_directory(), out);
}

void watchCertificate(const ssl::TlsCertificate& message, std::set<std::string>& out) {
  watch(message.watched_directory(), message.has_watched_directory(), out);
  for (const core::DataSource* each :
       {&message.certificate_chain(), &message.private_key(), &message.pkcs12(),
        &message.password(), &message.ocsp_staple()}) {
    watch(*each, out);
  }
}

void watchValidation(const ssl::CertificateValidationContext& message, std::set<std::string>& out) {
  watch(message.watched_directory(), message.has_watched_directory(), out);
  watch(message.trusted_ca(), out);
  watch(message.crl(), out);
}

class Socket final : public TlsSocket {
 public:
  ssl::DownstreamTlsContext down;
  ssl::UpstreamTlsContext up;
  bool is_downstream = false;
  std::string path;
  std::string scope;  // of sessions

  const Common& common() const {
    return is_downstream ? down.common_tls_context() : up.common_tls_context();
  }
  void read(const Place& place);
  base::ConfigResult<void> build(const SecretSource& source) override;

 private:
  struct Material {
    std::vector<std::shared_ptr<const tls::Identity>> identities;
    std::shared_ptr<const tls::Trust> trust;
    std::shared_ptr<tls::TicketKeys> tickets;
    bool missing = false;
  };
  void readCommon(const Place& place);
  void readDownstream(const Place& place);
  void readUpstream(const Place& place);
  const ssl::Secret* find(const SecretSource& source, const SecretUse& use, const Place& place,
                          Material& out) const;
  void gather(const SecretSource& source, const Place& place, Material& out) const;
  void gatherTrust(const SecretSource& source, const Place& place, Material& out) const;
  void takeTrust(const ssl::CertificateValidationContext& message, const Place& place,
                 Material& out) const;
  void buildServer(Material material, const SecretSource& source, const Place& place);
  void buildClient(Material material, const Place& place);
};

void Socket::readCommon(const Place& place) {
  const Common& message = common();
  for (const auto& each : message.tls_certificates()) watchCertificate(each, directories_);
  if (message.tls_certificates_size() > 0 && message.tls_certificate_sds_secret_configs_size() > 0)
    place.fail("tls_certificate_sds_secret_configs", "stands instead of tls_certificates");
  for (int i = 0; i < message.tls_certificate_sds_secret_configs_size(); ++i) {
    secrets_.push_back(readUse(message.tls_certificate_sds_secret_configs(i),
                               SecretKind::kCertificate,
                               place.item("tls_certificate_sds_secret_configs", i)));
  }
  if (message.has_validation_context()) watchValidation(message.validation_context(), directories_);
  if (message.has_validation_context_sds_secret_config()) {
    secrets_.push_back(readUse(message.validation_context_sds_secret_config(),
                               SecretKind::kValidation,
                               place.field("validation_context_sds_secret_config")));
  }
  if (message.has_combined_validation_context()) {
    const Place at = place.field("combined_validation_context");
    const auto& combined = message.combined_validation_context();
    watchValidation(combined.default_validation_context(), directories_);
    secrets_.push_back(readUse(combined.validation_context_sds_secret_config(),
                               SecretKind::kValidation,
                               at.field("validation_context_sds_secret_config")));
  }
}

void Socket::readDownstream(const Place& place) {
  readCommon(place.field("common_tls_context"));
  const Common& message = common();
  if (message.tls_certificates_size() + message.tls_certificate_sds_secret_configs_size() == 0)
    place.field("common_tls_context").fail("No TLS certificates found for server context");
  if (down.has_session_ticket_keys_sds_secret_config()) {
    secrets_.push_back(readUse(down.session_ticket_keys_sds_secret_config(), SecretKind::kTickets,
                               place.field("session_ticket_keys_sds_secret_config")));
  }
  for (const auto& each : down.session_ticket_keys().keys()) watch(each, directories_);
  if (down.has_session_timeout()) {
    const auto timeout = place.duration("session_timeout", down.session_timeout());
    if (timeout > std::chrono::seconds(std::numeric_limits<std::uint32_t>::max()))
      place.fail("session_timeout", "must be less than 2^32 seconds");
  }
}

void Socket::readUpstream(const Place& place) {
  constexpr std::size_t kSniBytesMax = 255;
  readCommon(place.field("common_tls_context"));
  const Common& message = common();
  if (message.tls_certificates_size() + message.tls_certificate_sds_secret_configs_size() > 1) {
    place.field("common_tls_context")
        .fail("Multiple TLS certificates are not supported for client contexts");
  }
  sni_ = up.sni();
  sni_of_host_ = up.auto_host_sni();
  san_of_sni_ = up.auto_sni_san_validation();
  if (sni_.size() > kSniBytesMax) place.fail("sni", "must be at most 255 bytes");
  if (san_of_sni_ && sni_.empty() && !sni_of_host_)
    place.fail("auto_sni_san_validation", "needs sni or auto_host_sni");
  if (san_of_sni_ && !message.has_validation_context() &&
      !message.has_combined_validation_context() &&
      !message.has_validation_context_sds_secret_config()) {
    place.fail("auto_sni_san_validation",
               "'auto_sni_san_validation' was configured without a validation context");
  }
}

void Socket::read(const Place& place) {
  if (is_downstream) {
    readDownstream(place);
  } else {
    readUpstream(place);
  }
}

const ssl::Secret* Socket::find(const SecretSource& source, const SecretUse& use,
                                const Place& place, Material& out) const {
  const ssl::Secret* secret = source.find(use);
  if (secret == nullptr) {
    out.missing = true;
    if (use.from == SecretUse::From::kBootstrap)
      place.fail("name", "Unknown static secret: " + use.name);
    return nullptr;
  }
  const bool fits = use.kind == SecretKind::kCertificate  ? secret->has_tls_certificate()
                    : use.kind == SecretKind::kValidation ? secret->has_validation_context()
                                                          : secret->has_session_ticket_keys();
  if (fits) return secret;
  out.missing = true;
  place.fail("the secret " + use.name + " is of another kind");
  return nullptr;
}

void Socket::takeTrust(const ssl::CertificateValidationContext& message, const Place& place,
                       Material& out) const {
  // A name says nothing in a certificate that anybody may have made.
  if (san_of_sni_ && !message.has_trusted_ca() && !message.has_system_root_certs()) {
    Place(path, place.errors())
        .fail("auto_sni_san_validation",
              "'auto_sni_san_validation' was configured without configuring a trusted CA");
  }
  out.trust = readTrust(message, place);
}

void Socket::gatherTrust(const SecretSource& source, const Place& place, Material& out) const {
  const Common& message = common();
  const SecretUse* use = nullptr;
  for (const SecretUse& each : secrets_) {
    if (each.kind == SecretKind::kValidation) use = &each;
  }
  if (use == nullptr) {
    if (message.has_validation_context())
      takeTrust(message.validation_context(), place.field("validation_context"), out);
    return;
  }
  const Place at(use->path, place.errors());
  const ssl::Secret* secret = find(source, *use, at, out);
  if (secret == nullptr) return;
  // What the secret says is added to, and stands above, what the socket says.
  ssl::CertificateValidationContext merged =
      message.combined_validation_context().default_validation_context();
  merged.MergeFrom(secret->validation_context());
  takeTrust(merged, at, out);
}

void Socket::gather(const SecretSource& source, const Place& place, Material& out) const {
  const Common& message = common();
  for (int i = 0; i < message.tls_certificates_size(); ++i) {
    out.identities.push_back(
        readIdentity(message.tls_certificates(i), place.item("tls_certificates", i)));
  }
  for (const SecretUse& use : secrets_) {
    if (use.kind == SecretKind::kValidation) continue;
    const Place at(use.path, place.errors());
    const ssl::Secret* secret = find(source, use, at, out);
    if (secret == nullptr) continue;
    if (use.kind == SecretKind::kCertificate) {
      out.identities.push_back(readIdentity(secret->tls_certificate(), at));
    } else {
      out.tickets = readTicketKeys(secret->session_ticket_keys(), at);
    }
  }
  gatherTrust(source, place, out);
}

template <class T>
void put(base::ConfigResult<std::shared_ptr<const T>> made, const Place& place,
         base::Published<T>& out) {
  if (made) {
    out.set(std::move(*made));
  } else if (made.error().path.empty()) {
    place.fail(made.error().text);
  } else {
    place.fail(made.error().path, made.error().text);
  }
}

void Socket::buildServer(Material material, const SecretSource& source, const Place& place) {
  const Place at = place.field("common_tls_context");
  tls::ServerSettings settings;
  settings.parameters = readTlsParameters(common().tls_params(), at.field("tls_params"));
  settings.identities = std::move(material.identities);
  settings.trust = std::move(material.trust);
  settings.require_client_certificate = down.require_client_certificate().value();
  settings.require_sni = down.require_sni().value();
  settings.alpn.assign(common().alpn_protocols().begin(), common().alpn_protocols().end());
  if (down.has_session_ticket_keys()) {
    settings.tickets =
        readTicketKeys(down.session_ticket_keys(), place.field("session_ticket_keys"));
  } else if (down.has_session_ticket_keys_sds_secret_config()) {
    settings.tickets = std::move(material.tickets);
  } else if (!down.disable_stateless_session_resumption()) {
    settings.tickets = source.tickets();
  }
  settings.session_ids = !down.disable_stateful_session_resumption();
  if (down.has_session_timeout())
    settings.session_timeout = std::chrono::seconds(down.session_timeout().seconds());
  settings.staple_policy = down.ocsp_staple_policy() == ssl::DownstreamTlsContext::MUST_STAPLE
                               ? tls::StaplePolicy::kMust
                           : down.ocsp_staple_policy() == ssl::DownstreamTlsContext::STRICT_STAPLING
                               ? tls::StaplePolicy::kStrict
                               : tls::StaplePolicy::kLenient;
  settings.full_scan_on_sni_mismatch = down.full_scan_certs_on_sni_mismatch().value();
  settings.prefer_client_ciphers = down.prefer_client_ciphers();
  settings.session_scope = scope;
  if (!place.errors().failed()) put(tls::makeServerContext(settings), at, server_);
}

void Socket::buildClient(Material material, const Place& place) {
  constexpr std::uint32_t kSessionsDefault = 1;
  const Place at = place.field("common_tls_context");
  tls::ClientSettings settings;
  settings.parameters = readTlsParameters(common().tls_params(), at.field("tls_params"));
  if (!material.identities.empty()) settings.identity = std::move(material.identities.front());
  settings.trust = std::move(material.trust);
  settings.alpn.assign(common().alpn_protocols().begin(), common().alpn_protocols().end());
  settings.sessions_max =
      up.has_max_session_keys() ? up.max_session_keys().value() : kSessionsDefault;
  settings.enforce_rsa_key_usage =
      !up.has_enforce_rsa_key_usage() || up.enforce_rsa_key_usage().value();
  if (!place.errors().failed()) put(tls::makeClientContext(settings), at, client_);
}

base::ConfigResult<void> Socket::build(const SecretSource& source) {
  BuildErrors errors;
  const Place place(path, errors);
  Material material;
  gather(source, place.field("common_tls_context"), material);
  if (!errors.failed() && !material.missing) {
    TlsCertificates listed{material.identities, material.trust};
    if (is_downstream) {
      buildServer(std::move(material), source, place);
    } else {
      buildClient(std::move(material), place);
    }
    if (!errors.failed()) certificates_ = std::move(listed);
  }
  if (errors.failed()) return std::unexpected(errors.error());
  return {};
}

base::ConfigResult<std::shared_ptr<TlsSocket>> finish(std::shared_ptr<Socket> socket,
                                                      std::string path) {
  BuildErrors errors;
  socket->path = std::move(path);
  socket->read(Place(socket->path, errors));
  if (errors.failed()) return std::unexpected(errors.error());
  return socket;
}

base::ConfigResult<bool> isRaw(const core::TransportSocket& message, const std::string& path) {
  envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer raw;
  POSTERN_TRY(const auto config, unpackKnown(message.typed_config(), path));
  return static_cast<bool>(api::unpack(message.typed_config(), raw));
}

}  // namespace

base::ConfigResult<std::shared_ptr<TlsSocket>> readDownstreamSocket(
    const core::TransportSocket& message, std::string_view path,
    const std::vector<std::string>& server_names) {
  const std::string at = std::string(path) + ".typed_config";
  POSTERN_TRY(const bool raw, isRaw(message, at));
  if (raw) return nullptr;
  auto out = std::make_shared<Socket>();
  out->is_downstream = true;
  if (!api::unpack(message.typed_config(), out->down))
    return base::failConfig(at, "only RawBuffer and DownstreamTlsContext are supported");
  for (const std::string& name : server_names) out->scope += name + ",";
  return finish(std::move(out), at);
}

base::ConfigResult<std::shared_ptr<TlsSocket>> readUpstreamSocket(
    const core::TransportSocket& message, std::string_view path) {
  const std::string at = std::string(path) + ".typed_config";
  POSTERN_TRY(const bool raw, isRaw(message, at));
  if (raw) return nullptr;
  auto out = std::make_shared<Socket>();
  if (!api::unpack(message.typed_config(), out->up))
    return base::failConfig(at, "only RawBuffer and UpstreamTlsContext are supported");
  return finish(std::move(out), at);
}

base::ConfigResult<void> checkSecret(const ssl::Secret& message, std::string_view path) {
  POSTERN_TRY_VOID(checkHonoured(message, path, Door::kSecret));
  BuildErrors errors;
  const Place place(path, errors);
  switch (message.type_case()) {
    case ssl::Secret::kTlsCertificate:
      (void)readIdentity(message.tls_certificate(), place.field("tls_certificate"));
      break;
    case ssl::Secret::kValidationContext: {
      // Names may come with a trusted_ca of the socket: then the socket's own check decides.
      ssl::CertificateValidationContext alone = message.validation_context();
      if (!alone.has_trusted_ca()) {
        alone.clear_match_typed_subject_alt_names();
        alone.clear_match_subject_alt_names();
        alone.clear_allow_expired_certificate();
        alone.clear_crl();
      }
      (void)readTrust(alone, place.field("validation_context"));
      break;
    }
    case ssl::Secret::kSessionTicketKeys:
      (void)readTicketKeys(message.session_ticket_keys(), place.field("session_ticket_keys"));
      break;
    default:
      place.fail("needs one of tls_certificate, session_ticket_keys, validation_context");
  }
  if (errors.failed()) return std::unexpected(errors.error());
  return {};
}

std::set<std::string> secretDirectories(const ssl::Secret& message) {
  std::set<std::string> out;
  watchCertificate(message.tls_certificate(), out);
  watchValidation(message.validation_context(), out);
  for (const auto& each : message.session_ticket_keys().keys()) watch(each, out);
  if (!out.empty()) return out;
  const auto& certificate = message.tls_certificate();
  const auto& validation = message.validation_context();
  for (const core::DataSource* each :
       {&certificate.certificate_chain(), &certificate.private_key(), &certificate.pkcs12(),
        &certificate.ocsp_staple(), &validation.trusted_ca(), &validation.crl()}) {
    if (const std::string file = fileOf(*each); !file.empty()) out.insert(directoryOf(file));
  }
  return out;
}

}  // namespace postern::proxy
