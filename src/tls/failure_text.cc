// Why a handshake failed, in the words Envoy uses (those of its TLS library).
#include "base/strings.h"
#include "tls/context.h"

#include <set>

namespace postern::tls {
namespace {

struct Reason {
  int openssl;
  int boringssl;
};
/// Reasons whose numbers differ between the libraries; alerts (1000 and more) are the same.
constexpr Reason kReasons[] = {
    {SSL_R_CERTIFICATE_VERIFY_FAILED, 125},
    {SSL_R_NO_SHARED_CIPHER, 184},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, 192},
    {SSL_R_UNSUPPORTED_PROTOCOL, 240},
    {SSL_R_WRONG_VERSION_NUMBER, 247},
    {SSL_R_HTTP_REQUEST, 156},
};
constexpr unsigned long kSslLibrary = 16;
/// Texts there can be of one thread; more would be a sign that something not finite got into them.
constexpr std::size_t kTextsMax = 512;

const char* intern(std::string text) {
  thread_local std::set<std::string> texts;
  if (texts.size() >= kTextsMax && !texts.contains(text)) return "TLS_error:TLS_error_end";
  return texts.insert(std::move(text)).first->c_str();
}

std::string reasonName(unsigned long code) {
  const char* reason = ERR_reason_error_string(code);
  std::string out = reason == nullptr ? "unknown" : reason;
  for (char& c : out) c = c == ' ' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return out;
}

}  // namespace

const char* failureText(HandshakeState* state) {
  std::string out;
  while (const unsigned long code = ERR_get_error()) {
    if (ERR_GET_LIB(code) != ERR_LIB_SSL) continue;
    const int reason = ERR_GET_REASON(code);
    if (state != nullptr && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
      state->failure = Failure::kNoCertificate;
    unsigned long number = static_cast<unsigned long>(reason);
    for (const Reason& each : kReasons) {
      if (each.openssl == reason) number = static_cast<unsigned long>(each.boringssl);
    }
    out += "|" + std::to_string((kSslLibrary << 24) | number) +
           ":SSL routines:OPENSSL_internal:" + reasonName(code);
    if (state != nullptr && reason == SSL_R_CERTIFICATE_VERIFY_FAILED && !state->detail.empty())
      out += ":" + state->detail;
  }
  return intern("TLS_error:" + out + ":TLS_error_end");
}

}  // namespace postern::tls
