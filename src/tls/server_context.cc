// The accepting side: which certificate, which session may be resumed, what is stapled.
#include "base/strings.h"
#include "tls/context.h"
#include "tls/ticket_keys.h"
#include "tls/x509.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <optional>

namespace postern::tls {
namespace {

constexpr std::uint16_t kSha256P256 = 0x0403;  // RFC 8446 4.2.3
constexpr std::uint16_t kSha384P384 = 0x0503;
constexpr std::uint16_t kSha512P521 = 0x0603;

int contextIndex() {
  static const int kIndex = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return kIndex;
}

std::string_view extension(SSL* ssl, unsigned type) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, type, &data, &size) != 1) return {};
  return {reinterpret_cast<const char*>(data), size};
}

std::uint16_t number16(std::string_view bytes, std::size_t at) {
  return static_cast<std::uint16_t>((static_cast<unsigned char>(bytes[at]) << 8) |
                                    static_cast<unsigned char>(bytes[at + 1]));
}

/// RFC 6066 3: the first host name, lower case.
std::string serverName(SSL* ssl) {
  const std::string_view bytes = extension(ssl, TLSEXT_TYPE_server_name);
  constexpr std::size_t kHead = 5;  // list length, type, name length
  if (bytes.size() < kHead || bytes[2] != TLSEXT_NAMETYPE_host_name) return "";
  const std::size_t size = number16(bytes, 3);
  if (size > bytes.size() - kHead) return "";
  return base::toLower(bytes.substr(kHead, size));
}

bool listHas(std::string_view list, std::uint16_t wanted) {
  for (std::size_t at = 2; at + 1 < list.size(); at += 2) {
    if (number16(list, at) == wanted) return true;
  }
  return false;
}

/// Of an ECDSA key's curve: the signature algorithm of TLS 1.3, and the group.
struct CurveNumbers {
  std::uint16_t signature;
  std::uint16_t group;  // RFC 8446 4.2.7
};

CurveNumbers numbersOf(int curve) {
  if (curve == NID_X9_62_prime256v1) return {kSha256P256, 23};
  if (curve == NID_secp384r1) return {kSha384P384, 24};
  return {kSha512P521, 25};
}

bool speaksTls13(SSL* ssl, SSL_CTX* ctx) {
  const long most = SSL_CTX_get_max_proto_version(ctx);
  if (most != 0 && most < TLS1_3_VERSION) return false;
  std::string_view versions = extension(ssl, TLSEXT_TYPE_supported_versions);
  if (!versions.empty()) versions.remove_prefix(1);  // its length is one byte
  for (std::size_t at = 0; at + 1 < versions.size(); at += 2) {
    if (number16(versions, at) == TLS1_3_VERSION) return true;
  }
  return false;
}

/// Up to TLS 1.2 the cipher says which key signs.
bool offersEcdsaCipher(SSL* ssl, const SSL_CTX* ctx) {
  const unsigned char* bytes = nullptr;
  const std::size_t size = SSL_client_hello_get0_ciphers(ssl, &bytes);
  STACK_OF(SSL_CIPHER)* offered = nullptr;
  STACK_OF(SSL_CIPHER)* signalling = nullptr;
  if (SSL_bytes_to_cipher_list(ssl, bytes, size, 0, &offered, &signalling) != 1) return false;
  const STACK_OF(SSL_CIPHER)* ours = SSL_CTX_get_ciphers(ctx);
  bool found = false;
  for (int i = 0; i < sk_SSL_CIPHER_num(offered) && !found; ++i) {
    const SSL_CIPHER* each = sk_SSL_CIPHER_value(offered, i);
    if (SSL_CIPHER_get_auth_nid(each) != NID_auth_ecdsa) continue;
    for (int j = 0; j < sk_SSL_CIPHER_num(ours) && !found; ++j)
      found = SSL_CIPHER_get_id(sk_SSL_CIPHER_value(ours, j)) == SSL_CIPHER_get_id(each);
  }
  sk_SSL_CIPHER_free(offered);
  sk_SSL_CIPHER_free(signalling);
  return found;
}

