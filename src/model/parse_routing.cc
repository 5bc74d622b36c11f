// Gateway, VirtualService, DestinationRule, Sidecar.
#include "base/strings.h"
#include "model/fields.h"
#include "model/host.h"
#include "model/parse.h"

#include <cstdio>

namespace postern::model {

using fields::at;
using fields::indexed;
using fields::items;
using fields::Json;
using fields::text;
using fields::unsignedOf;

std::string parseDuration(std::string_view written) {
  double seconds = 0;
  if (written.empty()) return "";
  while (!written.empty()) {
    const std::size_t digits = written.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos) return "";
    double amount = 0;
    const auto read = std::from_chars(written.data(), written.data() + digits, amount);
    if (read.ec != std::errc{} || read.ptr != written.data() + digits) return "";
    written.remove_prefix(digits);
    const std::size_t letters = std::min(written.find_first_of("0123456789."), written.size());
    const std::string_view unit = written.substr(0, letters);
    written.remove_prefix(letters);
    const double scale = unit == "h"    ? 3600
                         : unit == "m"  ? 60
                         : unit == "s"  ? 1
                         : unit == "ms" ? 1e-3
                         : unit == "us" ? 1e-6
                         : unit == "ns" ? 1e-9
                                        : 0;
    if (scale == 0) return "";
    seconds += amount * scale;
  }
  if (seconds >= 9223372036.0) return "";  // no more than Go, and Envoy, take
  char buffer[48];
  const int n = std::snprintf(buffer, sizeof buffer, "%.9f", seconds);
  std::string out(buffer, static_cast<std::size_t>(n));
  out.erase(out.find_last_not_of('0') + 1);
  if (out.ends_with('.')) out.pop_back();
  return out + "s";
}

Gateway parseGateway(const Json& object) {
  Gateway gateway;
  gateway.meta = parseMeta(object, "Gateway");
  const Json& spec = at(object, "spec");
  if (at(spec, "selector").is_object()) gateway.selector = fields::labels(at(spec, "selector"));
  std::size_t index = 0;
  for (const Json& item : items(at(spec, "servers"))) {
    Server server;
    server.path = indexed("spec.servers", index++);
    const Json& port = at(item, "port");
    server.port = unsignedOf(at(port, "number"));
    server.port_name = text(port, "name");
    server.protocol = parseProtocol(text(port, "protocol"));
    server.bind = text(item, "bind");
    const Json& tls = at(item, "tls");
    server.has_tls = tls.is_object();
    server.https_redirect = fields::truth(at(tls, "httpsRedirect"));
    server.hosts = fields::texts(at(item, "hosts"));
    gateway.servers.push_back(std::move(server));
  }
  return gateway;
}

