// The connecting side: what it shows, whom it trusts, which sessions it resumes.
#include "tls/context.h"

namespace postern::tls {
namespace {

int onNewSession(SSL* ssl, SSL_SESSION* session) {
  const HandshakeState* state = HandshakeState::of(ssl);
  if (state == nullptr || state->sessions == nullptr) return 0;
  state->sessions->put(state->session_key, SessionPtr(session));
  return 1;  // ours now
}

}  // namespace

void SessionCache::put(const std::string& key, SessionPtr session) {
  if (sessions_max_ == 0) return;
  const std::lock_guard lock(mutex_);
  auto found = index_.find(key);
  if (found == index_.end()) {
    if (entries_.size() >= kDestinationsMax) {
      index_.erase(entries_.back().key);
      entries_.pop_back();
    }
    entries_.push_front({key, {}});
    found = index_.emplace(key, entries_.begin()).first;
  } else {
    entries_.splice(entries_.begin(), entries_, found->second);
  }
  auto& sessions = found->second->sessions;
  sessions.push_front(std::move(session));
  if (sessions.size() > sessions_max_) sessions.pop_back();
}

SessionPtr SessionCache::take(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = index_.find(key);
  if (found == index_.end() || found->second->sessions.empty()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  auto& sessions = found->second->sessions;
  SSL_SESSION* session = sessions.front().get();
  // RFC 8446 C.4: a ticket used twice would let others link the connections.
  if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION) {
    SessionPtr out = std::move(sessions.front());
    sessions.pop_front();
    return out;
  }
  SSL_SESSION_up_ref(session);
  return SessionPtr(session);
}

base::ConfigResult<std::shared_ptr<const ClientContext>> makeClientContext(
    const ClientSettings& settings) {
  auto out = std::make_shared<OpensslClientContext>(settings);
  out->ctx.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* ctx = out->ctx.get();
  if (ctx == nullptr) return base::failConfig("", lastError());
  POSTERN_TRY_VOID(applyParameters(ctx, settings.parameters, Side::kClient));
  POSTERN_TRY(out->alpn, alpnWire(settings.alpn));
  if (settings.identity != nullptr) {
    out->identity = std::static_pointer_cast<const LoadedIdentity>(settings.identity);
    POSTERN_TRY_VOID(useIdentity(ctx, *out->identity));
  }
  out->trust = std::static_pointer_cast<const LoadedTrust>(settings.trust);
  useTrust(ctx, out->trust.get(), out->verifies() ? SSL_VERIFY_PEER : SSL_VERIFY_NONE);
  if (settings.sessions_max > 0) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, onNewSession);
  } else {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  }
  if (!out->alpn.empty()) {
    SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char*>(out->alpn.data()),
                            static_cast<unsigned>(out->alpn.size()));
  }
  return out;
}

base::ConfigResult<std::shared_ptr<const ClientContext>> ClientContext::make(
    const ClientOptions& options) {
  ClientSettings settings;
  settings.parameters.version_max = Version::k13;
  settings.verify_name = options.verify;
  settings.alpn = options.alpn;
  settings.sessions_max = 0;
  settings.enforce_rsa_key_usage = false;
  if (!options.certificate_chain_pem.empty()) {
    IdentitySource identity;
    identity.certificate_chain_pem = options.certificate_chain_pem;
    identity.private_key_pem = options.private_key_pem;
    POSTERN_TRY(settings.identity, Identity::load(identity));
  }
  if (options.verify) {
    TrustSource trust;
    trust.trusted_ca_pem = options.ca_pem;
    trust.system_roots = options.ca_pem.empty();
    POSTERN_TRY(settings.trust, Trust::load(trust));
  }
  return makeClientContext(settings);
}

}  // namespace postern::tls