/// Whether a handshake with this ECDSA key can come about (RFC 8446 4.2.3, RFC 8422 2, 5.1).
bool clientTakesEcdsa(SSL* ssl, const OpensslServerContext::Certificate& key) {
  const CurveNumbers wanted = numbersOf(key.identity->curve);
  if (!listHas(extension(ssl, TLSEXT_TYPE_signature_algorithms), wanted.signature)) return false;
  if (speaksTls13(ssl, key.ctx.get())) return true;
  return listHas(extension(ssl, TLSEXT_TYPE_supported_groups), wanted.group) &&
         offersEcdsaCipher(ssl, key.ctx.get());
}

struct Choice {
  const OpensslServerContext::Certificate* certificate = nullptr;
  bool exact = false;  // of the kind the client can do best
};

void consider(SSL* ssl, const OpensslServerContext::Certificate& each, Choice& choice) {
  if (choice.exact) return;
  const bool ec = each.identity->type == LoadedIdentity::KeyType::kEc;
  const bool fits = !ec || clientTakesEcdsa(ssl, each);
  // ECDSA where the client can, as Envoy prefers it; else the first that fits.
  if (ec && fits) {
    choice = {&each, true};
  } else if (choice.certificate == nullptr && fits) {
    choice.certificate = &each;
  }
}

const OpensslServerContext::Certificate& select(SSL* ssl, const OpensslServerContext& context,
                                                const std::string& name) {
  Choice choice;
  const auto among = [&](std::string_view wanted) {
    for (const auto& each : context.certificates) {
      const auto& names = each.identity->names;
      if (std::find(names.begin(), names.end(), wanted) != names.end()) consider(ssl, each, choice);
    }
  };
  if (!name.empty()) {
    among(name);
    if (!choice.exact) {
      const std::size_t dot = name.find('.');
      if (dot != std::string::npos && dot > 0) among("*" + name.substr(dot));
    }
  }
  if (choice.certificate != nullptr) return *choice.certificate;
  if (name.empty() || context.settings.full_scan_on_sni_mismatch) {
    for (const auto& each : context.certificates) consider(ssl, each, choice);
  }
  return choice.certificate != nullptr ? *choice.certificate : context.certificates.front();
}

int onClientHello(SSL* ssl, int* alert, void* argument) {
  const auto& context = *static_cast<const OpensslServerContext*>(argument);
  const std::string name = serverName(ssl);
  const OpensslServerContext::Certificate& chosen = select(ssl, context, name);
  if (context.settings.require_sni) {
    const auto& names = chosen.identity->names;
    const std::size_t dot = name.find('.');
    const bool known =
        !name.empty() &&
        (std::find(names.begin(), names.end(), name) != names.end() ||
         (dot != std::string::npos &&
          std::find(names.begin(), names.end(), "*" + name.substr(dot)) != names.end()));
    if (!known) {
      *alert = SSL_AD_UNRECOGNIZED_NAME;
      return SSL_CLIENT_HELLO_ERROR;
    }
  }
  if (SSL_get_SSL_CTX(ssl) != chosen.ctx.get()) SSL_set_SSL_CTX(ssl, chosen.ctx.get());
  return SSL_CLIENT_HELLO_SUCCESS;
}

int onStatusRequest(SSL* ssl, void* argument) {
  const auto& context = *static_cast<const OpensslServerContext*>(argument);
  const LoadedIdentity* identity = context.identityOf(ssl);
  HandshakeState* state = HandshakeState::of(ssl);
  HandshakeObserver* observer = state == nullptr ? nullptr : state->observer;
  const auto tell = [&](Staple what) {
    if (observer != nullptr) observer->onStaple(what);
  };
  tell(Staple::kRequested);
  if (identity != nullptr && identity->stapleValid()) {
    const std::size_t size = identity->ocsp.size();
    auto* copy = static_cast<unsigned char*>(OPENSSL_memdup(identity->ocsp.data(), size));
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, static_cast<long>(size));
    tell(Staple::kSent);
    return SSL_TLSEXT_ERR_OK;
  }
  const bool has = identity != nullptr && !identity->ocsp.empty();
  const StaplePolicy policy = identity != nullptr && identity->must_staple
                                  ? StaplePolicy::kMust
                                  : context.settings.staple_policy;
  if (policy == StaplePolicy::kMust || (policy == StaplePolicy::kStrict && has)) {
    tell(Staple::kFailed);
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  tell(Staple::kOmitted);
  return SSL_TLSEXT_ERR_NOACK;
}

int selectAlpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
               unsigned int in_size, void* argument) {
  const auto* context = static_cast<const OpensslServerContext*>(argument);
  unsigned char* chosen = nullptr;
  const int result = SSL_select_next_proto(
      &chosen, out_size, reinterpret_cast<const unsigned char*>(context->alpn.data()),
      static_cast<unsigned>(context->alpn.size()), in, in_size);
  if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// Resumption must not carry an identity from one trust into another: the id ties sessions to
/// everything that decides whether a client is let in.
std::string sessionId(const OpensslServerContext& context) {
  std::string all = context.settings.session_scope;
  all += context.settings.require_client_certificate ? "|require|" : "|ask|";
  if (context.trust != nullptr) all += context.trust->fingerprint;
  for (const auto& each : context.certificates) {
    for (const std::string& name : each.identity->names) all += "|" + name;
    if (each.identity->names.empty()) all += "|" + each.identity->described.sha256_fingerprint;
  }
  all += "|" + context.alpn;
  return sha256(all);
}

/// When the handshake was that a session began with, in seconds since 1970. Tickets carry it.
std::optional<std::int64_t> handshakeTime(SSL_SESSION* session) {
  void* data = nullptr;
  std::size_t size = 0;
  std::int64_t out = 0;
  if (SSL_SESSION_get0_ticket_appdata(session, &data, &size) != 1 || size != sizeof out)
    return std::nullopt;
  std::memcpy(&out, data, sizeof out);
  return out;
}

int onNewTicket(SSL* ssl, void*) {
  SSL_SESSION* session = SSL_get_session(ssl);
  if (handshakeTime(session)) return 1;  // of a session that was resumed
  const std::int64_t now = std::time(nullptr);
  return SSL_SESSION_set1_ticket_appdata(session, &now, sizeof now);
}

/// Who is let in for a session has shown a certificate once; it must still be of its time. A client
/// of TLS 1.3 uses a ticket once (RFC 8446 C.4): it gets another one, until the handshake it all
/// began with is too long ago.
SSL_TICKET_RETURN onTicket(SSL* ssl, SSL_SESSION* session, const unsigned char*, std::size_t,
                           SSL_TICKET_STATUS status, void* argument) {
  const auto& context = *static_cast<const OpensslServerContext*>(argument);
  const bool opened = status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW;
  if (!opened || (context.trust != nullptr && !context.trust->stillVouches(session)))
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  const std::int64_t age = std::time(nullptr) - handshakeTime(session).value_or(0);
  if (age > context.settings.resumption_max.count()) return SSL_TICKET_RETURN_IGNORE_RENEW;
  const bool once = SSL_version(ssl) >= TLS1_3_VERSION;
  return status == SSL_TICKET_SUCCESS_RENEW || once ? SSL_TICKET_RETURN_USE_RENEW
                                                    : SSL_TICKET_RETURN_USE;
}

void applySessions(SSL_CTX* ctx, const OpensslServerContext& context) {
  const ServerSettings& settings = context.settings;
  SSL_CTX_set_session_cache_mode(ctx,
                                 settings.session_ids ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(ctx, static_cast<long>(settings.session_timeout.count()));
  const std::string id = sessionId(context);
  SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const unsigned char*>(id.data()),
                                 static_cast<unsigned>(id.size()));
  if (settings.tickets != nullptr) {
    useTicketKeys(ctx, settings.tickets.get());
    SSL_CTX_set_session_ticket_cb(ctx, onNewTicket, onTicket,
                                  const_cast<OpensslServerContext*>(&context));
  } else {
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, 0);
  }
}

