#include "proxy/forwarding.h"

#include "base/strings.h"
#include "proxy/client_address.h"
#include "proxy/client_certificate.h"

#include <algorithm>
#include <ctime>
#include <vector>

namespace postern::proxy {

namespace {

constexpr std::string_view kExternalRemoved[] = {
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
};
constexpr std::string_view kEdgeRemoved[] = {
    "x-envoy-decorator-operation",     "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node", "x-envoy-original-path",
    "x-envoy-original-host",
};

/// Which of the fields that matter here a request has.
struct Seen {
  bool hop_by_hop = false;
  bool connection = false;
  bool te = false;
  bool upgrade = false;
  bool forwarded_for = false;
  bool forwarded_proto = false;
  bool certificate = false;
  bool referer = false;
  bool user_agent = false;
  bool request_id = false;
  bool envoy = false;
};

Seen look(const http::HeaderMap& headers) {
  Seen out;
  out.hop_by_hop = headers.has("keep-alive") || headers.has("http2-settings") ||
                   headers.has("proxy-connection") || headers.has("transfer-encoding");
  out.connection = headers.has("connection");
  out.te = headers.has("te");
  out.upgrade = headers.has("upgrade");
  out.forwarded_for = headers.has("x-forwarded-for");
  out.forwarded_proto = headers.has("x-forwarded-proto");
  out.certificate = headers.has("x-forwarded-client-cert");
  out.referer = headers.has("referer");
  out.user_agent = headers.has("user-agent");
  out.request_id = headers.has("x-request-id");
  constexpr std::string_view kEnvoy = "x-envoy-";
  for (std::size_t i = 0; i < headers.size() && !out.envoy; ++i)
    out.envoy = headers.at(i).name.starts_with(kEnvoy);
  return out;
}

/// One line, so that nobody behind us reads only the first or only the last (RFC 9110 5.3).
void joinForwardedFor(http::HeaderMap& headers) {
  int lines = 0;
  headers.each(
      [&](std::string_view name, std::string_view) { lines += name == "x-forwarded-for" ? 1 : 0; });
  if (lines > 1) headers.set("x-forwarded-for", *headers.joined("x-forwarded-for"));
}

/// Headers that `connection` names belong to this hop too.
void removeNominated(http::HeaderMap& headers, bool keep_upgrade) {
  const std::string all = headers.joined("connection").value_or("");
  std::string_view upgrade;  // as the sender wrote it: there are peers that compare with case
  for (std::string_view each : base::split(all, ',')) {
    const std::string_view spelled = base::trim(each);
    const std::string name = base::toLower(spelled);
    if (name.empty() || name.starts_with(':') || name == "close" || name == "te") continue;
    if (name == "upgrade" && keep_upgrade) {
      upgrade = spelled;
    } else {
      headers.remove(name);
    }
  }
  if (upgrade.empty()) {
    headers.remove("connection");
  } else {
    headers.set("connection", upgrade);
  }
}

void removeHopByHop(http::HeaderMap& headers, const Seen& seen) {
  const bool h2c = seen.upgrade && base::equalsIgnoreCase(headers.value("upgrade"), "h2c");
  const bool upgrade = seen.upgrade && !h2c && !upgradeType(headers).empty();
  if (seen.connection) removeNominated(headers, upgrade);
  if (seen.upgrade && !upgrade) headers.remove("upgrade");
  if (seen.te) {
    const std::string te = headers.joined("te").value_or("");
    const auto all = base::split(te, ',');
    const bool trailers = std::any_of(all.begin(), all.end(), [](std::string_view each) {
      return base::equalsIgnoreCase(base::trim(each.substr(0, each.find(';'))), "trailers");
    });
    if (trailers) {
      headers.set("te", "trailers");
    } else {
      headers.remove("te");
    }
  }
  if (!seen.hop_by_hop) return;
  for (const char* name : {"keep-alive", "proxy-connection", "transfer-encoding", "http2-settings"})
    headers.remove(name);
}

/// A referer that is no URL is dropped.
void cleanReferer(http::HeaderMap& headers) {
  const std::string_view value = headers.value("referer");
  const bool bad = std::any_of(value.begin(), value.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte <= 0x20 || byte >= 0x7f;
  });
  const bool relative = value.starts_with('/');
  const std::size_t scheme = value.find("://");
  const bool absolute = scheme != std::string_view::npos && scheme > 0 &&
                        value.size() > scheme + 3 && value[scheme + 3] != '/';
  if (bad || (!relative && !absolute)) headers.remove("referer");
}

void addUserAgent(const RequestSource& source, const Seen& seen, http::HeaderMap& headers) {
  if (source.service_cluster.empty()) return;
  headers.set("x-envoy-downstream-service-cluster", source.service_cluster);
  if (!seen.user_agent) headers.add("user-agent", source.service_cluster);
  if (!source.service_node.empty())
    headers.set("x-envoy-downstream-service-node", source.service_node);
}

void forwardedProto(const HttpManager& config, const RequestSource& source, const Seen& seen,
                    http::HeaderMap& headers) {
  const std::string_view transport = source.tls.tls ? "https" : "http";
  const bool trusted = !config.use_remote_address || config.trusted_hops > 0;
  if (!seen.forwarded_proto || !trusted) headers.set("x-forwarded-proto", transport);
  const std::string_view proto = headers.value("x-forwarded-proto");
  std::string_view scheme = transport;
  std::string said;
  if (!config.scheme_overwrite.empty()) {
    scheme = config.scheme_overwrite;
    headers.set("x-forwarded-proto", scheme);
  } else if (source.says_scheme && !headers.scheme().empty()) {
    said = base::toLower(headers.scheme());
    scheme = said;
  } else if (base::equalsIgnoreCase(proto, "https")) {
    scheme = "https";
  } else if (base::equalsIgnoreCase(proto, "http")) {
    scheme = "http";
  }
  if (headers.scheme() != scheme) headers.set(":scheme", scheme);
  if (config.append_forwarded_port && (!trusted || !headers.has("x-forwarded-port")))
    headers.set("x-forwarded-port", std::to_string(source.local_port));
}

void scrub(bool edge, http::HeaderMap& headers) {
  for (const std::string_view name : kExternalRemoved) headers.remove(name);
  if (edge) {
    for (const std::string_view name : kEdgeRemoved) headers.remove(name);
  }
}

}  // namespace

