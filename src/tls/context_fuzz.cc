// Certificates, keys and roots of anybody, as PEM in configuration: a context or a reason. The
// first byte says what the text is taken for.
#include "base/check.h"
#include "tls/tls.h"
#include "tls/x509.h"

#include <cstdint>
#include <string>

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  static const auto root = tls::makeRoot("fuzz", std::chrono::hours(1));
  POSTERN_CHECK(root.has_value());
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  tls::ServerOptions server;
  server.certificate_chain_pem = (data[0] & 1) != 0 ? text : root->certificate_pem;
  server.private_key_pem = (data[0] & 2) != 0 ? text : root->private_key_pem;
  if ((data[0] & 4) != 0) {
    server.client_ca_pem = text;
    server.client_auth = tls::ClientAuth::kRequire;
  }
  const auto made = tls::ServerContext::make(server);
  if (!made) POSTERN_CHECK(!made.error().message().empty());
  tls::ClientOptions client;
  client.ca_pem = text;
  (void)tls::ClientContext::make(client);
  (void)tls::publicKeyOf(text);
  (void)tls::verifyEs256(text, "message", text);
  return 0;
}