void applyTrust(SSL_CTX* ctx, const OpensslServerContext& context) {
  if (context.trust == nullptr || !context.trust->asks()) return;
  int mode = SSL_VERIFY_PEER;
  if (context.settings.require_client_certificate || context.trust->needsCertificate())
    mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  useTrust(ctx, context.trust.get(), mode);
  if (!context.trust->source.announce_authorities || context.trust->store == nullptr) return;
  STACK_OF(X509_OBJECT)* all = X509_STORE_get0_objects(context.trust->store.get());
  for (int i = 0; i < sk_X509_OBJECT_num(all); ++i) {
    X509* authority = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
    if (authority != nullptr) SSL_CTX_add_client_CA(ctx, authority);
  }
}

base::ConfigResult<CtxPtr> makeCtx(OpensslServerContext& context, const LoadedIdentity& identity) {
  CtxPtr out(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* ctx = out.get();
  if (ctx == nullptr) return base::failConfig("", lastError());
  const ServerSettings& settings = context.settings;
  POSTERN_TRY_VOID(applyParameters(ctx, settings.parameters, Side::kServer));
  if (!settings.prefer_client_ciphers) SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
  POSTERN_TRY_VOID(useIdentity(ctx, identity));
  applySessions(ctx, context);
  applyTrust(ctx, context);
  SSL_CTX_set_ex_data(ctx, contextIndex(), &context);
  if (!context.alpn.empty()) SSL_CTX_set_alpn_select_cb(ctx, selectAlpn, &context);
  if (settings.identities.size() > 1 || settings.require_sni)
    SSL_CTX_set_client_hello_cb(ctx, onClientHello, &context);
  SSL_CTX_set_tlsext_status_cb(ctx, onStatusRequest);
  SSL_CTX_set_tlsext_status_arg(ctx, &context);
  return out;
}

}  // namespace

const LoadedIdentity* OpensslServerContext::identityOf(const SSL* ssl) const {
  const SSL_CTX* used = SSL_get_SSL_CTX(ssl);
  for (const Certificate& each : certificates) {
    if (each.ctx.get() == used) return each.identity.get();
  }
  return nullptr;
}

const OpensslServerContext* OpensslServerContext::of(const SSL* ssl) {
  return static_cast<const OpensslServerContext*>(
      SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), contextIndex()));
}

base::ConfigResult<std::shared_ptr<const ServerContext>> makeServerContext(
    const ServerSettings& settings) {
  auto out = std::make_shared<OpensslServerContext>();
  out->settings = settings;
  if (settings.identities.empty())
    return base::failConfig("tls_certificates", "No TLS certificates found for server context");
  out->trust = std::static_pointer_cast<const LoadedTrust>(settings.trust);
  POSTERN_TRY(out->alpn, alpnWire(settings.alpn));
  for (const auto& identity : settings.identities) {
    auto loaded = std::static_pointer_cast<const LoadedIdentity>(identity);
    if (settings.staple_policy == StaplePolicy::kMust && loaded->ocsp.empty()) {
      return base::failConfig("ocsp_staple", "Required OCSP response is missing from TLS context");
    }
    out->certificates.push_back({nullptr, std::move(loaded)});
  }
  for (auto& each : out->certificates) {
    POSTERN_TRY(each.ctx, makeCtx(*out, *each.identity));
  }
  return out;
}

base::ConfigResult<std::shared_ptr<const ServerContext>> ServerContext::make(
    const ServerOptions& options) {
  ServerSettings settings;
  IdentitySource identity;
  identity.certificate_chain_pem = options.certificate_chain_pem;
  identity.private_key_pem = options.private_key_pem;
  POSTERN_TRY(auto loaded, Identity::load(identity));
  settings.identities.push_back(std::move(loaded));
  settings.alpn = options.alpn;
  settings.session_ids = false;
  settings.tickets = TicketKeys::rotating(base::systemClock());
  if (options.client_auth != ClientAuth::kNone) {
    TrustSource trust;
    trust.trusted_ca_pem = options.client_ca_pem;
    POSTERN_TRY(settings.trust, Trust::load(trust));
    settings.require_client_certificate = options.client_auth == ClientAuth::kRequire;
  }
  return makeServerContext(settings);
}

}  // namespace postern::tls
