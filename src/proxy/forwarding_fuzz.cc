// Headers of hostile requests and answers through everything the connection manager does to them.
// The first two bytes choose the settings; the rest is "name: value" lines, the first of them the
// path. What leaves has no hop-by-hop field, one request id, and survives a second hop.
#include "base/check.h"
#include "base/random.h"
#include "base/strings.h"
#include "proxy/forwarding.h"
#include "proxy/path_normalize.h"
#include "proxy/route_config.h"

#include <cstdint>
#include <string>
#include <string_view>

using namespace postern;         // NOLINT(google-build-using-namespace): a program of its own
using namespace postern::proxy;  // NOLINT(google-build-using-namespace)

namespace {

HttpManager settings(unsigned bits, unsigned more) {
  HttpManager out;
  out.use_remote_address = (bits & 1) != 0;
  out.trusted_hops = (bits >> 1) & 3;
  out.skip_xff_append = (bits & 8) != 0;
  out.append_forwarded_port = (bits & 16) != 0;
  if ((bits & 32) != 0) out.via = "postern";
  if ((bits & 64) != 0) out.scheme_overwrite = "https";
  out.generate_request_id = (bits & 128) == 0;
  out.preserve_external_request_id = (more & 1) != 0;
  out.request_id_in_response = (more & 2) != 0;
  out.client_certificate = static_cast<ClientCertificate>((more >> 2) % 5);
  out.certificate_details = {true, true, true, true};
  out.underscore_headers = static_cast<UnderscoreHeaders>((more >> 5) % 3);
  return out;
}

http::HeaderMap readHeaders(std::string_view text, http::HeaderMap out) {
  for (const std::string_view line : base::split(text, '\n')) {
    const std::size_t colon = line.find(':', 1);
    if (colon == std::string_view::npos) continue;
    const std::string name = base::toLower(line.substr(0, colon));
    if (name.starts_with(':')) {
      out.set(name, line.substr(colon + 1));
    } else {
      out.add(name, line.substr(colon + 1));
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const HttpManager config = settings(data[0], data[1]);
  base::Random random(7);
  const net::Address peer = *net::Address::fromIp("203.0.113.9", 1234);
  net::PeerInfo tls;
  tls.tls = (data[0] & 2) != 0;
  tls.subject = "CN=a,O=\"b;c\"";
  tls.uri_sans = {"spiffe://a/ns/b/sa/c"};
  tls.certificate_pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
  const RequestSource source{peer, "203.0.113.9", "198.51.100.1", 443, tls};
  http::HeaderMap request = readHeaders(
      text, {{":method", "GET"}, {":path", "/"}, {":authority", "a"}, {":scheme", "http"}});
  (void)upgradeType(request);
  const ForwardingResult result = mutateRequest(config, nullptr, source, random, request);
  if (!result.trusted_ip.empty()) POSTERN_CHECK(net::Address::fromIp(result.trusted_ip, 0));
  if (result.reject_status != 0) return 0;  // answered by ourselves
  POSTERN_CHECK(!request.has("keep-alive") && !request.has("proxy-connection"));
  (void)mutateRequest(config, nullptr, source, random, request);
  http::HeaderMap response = readHeaders(text, {{":status", "200"}});
  mutateResponse(config, request, base::WallTime(std::chrono::seconds(784111777)), response);
  POSTERN_CHECK(!response.has("keep-alive") && !response.has("proxy-connection"));
  return 0;
}