namespace {

StringMatch stringMatch(const Json& value) {
  using Kind = StringMatch::Kind;
  if (at(value, "exact").is_string()) return {Kind::kExact, text(value, "exact")};
  if (at(value, "prefix").is_string()) return {Kind::kPrefix, text(value, "prefix")};
  const std::string regex = text(value, "regex");
  if (!regex.empty() && regex != "*") return {Kind::kRegex, regex};
  return {};
}
std::optional<StringMatch> optionalMatch(const Json& object, const char* key) {
  if (!at(object, key).is_object()) return std::nullopt;
  return stringMatch(at(object, key));
}
std::map<std::string, StringMatch> matchMap(const Json& value) {
  std::map<std::string, StringMatch> out;
  if (!value.is_object()) return out;
  for (const auto& [key, item] : value.items()) out.emplace(key, stringMatch(item));
  return out;
}
HeaderOps headerOps(const Json& value) {
  return {fields::labels(at(value, "set")), fields::labels(at(value, "add")),
          fields::texts(at(value, "remove"))};
}
Headers headersOf(const Json& value) {
  return {headerOps(at(value, "request")), headerOps(at(value, "response"))};
}

/// Names of gateways as "ns/name"; "mesh" stays.
std::vector<std::string> gatewayNames(const Json& value, const std::string& ns) {
  std::vector<std::string> out;
  for (std::string& name : fields::texts(value)) {
    if (name != "mesh" && name.find('/') == std::string::npos) {
      if (const auto dot = name.find('.'); dot != std::string::npos) {  // name.ns.svc…
        const auto end = name.find('.', dot + 1);
        name = name.substr(dot + 1, end == std::string::npos ? end : end - dot - 1) + "/" +
               name.substr(0, dot);
      } else {
        name = ns + "/" + name;
      }
    } else if (name.starts_with("./")) {
      name = ns + name.substr(1);
    }
    out.push_back(std::move(name));
  }
  return out;
}

std::vector<WeightedDestination> destinations(const Json& value, const std::string& ns,
                                              std::string_view domain) {
  std::vector<WeightedDestination> out;
  for (const Json& item : items(value)) {
    const Json& to = at(item, "destination");
    WeightedDestination destination;
    destination.destination = {completeHost(text(to, "host"), ns, domain), text(to, "subset"),
                               unsignedOf(at(at(to, "port"), "number"))};
    destination.weight = unsignedOf(at(item, "weight"));
    destination.headers = headersOf(at(item, "headers"));
    out.push_back(std::move(destination));
  }
  if (out.size() > 1) {
    std::erase_if(out, [](const WeightedDestination& d) { return d.weight == 0; });
  }
  return out;
}

HttpMatch httpMatch(const Json& item, std::string path, const std::string& ns) {
  HttpMatch match;
  match.path = std::move(path);
  match.name = text(item, "name");
  match.uri = optionalMatch(item, "uri");
  match.scheme = optionalMatch(item, "scheme");
  match.method = optionalMatch(item, "method");
  match.authority = optionalMatch(item, "authority");
  match.headers = matchMap(at(item, "headers"));
  match.without_headers = matchMap(at(item, "withoutHeaders"));
  match.query = matchMap(at(item, "queryParams"));
  match.port = unsignedOf(at(item, "port"));
  match.source_labels = fields::labels(at(item, "sourceLabels"));
  match.source_namespace = text(item, "sourceNamespace");
  match.gateways = gatewayNames(at(item, "gateways"), ns);
  match.ignore_case = fields::truth(at(item, "ignoreUriCase"));
  return match;
}

Redirect redirectOf(const Json& value) {
  Redirect out;
  out.uri = text(value, "uri");
  out.prefix_rewrite = text(value, "prefixRewrite");
  out.authority = text(value, "authority");
  out.scheme = text(value, "scheme");
  out.port = unsignedOf(at(value, "port"));
  if (text(value, "derivePort") == "FROM_PROTOCOL_DEFAULT") {
    out.port = out.scheme == "https" ? 443 : out.scheme == "http" ? 80 : 0;
  }
  const std::uint32_t code = unsignedOf(at(value, "redirectCode"));
  if (code != 0) out.code = code;
  return out;
}

Retries retriesOf(const Json& value) {
  Retries out;
  out.attempts = at(value, "attempts").is_number()
                     ? static_cast<std::int64_t>(fields::number(at(value, "attempts")))
                     : (value.size() == 0 ? 0 : 2);
  out.per_try_timeout = parseDuration(text(value, "perTryTimeout"));
  out.backoff = parseDuration(text(value, "backoff"));
  bool has_codes_token = false;
  std::vector<std::string> tokens;
  const std::string retry_on = text(value, "retryOn");
  for (std::string_view token : base::split(retry_on, ',')) {
    token = base::trim(token);
    if (token.empty()) continue;
    if (auto code = base::parseInteger<std::uint32_t>(token)) {
      out.status_codes.push_back(*code);
      continue;
    }
    has_codes_token = has_codes_token || token == "retriable-status-codes";
    tokens.emplace_back(token);
  }
  if (!out.status_codes.empty() && !has_codes_token) tokens.emplace_back("retriable-status-codes");
  out.retry_on = base::join(tokens, ",");
  return out;
}

double percentOf(const Json& value) {
  if (at(value, "percentage").is_object()) {
    return fields::number(at(at(value, "percentage"), "value"));
  }
  return fields::number(at(value, "percent"));
}

Fault faultOf(const Json& value) {
  Fault out;
  const Json& delay = at(value, "delay");
  out.delay_percent = percentOf(delay);
  out.fixed_delay = parseDuration(text(delay, "fixedDelay"));
  const Json& abort = at(value, "abort");
  out.abort_percent = percentOf(abort);
  out.abort_status = unsignedOf(at(abort, "httpStatus"));
  out.abort_grpc_status = text(abort, "grpcStatus");
  return out;
}

HttpRule httpRule(const Json& item, std::string path, const std::string& ns,
                  std::string_view domain) {
  HttpRule rule;
  rule.path = std::move(path);
  rule.name = text(item, "name");
  std::size_t index = 0;
  for (const Json& match : items(at(item, "match"))) {
    rule.matches.push_back(httpMatch(match, indexed(rule.path + ".match", index++), ns));
  }
  rule.destinations = destinations(at(item, "route"), ns, domain);
  if (at(item, "redirect").is_object()) rule.redirect = redirectOf(at(item, "redirect"));
  if (const Json& rewrite = at(item, "rewrite"); rewrite.is_object()) {
    const Json& regex = at(rewrite, "uriRegexRewrite");
    rule.rewrite = Rewrite{text(rewrite, "uri"), text(rewrite, "authority"), text(regex, "match"),
                           text(regex, "rewrite")};
  }
  if (const Json& direct = at(item, "directResponse"); direct.is_object()) {
    DirectResponse response;
    response.status = unsignedOf(at(direct, "status"));
    const Json& body = at(direct, "body");
    if (at(body, "string").is_string()) response.text = text(body, "string");
    if (at(body, "bytes").is_string()) response.bytes = text(body, "bytes");
    rule.direct_response = std::move(response);
  }
  if (at(item, "retries").is_object()) rule.retries = retriesOf(at(item, "retries"));
  if (at(item, "fault").is_object()) rule.fault = faultOf(at(item, "fault"));
  rule.headers = headersOf(at(item, "headers"));
  rule.timeout = parseDuration(text(item, "timeout"));
  return rule;
}

L4Rule l4Rule(const Json& item, std::string path, const std::string& ns, std::string_view domain) {
  L4Rule rule;
  rule.path = std::move(path);
  for (const Json& match : items(at(item, "match"))) {
    rule.matches.push_back(
        {fields::texts(at(match, "sniHosts")), fields::texts(at(match, "destinationSubnets")),
         unsignedOf(at(match, "port")), fields::labels(at(match, "sourceLabels")),
         text(match, "sourceNamespace"), gatewayNames(at(match, "gateways"), ns)});
  }
  rule.destinations = destinations(at(item, "route"), ns, domain);
  return rule;
}

}  // namespace