std::string upgradeType(const http::HeaderMap& headers) {
  if (headers.method() == "CONNECT") {
    const std::string_view protocol = headers.value(":protocol");
    return protocol.empty() ? "connect" : base::toLower(protocol);
  }
  if (!headers.has("upgrade")) return {};
  const std::string upgrade = *headers.joined("upgrade");  // of several none is what is allowed
  if (upgrade.empty()) return {};
  const auto connection = headers.joined("connection");
  if (!connection) return {};
  for (std::string_view each : base::split(*connection, ',')) {
    if (base::equalsIgnoreCase(base::trim(each), "upgrade")) return base::toLower(upgrade);
  }
  return {};
}

void mutateEarly(const HttpManager& config, const formatter::AccessRecord& record,
                 http::HeaderMap& headers) {
  for (const EarlyMutation& each : config.early_mutations) {
    if (!each.by_name) {
      each.ops.apply(headers, record);
      continue;
    }
    std::vector<std::string> names;
    headers.each([&](std::string_view name, std::string_view) {
      if (!name.starts_with(':') && each.name.matches(name)) names.emplace_back(name);
    });
    for (const std::string& name : names) headers.remove(name);
  }
}

std::size_t applyUnderscores(UnderscoreHeaders action, http::HeaderMap& headers) {
  std::vector<std::string> names;
  headers.each([&](std::string_view name, std::string_view) {
    if (name.find('_') != std::string_view::npos) names.emplace_back(name);
  });
  if (action == UnderscoreHeaders::kDrop) {
    for (const std::string& name : names) headers.remove(name);
  }
  return names.size();
}

namespace {

/// Extends the list of those a message came through.
void appendVia(const std::string& name, http::HeaderMap& headers) {
  if (name.empty()) return;
  if (const auto before = headers.joined("via")) {
    headers.set("via", *before + ", " + name);
  } else {
    headers.add("via", name);
  }
}

}  // namespace

