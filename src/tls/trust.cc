#include "tls/trust.h"

#include "base/strings.h"
#include "tls/certificate_info.h"

#include <openssl/sha.h>

#include <algorithm>
#include <ctime>

namespace postern::tls {
namespace {

using InfosPtr = STACK_OF(X509_INFO) *;

constexpr std::uint32_t kDepthDefault = 100;
constexpr std::size_t kHashBytes = 32;

int stateIndex() {
  static const int kIndex = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return kIndex;
}

std::string hashOf(std::string_view bytes) {
  unsigned char out[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), out);
  return {reinterpret_cast<char*>(out), sizeof out};
}

/// True when there was a revocation list.
base::ConfigResult<bool> addPem(X509_STORE* store, const std::string& pem, const char* field,
                                bool certificates) {
  BioPtr bio = readBio(pem);
  InfosPtr all = PEM_X509_INFO_read_bio(bio.get(), nullptr, noPassword, nullptr);
  int found = 0;
  bool lists = false;
  for (int i = 0; i < sk_X509_INFO_num(all); ++i) {
    const X509_INFO* each = sk_X509_INFO_value(all, i);
    if (certificates && each->x509 != nullptr) {
      X509_STORE_add_cert(store, each->x509);
      ++found;
    }
    if (each->crl != nullptr) {
      X509_STORE_add_crl(store, each->crl);
      lists = true;
      if (!certificates) ++found;
    }
  }
  sk_X509_INFO_pop_free(all, X509_INFO_free);
  ERR_clear_error();
  if (found > 0) return lists;
  return base::failConfig(
      field, certificates ? "Failed to load trusted CA certificates" : "Failed to load CRL");
}

/// "AB:CD:…" or "abcd…": 32 bytes.
std::string hexBytes(std::string_view text) {
  std::string out;
  int high = -1;
  for (const char c : text) {
    if (c == ':' && high < 0) continue;
    const char lower = base::toLowerAscii(c);
    const int digit = lower >= '0' && lower <= '9'   ? lower - '0'
                      : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                                     : -1;
    if (digit < 0) return "";
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<char>(high * 16 + digit));
      high = -1;
    }
  }
  return high < 0 && out.size() == kHashBytes ? out : "";
}

base::ConfigResult<void> readHashes(const TrustSource& source, LoadedTrust& out) {
  for (std::size_t i = 0; i < source.certificate_hashes.size(); ++i) {
    std::string raw = hexBytes(source.certificate_hashes[i]);
    if (raw.empty()) {
      return base::failConfig("verify_certificate_hash[" + std::to_string(i) + "]",
                              "Invalid hex-encoded SHA-256 " + source.certificate_hashes[i]);
    }
    out.certificate_hashes.insert(std::move(raw));
  }
  for (std::size_t i = 0; i < source.spki_hashes.size(); ++i) {
    const auto raw = base::base64Decode(source.spki_hashes[i]);
    if (!raw || raw->size() != kHashBytes) {
      return base::failConfig("verify_certificate_spki[" + std::to_string(i) + "]",
                              "Invalid base64-encoded SHA-256 " + source.spki_hashes[i]);
    }
    out.spki_hashes.insert(*raw);
  }
  return {};
}

int ignoreExpiry(int ok, X509_STORE_CTX* context) {
  if (ok == 1) return 1;
  int error = X509_STORE_CTX_get_error(context);
  if (error == X509_V_OK) {
    error = X509_V_ERR_CERT_CHAIN_TOO_LONG;
    X509_STORE_CTX_set_error(context, error);
  }
  if (error != X509_V_ERR_CERT_HAS_EXPIRED && error != X509_V_ERR_CERT_NOT_YET_VALID) return 0;
  X509_STORE_CTX_set_error(context, X509_V_OK);
  return 1;
}

base::ConfigResult<void> makeStore(const TrustSource& source, LoadedTrust& out) {
  out.store.reset(X509_STORE_new());
  X509_STORE* store = out.store.get();
  if (source.system_roots && X509_STORE_set_default_paths(store) != 1)
    return base::failConfig("system_root_certs", "Failed to load system root certificates");
  // What is trusted by name need not be a root: an intermediate authority, a peer's own
  // certificate.
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
  bool revocations = false;
  if (!source.trusted_ca_pem.empty()) {
    POSTERN_TRY(revocations, addPem(store, source.trusted_ca_pem, "trusted_ca", true));
    const CertPtr first = readCertificate(source.trusted_ca_pem);
    if (first != nullptr) out.first_authority = describe(first.get());
    ERR_clear_error();
  }
  if (!source.crl_pem.empty()) {
    POSTERN_TRY(revocations, addPem(store, source.crl_pem, "crl", false));
  }
  if (revocations) {
    X509_STORE_set_flags(
        store, X509_V_FLAG_CRL_CHECK | (source.crl_of_leaf_only ? 0 : X509_V_FLAG_CRL_CHECK_ALL));
  }
  // Envoy's number counts the anchor, OpenSSL's does not; of 0 checkChain takes care.
  const std::uint32_t depth = source.depth_max.value_or(kDepthDefault);
  X509_STORE_set_depth(store, static_cast<int>(std::max(depth, 1U) - 1));
  if (source.allow_expired) X509_STORE_set_verify_cb(store, ignoreExpiry);
  return {};
}

