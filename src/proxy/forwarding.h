// What a proxy adds to and takes from the headers that pass it: hop-by-hop fields, x-forwarded-*,
// x-envoy-*, request ids, client certificates, server and date. Envoy's order. No I/O; allocates
// only for what an ordinary request does not need.
#pragma once

#include "base/clock.h"
#include "base/random.h"
#include "net/transport.h"
#include "proxy/http_config.h"

#include <string>
#include <string_view>

namespace postern::proxy {

/// The connection a request came on.
struct RequestSource {
  const net::Address& peer;
  std::string_view peer_ip;
  std::string_view local_ip;
  std::uint16_t local_port;
  const net::PeerInfo& tls;
  std::string_view service_cluster;  // of this proxy, for add_user_agent
  std::string_view service_node;
  bool says_scheme = false;  // HTTP/2: :scheme is the client's
};

struct ForwardingResult {
  std::string trusted_ip;  // from x-forwarded-for; empty: the peer itself
  bool internal = false;
  bool envoy_headers = false;  // x-envoy-* fields may be left
  int reject_status = 0;       // no address was found where one is demanded
  bool close = false;          // `proxy-connection: close`, of clients that mean their connection
};

/// The changes that come before everything else (early_header_mutation_extensions).
void mutateEarly(const HttpManager& config, const formatter::AccessRecord& record,
                 http::HeaderMap& headers);

/// How many fields have a '_' in their name; with kDrop they are removed.
std::size_t applyUnderscores(UnderscoreHeaders action, http::HeaderMap& headers);

/// Everything done to a request before its route is chosen.
ForwardingResult mutateRequest(const HttpManager& config, const RouteTable* routes,
                               const RequestSource& source, base::Random& random,
                               http::HeaderMap& headers);

/// The last changes of a response: hop-by-hop fields, via, date, server, request id.
void mutateResponse(const HttpManager& config, const http::HeaderMap& request, base::WallTime now,
                    http::HeaderMap& headers);

/// "Sun, 06 Nov 1994 08:49:37 GMT"; one text per second and thread.
std::string_view httpDate(base::WallTime now);

/// The kind of upgrade a request asks for, lower case: "websocket", "connect"; "" for none. HTTP/1
/// by Connection and Upgrade, HTTP/2 by extended CONNECT.
std::string upgradeType(const http::HeaderMap& headers);

}  // namespace postern::proxy