ForwardingResult mutateRequest(const HttpManager& config, const RouteTable* routes,
                               const RequestSource& source, base::Random& random,
                               http::HeaderMap& headers) {
  ForwardingResult out;
  const Seen seen = look(headers);
  if (seen.hop_by_hop)
    out.close = base::equalsIgnoreCase(headers.value("proxy-connection"), "close");
  if (seen.connection || seen.te || seen.upgrade || seen.hop_by_hop) removeHopByHop(headers, seen);
  if (seen.envoy) headers.remove("x-envoy-internal");
  if (seen.referer) cleanReferer(headers);
  if (seen.forwarded_for) joinForwardedFor(headers);
  findClientAddress(config, source, seen.forwarded_for, headers, out);
  forwardedProto(config, source, seen, headers);
  const bool edge = config.use_remote_address && !out.internal;
  if (out.internal) {
    headers.set("x-envoy-internal", "true");
  } else {
    if (seen.envoy) scrub(edge, headers);
    if (routes != nullptr) {
      for (const std::string& name : routes->internal_only_headers) headers.remove(name);
    }
  }
  out.envoy_headers = seen.envoy;
  if (config.add_user_agent) addUserAgent(source, seen, headers);
  appendVia(config.via, headers);
  if (edge) {
    headers.set("x-envoy-external-address",
                out.trusted_ip.empty() ? source.peer_ip : std::string_view(out.trusted_ip));
  }
  const bool replace = edge && !config.preserve_external_request_id;
  if (config.generate_request_id && (!seen.request_id || replace)) {
    char uuid[36];
    random.writeUuid(uuid);
    const std::string_view id(uuid, sizeof uuid);
    if (seen.request_id) {
      headers.set("x-request-id", id);
    } else {
      headers.add("x-request-id", id);
    }
  }
  if (seen.certificate || source.tls.tls) forwardCertificate(config, source.tls, headers);
  return out;
}

std::string_view httpDate(base::WallTime now) {
  thread_local std::int64_t kept_second = -1;
  thread_local char kept[32];
  const auto second =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  if (second != kept_second) {
    const auto when = static_cast<std::time_t>(second);
    std::tm utc{};
    ::gmtime_r(&when, &utc);
    std::strftime(kept, sizeof kept, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    kept_second = second;
  }
  return {kept, 29};
}

namespace {

/// Whether `connection` names other fields.
bool nominates(const http::HeaderMap& headers) {
  bool out = false;
  headers.each([&](std::string_view name, std::string_view value) {
    if (name != "connection") return;
    out |= !base::equalsIgnoreCase(value, "keep-alive") && !base::equalsIgnoreCase(value, "close");
  });
  return out;
}

}  // namespace

void mutateResponse(const HttpManager& config, const http::HeaderMap& request, base::WallTime now,
                    http::HeaderMap& headers) {
  const bool date = headers.has("date");
  const bool server = headers.has("server");
  const bool upgrade = headers.has("upgrade");
  const bool connection = headers.has("connection");
  const bool hop_by_hop = headers.has("te") || headers.has("keep-alive") ||
                          headers.has("proxy-connection") || headers.has("transfer-encoding");
  const int status = headers.status();
  if (connection && status != 101) {
    if (nominates(headers)) {
      removeNominated(headers, false);
    } else {
      headers.remove("connection");
    }
  }
  if (status == 204) headers.remove("content-length");  // RFC 9110 8.6
  if (upgrade && status != 101) headers.remove("upgrade");
  if (hop_by_hop) {
    for (const char* name : {"te", "keep-alive", "proxy-connection", "transfer-encoding"})
      headers.remove(name);
  }
  if (!date) headers.add("date", httpDate(now));
  switch (config.server_header) {
    case ServerHeader::kOverwrite:
      if (server) {
        headers.set("server", config.server_name);
      } else {
        headers.add("server", config.server_name);
      }
      break;
    case ServerHeader::kAppendIfAbsent:
      if (!server) headers.add("server", config.server_name);
      break;
    case ServerHeader::kPassThrough:
      break;
  }
  if (config.request_id_in_response) {
    if (const auto id = request.get("x-request-id")) headers.set("x-request-id", *id);
  }
  appendVia(config.via, headers);
}

}  // namespace postern::proxy