VirtualService parseVirtualService(const Json& object, std::string_view domain) {
  VirtualService out;
  out.meta = parseMeta(object, "VirtualService");
  const std::string& ns = out.meta.origin.ns;
  const Json& spec = at(object, "spec");
  for (const std::string& host : fields::texts(at(spec, "hosts"))) {
    out.hosts.push_back(completeHost(host, ns, domain));
  }
  out.gateways = gatewayNames(at(spec, "gateways"), ns);
  if (out.gateways.empty()) out.gateways.emplace_back("mesh");
  out.export_to = fields::texts(at(spec, "exportTo"));
  std::size_t index = 0;
  for (const Json& item : items(at(spec, "http"))) {
    out.http.push_back(httpRule(item, indexed("spec.http", index++), ns, domain));
  }
  index = 0;
  for (const Json& item : items(at(spec, "tls"))) {
    out.tls.push_back(l4Rule(item, indexed("spec.tls", index++), ns, domain));
  }
  index = 0;
  for (const Json& item : items(at(spec, "tcp"))) {
    out.tcp.push_back(l4Rule(item, indexed("spec.tcp", index++), ns, domain));
  }
  return out;
}

namespace {

std::optional<std::uint32_t> limitOf(const Json& value) {
  if (!value.is_number()) return std::nullopt;
  return unsignedOf(value);
}

TrafficPolicy trafficPolicy(const Json& value) {
  TrafficPolicy out;
  const std::string simple = text(at(value, "loadBalancer"), "simple");
  if (simple == "LEAST_CONN") {
    out.balancer = "LEAST_REQUEST";
  } else if (simple == "PASSTHROUGH") {
    out.balancer = "CLUSTER_PROVIDED";
  } else if (simple == "RANDOM" || simple == "ROUND_ROBIN" || simple == "LEAST_REQUEST") {
    out.balancer = simple;
  }
  const Json& pool = at(value, "connectionPool");
  out.has_pool = pool.is_object();
  const Json& tcp = at(pool, "tcp");
  const Json& http = at(pool, "http");
  out.max_connections = limitOf(at(tcp, "maxConnections"));
  if (auto t = parseDuration(text(tcp, "connectTimeout")); !t.empty()) out.connect_timeout = t;
  if (auto t = parseDuration(text(tcp, "idleTimeout")); !t.empty()) out.tcp_idle_timeout = t;
  out.max_pending = limitOf(at(http, "http1MaxPendingRequests"));
  out.max_requests = limitOf(at(http, "http2MaxRequests"));
  out.max_retries = limitOf(at(http, "maxRetries"));
  out.max_requests_per_connection = limitOf(at(http, "maxRequestsPerConnection"));
  if (auto t = parseDuration(text(http, "idleTimeout")); !t.empty()) out.http_idle_timeout = t;
  out.upgrade_h2 = text(http, "h2UpgradePolicy") == "UPGRADE";
  return out;
}

PolicySet policySet(const Json& value) {
  PolicySet out;
  out.top = trafficPolicy(value);
  for (const Json& item : items(at(value, "portLevelSettings"))) {
    out.ports.push_back({unsignedOf(at(at(item, "port"), "number")), trafficPolicy(item)});
  }
  return out;
}

}  // namespace