bool sanMatches(X509* leaf, const SanMatcher& matcher) {
  for (const std::string& name : sanNames(leaf, matcher.type, matcher.oid)) {
    if (matcher.exact.empty()) {
      if (matcher.matches && matcher.matches(name)) return true;
    } else if (matcher.type == SanType::kDns ? dnsNameMatches(matcher.exact, name)
                                             : matcher.exact == name) {
      return true;
    }
  }
  return false;
}

bool hasSan(X509* leaf, const std::string& wanted) {
  const bool ip = net::Address::fromIp(wanted, 0).has_value();
  for (const std::string& name : sanNames(leaf, ip ? SanType::kIp : SanType::kDns)) {
    if (ip ? name == wanted : dnsNameMatches(wanted, name)) return true;
  }
  return false;
}

/// RFC 5280 4.2.1.3: what an RSA key is used for must be what it is meant for.
bool keyUsageFits(X509* leaf, const SSL* ssl) {
  const EVP_PKEY* key = X509_get0_pubkey(leaf);
  if (key == nullptr || EVP_PKEY_is_a(key, "RSA") != 1) return true;
  const std::uint32_t usage = X509_get_key_usage(leaf);
  if (usage == UINT32_MAX) return true;  // says nothing
  const SSL_CIPHER* cipher = SSL_get_pending_cipher(ssl);
  const bool encrypts = cipher != nullptr && SSL_CIPHER_get_kx_nid(cipher) == NID_kx_rsa;
  return (usage & (encrypts ? X509v3_KU_KEY_ENCIPHERMENT : X509v3_KU_DIGITAL_SIGNATURE)) != 0;
}

bool checkChain(X509_STORE_CTX* context, const LoadedTrust& trust, HandshakeState& state) {
  if (trust.store == nullptr) return true;
  const bool alone = trust.source.depth_max == 0U;
  if (X509_verify_cert(context) == 1 &&
      !(alone && sk_X509_num(X509_STORE_CTX_get0_chain(context)) > 1)) {
    state.validated = true;
    return true;
  }
  const int error = X509_STORE_CTX_get_error(context);
  state.failure = Failure::kUntrusted;
  state.detail = "verify cert failed: X509_verify_cert: certificate verification error at depth " +
                 std::to_string(X509_STORE_CTX_get_error_depth(context)) + ": " +
                 X509_verify_cert_error_string(error);
  if (!trust.source.accept_untrusted) return false;
  if (state.observer != nullptr) state.observer->onUntrusted();
  return true;
}

/// The time a session of this certificate may last: not beyond the certificate's own.
void limitSession(SSL* ssl, X509* leaf) {
  SSL_SESSION* session = SSL_get_session(ssl);
  const long left = static_cast<long>(secondsOf(X509_get0_notAfter(leaf)) - std::time(nullptr)) - 1;
  SSL_SESSION_set_timeout(session, std::clamp(left, 0L, SSL_SESSION_get_timeout(session)));
}

int verifyPeer(X509_STORE_CTX* context, void* argument) {
  const auto* trust = static_cast<const LoadedTrust*>(argument);
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  HandshakeState* state = HandshakeState::of(ssl);
  X509* leaf = X509_STORE_CTX_get0_cert(context);
  if (state == nullptr || leaf == nullptr || trust == nullptr) return 0;
  bool ok = checkChain(context, *trust, *state);
  if (!ok) return 0;  // with OpenSSL's reason, which becomes the alert
  ok = trust->accepts(leaf, *state) || trust->source.accept_untrusted;
  if (ok && !keyUsageFits(leaf, ssl)) {
    if (state->enforce_rsa_key_usage) {
      state->detail = "KEY_USAGE_BIT_INCORRECT";
      ok = false;
    } else if (state->observer != nullptr) {
      state->observer->onBadKeyUsage();
    }
  }
  if (!ok) state->validated = false;
  if (ok && trust->endsWithCertificate() && SSL_is_server(ssl) != 0) limitSession(ssl, leaf);
  // The code only chooses the alert: certificate_unknown.
  X509_STORE_CTX_set_error(context, ok ? X509_V_OK : X509_V_ERR_PERMITTED_VIOLATION);
  return ok ? 1 : 0;
}

}  // namespace

