#include "tls/context.h"

#include <openssl/err.h>

namespace postern::tls {
namespace {

std::string lastError() {
  char text[256] = "unknown";
  unsigned long code = ERR_get_error();
  if (code != 0) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return text;
}

std::string alpnWire(const std::vector<std::string>& protocols) {
  std::string out;
  for (const std::string& protocol : protocols) {
    out.push_back(static_cast<char>(protocol.size()));
    out += protocol;
  }
  return out;
}

void setCommon(SSL_CTX* ctx) {
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_options(
      ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
}

base::ConfigResult<void> loadIdentity(SSL_CTX* ctx, const std::string& chain_pem,
                                      const std::string& key_pem) {
  BioPtr bio = readBio(chain_pem);
  CertPtr leaf(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (!leaf) return base::failConfig("certificate_chain", "not a PEM certificate: " + lastError());
  if (SSL_CTX_use_certificate(ctx, leaf.get()) != 1)
    return base::failConfig("certificate_chain", lastError());
  while (CertPtr next{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    if (SSL_CTX_add1_chain_cert(ctx, next.get()) != 1)
      return base::failConfig("certificate_chain", lastError());
  }
  ERR_clear_error();  // the end of the chain
  KeyPtr key = readKey(key_pem);
  if (!key) return base::failConfig("private_key", "not a PEM private key: " + lastError());
  if (SSL_CTX_use_PrivateKey(ctx, key.get()) != 1) {
    return base::failConfig("private_key", "does not belong to the certificate: " + lastError());
  }
  return {};
}

base::ConfigResult<void> loadRoots(SSL_CTX* ctx, const std::string& ca_pem, bool announce) {
  BioPtr bio = readBio(ca_pem);
  X509_STORE* store = SSL_CTX_get_cert_store(ctx);
  int count = 0;
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    CertPtr root(next);
    X509_STORE_add_cert(store, root.get());
    if (announce) SSL_CTX_add_client_CA(ctx, root.get());
    ++count;
  }
  ERR_clear_error();
  if (count == 0) return base::failConfig("trusted_ca", "no PEM certificate");
  return {};
}

int selectAlpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
               unsigned int in_size, void* argument) {
  const auto* context = static_cast<const OpensslServerContext*>(argument);
  unsigned char* chosen = nullptr;
  int result = SSL_select_next_proto(&chosen, out_size,
                                     reinterpret_cast<const unsigned char*>(context->alpn.data()),
                                     static_cast<unsigned>(context->alpn.size()), in, in_size);
  if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

base::ConfigResult<std::shared_ptr<const ServerContext>> ServerContext::make(
    const ServerOptions& options) {
  auto context = std::make_shared<OpensslServerContext>();
  context->ctx.reset(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* ctx = context->ctx.get();
  if (ctx == nullptr) return base::failConfig("", lastError());
  setCommon(ctx);
  POSTERN_TRY_VOID(loadIdentity(ctx, options.certificate_chain_pem, options.private_key_pem));
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  // Resumption must not outlive a change of trust: the id ties tickets to this context.
  const std::string id = "postern";
  SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const unsigned char*>(id.data()),
                                 static_cast<unsigned>(id.size()));
  if (options.client_auth != ClientAuth::kNone) {
    POSTERN_TRY_VOID(loadRoots(ctx, options.client_ca_pem, true));
    int mode = SSL_VERIFY_PEER;
    if (options.client_auth == ClientAuth::kRequire) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, mode, nullptr);
  }
  if (!options.alpn.empty()) {
    context->alpn = alpnWire(options.alpn);
    SSL_CTX_set_alpn_select_cb(ctx, selectAlpn, context.get());
  }
  return context;
}

base::ConfigResult<std::shared_ptr<const ClientContext>> ClientContext::make(
    const ClientOptions& options) {
  auto context = std::make_shared<OpensslClientContext>();
  context->ctx.reset(SSL_CTX_new(TLS_client_method()));
  context->verify = options.verify;
  SSL_CTX* ctx = context->ctx.get();
  if (ctx == nullptr) return base::failConfig("", lastError());
  setCommon(ctx);
  if (!options.certificate_chain_pem.empty()) {
    POSTERN_TRY_VOID(loadIdentity(ctx, options.certificate_chain_pem, options.private_key_pem));
  }
  if (options.verify) {
    if (options.ca_pem.empty()) {
      SSL_CTX_set_default_verify_paths(ctx);
    } else {
      POSTERN_TRY_VOID(loadRoots(ctx, options.ca_pem, false));
    }
  }
  SSL_CTX_set_verify(ctx, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (!options.alpn.empty()) {
    std::string wire = alpnWire(options.alpn);
    SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char*>(wire.data()),
                            static_cast<unsigned>(wire.size()));
  }
  return context;
}

}  // namespace postern::tls