DestinationRule parseDestinationRule(const Json& object, std::string_view domain) {
  DestinationRule out;
  out.meta = parseMeta(object, "DestinationRule");
  const Json& spec = at(object, "spec");
  out.host = completeHost(text(spec, "host"), out.meta.origin.ns, domain);
  out.policy = policySet(at(spec, "trafficPolicy"));
  out.export_to = fields::texts(at(spec, "exportTo"));
  std::size_t index = 0;
  for (const Json& item : items(at(spec, "subsets"))) {
    out.subsets.push_back({indexed("spec.subsets", index++), text(item, "name"),
                           fields::labels(at(item, "labels")),
                           policySet(at(item, "trafficPolicy"))});
  }
  const Json& selector = at(spec, "workloadSelector");
  if (selector.is_object()) out.workload_selector = fields::labels(at(selector, "matchLabels"));
  return out;
}

Sidecar parseSidecar(const Json& object) {
  Sidecar out;
  out.meta = parseMeta(object, "Sidecar");
  const Json& spec = at(object, "spec");
  const Json& selector = at(spec, "workloadSelector");
  if (selector.is_object()) out.selector = fields::labels(at(selector, "labels"));
  for (const Json& item : items(at(spec, "egress"))) {
    out.egress.push_back(
        {unsignedOf(at(at(item, "port"), "number")), fields::texts(at(item, "hosts"))});
  }
  const Json& policy = at(spec, "outboundTrafficPolicy");
  if (policy.is_object()) out.allow_any = text(policy, "mode") == "ALLOW_ANY";
  return out;
}

}  // namespace postern::model