HandshakeState* HandshakeState::of(const SSL* ssl) {
  return static_cast<HandshakeState*>(SSL_get_ex_data(ssl, stateIndex()));
}
void HandshakeState::attach(SSL* ssl, HandshakeState* state) {
  SSL_set_ex_data(ssl, stateIndex(), state);
}

bool LoadedTrust::accepts(X509* leaf, HandshakeState& state) const {
  if (!state.required_san.empty() && !hasSan(leaf, state.required_san)) {
    state.failure = Failure::kSan;
    state.detail = "verify cert failed: SAN matcher, certificate SANs are " + sanList(leaf);
    return false;
  }
  // The name of the destination stands instead of the names that were configured.
  bool named = source.sans.empty() || !state.required_san.empty();
  for (const SanMatcher& each : source.sans) named = named || sanMatches(leaf, each);
  if (!named) {
    state.failure = Failure::kSan;
    state.detail = "verify cert failed: SAN matcher, certificate SANs are " + sanList(leaf);
    return false;
  }
  if (certificate_hashes.empty() && spki_hashes.empty()) return true;
  if (certificate_hashes.contains(sha256Of(leaf)) || spki_hashes.contains(spkiSha256(leaf))) {
    // A pinned certificate is known even where no chain was asked for.
    state.validated = state.validated || store == nullptr;
    return true;
  }
  state.failure = Failure::kHash;
  state.detail = "verify cert failed: cert hash and spki";
  return false;
}

bool LoadedTrust::stillVouches(const SSL_SESSION* session) const {
  const X509* leaf = SSL_SESSION_get0_peer(const_cast<SSL_SESSION*>(session));
  if (!endsWithCertificate() || leaf == nullptr) return true;
  return X509_cmp_timeframe(nullptr, X509_get0_notBefore(leaf), X509_get0_notAfter(leaf)) == 0;
}

base::ConfigResult<std::shared_ptr<const Trust>> Trust::load(const TrustSource& source) {
  auto out = std::make_shared<LoadedTrust>();
  const bool chain = !source.trusted_ca_pem.empty() || source.system_roots;
  if (!chain && !source.sans.empty()) {
    return base::failConfig("match_typed_subject_alt_names",
                            "SAN-based verification of peer certificates without trusted CA is "
                            "insecure and not allowed");
  }
  if (!chain && source.allow_expired) {
    return base::failConfig("allow_expired_certificate", "is only allowed with a trusted_ca");
  }
  if (!chain && !source.crl_pem.empty())
    return base::failConfig("crl", "is only allowed with a trusted_ca");
  POSTERN_TRY_VOID(readHashes(source, *out));
  if (chain) POSTERN_TRY_VOID(makeStore(source, *out));
  std::string all;
  const auto add = [&all](std::string_view text) {
    all += std::to_string(text.size()) + ":";
    all += text;
  };
  add(source.trusted_ca_pem);
  add(source.system_roots ? "system" : "");
  add(source.crl_pem);
  for (const std::string& each : out->certificate_hashes) add(each);
  for (const std::string& each : out->spki_hashes) add(each);
  for (const SanMatcher& each : source.sans) {
    add(std::to_string(static_cast<int>(each.type)) + each.oid + "=" + each.exact);
    add(each.pattern);
  }
  add(std::to_string(source.allow_expired) + std::to_string(source.accept_untrusted) +
      std::to_string(source.crl_of_leaf_only) +
      (source.depth_max ? std::to_string(*source.depth_max) : ""));
  out->fingerprint = hashOf(all);
  out->source = source;
  out->source.trusted_ca_pem.clear();
  out->source.crl_pem.clear();
  return out;
}

void useTrust(SSL_CTX* ctx, const LoadedTrust* trust, int mode) {
  SSL_CTX_set_verify(ctx, mode, nullptr);
  if (mode == SSL_VERIFY_NONE || trust == nullptr) return;
  if (trust->store != nullptr) SSL_CTX_set1_cert_store(ctx, trust->store.get());
  SSL_CTX_set_cert_verify_callback(ctx, verifyPeer, const_cast<LoadedTrust*>(trust));
}

}  // namespace postern::tls
