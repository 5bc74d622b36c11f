// What a VirtualService may not say.
#include "base/strings.h"
#include "model/check.h"
#include "model/host.h"
#include "model/parse.h"

#include <re2/re2.h>

#include <algorithm>
#include <initializer_list>
#include <set>

namespace postern::model {

using fields::at;
using fields::indexed;
using fields::items;
using fields::Json;
using fields::text;

namespace {

constexpr std::size_t kRegexBytesMax = 1024;
constexpr std::size_t kDirectBodyBytesMax = 1024 * 1024;

void checkStringMatch(Check& check, const Json& match, const std::string& path, bool empty_prefix) {
  if (!empty_prefix && at(match, "prefix").is_string() && text(match, "prefix").empty()) {
    check.add(path + ".prefix", "empty prefix match");
  }
  const std::string regex = text(match, "regex");
  if (regex.empty()) return;
  if (regex.size() > kRegexBytesMax) {
    return check.add(path + ".regex", "regex is too large, max length 1024");
  }
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 compiled(regex, options);
  if (!compiled.ok()) check.add(path + ".regex", "invalid regex: " + compiled.error());
}

void checkDestination(Check& check, const Json& destination, const std::string& path) {
  const std::string host = text(destination, "host");
  if (host.empty()) {
    check.add(path + ".host", "destination host is required");
  } else if (host == "*") {
    check.add(path + ".host", "invalid destination host *");
  } else {
    check.host(host, path + ".host", true);
  }
  if (const std::string subset = text(destination, "subset"); !subset.empty()) {
    check.dnsLabel(subset, path + ".subset");
  }
  if (const Json& port = at(destination, "port"); !port.is_null()) {
    check.port(at(port, "number"), path + ".port.number");
  }
}

bool validHeaderName(std::string_view name) {
  if (name.empty()) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

void checkHeaderName(Check& check, const std::string& name, const std::string& path,
                     bool of_request) {
  const bool authority = name == ":authority";
  const bool host = base::equalsIgnoreCase(name, "host");
  if (!of_request && (host || authority)) {
    check.add(path, "header \"" + name + "\" cannot be changed in a response");
  } else if (name.starts_with(":") && !(of_request && authority)) {
    check.add(path, "invalid header name \"" + name + "\": pseudo headers cannot be changed");
  } else if (!authority && !validHeaderName(name)) {
    check.add(path, "invalid header name \"" + name + "\"");
  }
}

void checkHeaders(Check& check, const Json& headers, const std::string& path) {
  for (const char* direction : {"request", "response"}) {
    const bool of_request = std::string_view(direction) == "request";
    const Json& ops = at(headers, direction);
    const std::string where = path + "." + direction;
    for (const char* key : {"set", "add"}) {
      const Json& map = at(ops, key);
      if (!map.is_object()) continue;
      for (const auto& [name, value] : map.items()) {
        const std::string at_name = where + "." + key + "[" + name + "]";
        checkHeaderName(check, name, at_name, of_request);
        if (text(value).find_first_of("\r\n") != std::string::npos ||
            text(value).find('\0') != std::string::npos) {
          check.add(at_name, "header value contains a line break or NUL");
        }
      }
    }
    std::size_t index = 0;
    for (const std::string& name : fields::texts(at(ops, "remove"))) {
      const std::string at_name = indexed(where + ".remove", index++);
      if (base::equalsIgnoreCase(name, "host")) {
        check.add(at_name, "header \"" + name + "\" cannot be removed");
      } else {
        checkHeaderName(check, name, at_name, false);
      }
    }
  }
}

bool setsAuthority(const Json& headers) {
  const Json& set = at(at(headers, "request"), "set");
  if (!set.is_object()) return false;
  for (const auto& [name, value] : set.items()) {
    if (name == ":authority" || base::equalsIgnoreCase(name, "host")) return true;
  }
  return false;
}

void checkRoute(Check& check, const Json& rule, const std::string& path) {
  double total = 0;
  std::size_t index = 0;
  const bool rewritten = !text(at(rule, "rewrite"), "authority").empty();
  for (const Json& item : items(at(rule, "route"))) {
    const std::string where = indexed(path + ".route", index++);
    checkDestination(check, at(item, "destination"), where + ".destination");
    const double weight = fields::number(at(item, "weight"));
    if (weight < 0) {
      check.add(where + ".weight", "weight " + at(item, "weight").dump() + " < 0");
    }
    total += weight;
    checkHeaders(check, at(item, "headers"), where + ".headers");
    if (setsAuthority(at(item, "headers")) && (rewritten || setsAuthority(at(rule, "headers")))) {
      check.add(where + ".headers.request.set", "the authority is rewritten in two places");
    }
  }
  if (index > 1 && total == 0) check.add(path + ".route", "total destination weight = 0");
  if (rewritten && setsAuthority(at(rule, "headers"))) {
    check.add(path + ".rewrite.authority", "the authority is rewritten in two places");
  }
}

bool onlyPrefixMatches(const Json& rule) {
  const auto& matches = items(at(rule, "match"));
  return !matches.empty() && std::all_of(matches.begin(), matches.end(), [](const Json& match) {
    return !text(at(match, "uri"), "prefix").empty();
  });
}

void checkRedirect(Check& check, const Json& rule, const std::string& path) {
  const Json& redirect = at(rule, "redirect");
  if (redirect.empty()) check.add(path, "redirect must say where to");
  const Json& code = at(redirect, "redirectCode");
  const double n = fields::number(code, 301);
  if (n != 0 && (n < 300 || n > 399)) {
    check.add(path + ".redirectCode",
              "redirect code " + code.dump() + " must be in the range 300..399");
  }
  if (const Json& port = at(redirect, "port"); !port.is_null()) check.port(port, path + ".port");
  const std::string scheme = text(redirect, "scheme");
  if (!scheme.empty() && scheme != "http" && scheme != "https") {
    check.add(path + ".scheme", "scheme \"" + scheme + "\" must be http or https");
  }
  if (text(redirect, "prefixRewrite").empty()) return;
  if (!text(redirect, "uri").empty()) {
    check.add(path + ".prefixRewrite", "uri and prefixRewrite exclude each other");
  }
  if (!onlyPrefixMatches(rule)) {
    check.add(path + ".prefixRewrite", "needs a prefix match of uri in each match");
  }
}

void checkDirectResponse(Check& check, const Json& direct, const std::string& path) {
  const double n = fields::number(at(direct, "status"));
  if (n < 200 || n > 599) {
    check.add(path + ".status",
              "status " + at(direct, "status").dump() + " must be in the range 200..599");
  }
  const Json& body = at(direct, "body");
  if (text(body, "string").size() > kDirectBodyBytesMax) {
    check.add(path + ".body.string", "body is larger than 1 MB");
  }
  const std::string encoded = text(body, "bytes");
  const auto bytes = base::base64Decode(encoded);
  if (!bytes) check.add(path + ".body.bytes", "body is not base64");
  if (bytes && bytes->size() > kDirectBodyBytesMax) {
    check.add(path + ".body.bytes", "body is larger than 1 MB");
  }
}

void checkActions(Check& check, const Json& rule, const std::string& path) {
  const bool route = !items(at(rule, "route")).empty();
  const bool redirect = at(rule, "redirect").is_object();
  const bool direct = at(rule, "directResponse").is_object();
  const bool delegate = at(rule, "delegate").is_object();
  if (!route && !redirect && !direct && !delegate) {
    check.add(path, "HTTP route, redirect or direct_response is required");
  }
  if ((redirect || direct) && route) {
    check.add(path, "HTTP route cannot contain both route and redirect or direct_response");
  }
  if (redirect && direct) {
    check.add(path, "HTTP route cannot contain both redirect and direct_response");
  }
  if (delegate && (redirect || direct || route)) {
    check.add(path + ".delegate",
              "a rule with delegate cannot have route, redirect or "
              "direct_response");
  }
  if ((redirect || direct) && at(rule, "rewrite").is_object()) {
    check.add(path + ".rewrite", "HTTP route rule cannot contain both rewrite and redirect");
  }
  if ((redirect || direct) && at(rule, "fault").is_object()) {
    check.add(path + ".fault", "HTTP route cannot contain both fault and redirect");
  }
  if (redirect) checkRedirect(check, rule, path + ".redirect");
  if (direct) checkDirectResponse(check, at(rule, "directResponse"), path + ".directResponse");
}

void checkFault(Check& check, const Json& fault, const std::string& path) {
  if (!fault.is_object()) return;
  const Json& delay = at(fault, "delay");
  const Json& abort = at(fault, "abort");
  if (!delay.is_object() && !abort.is_object()) {
    check.add(path, "HTTP fault injection must have an abort and/or a delay");
  }
  if (delay.is_object()) {
    if (!at(delay, "exponentialDelay").is_null()) {
      check.add(path + ".delay.exponentialDelay", "exponentialDelay is not supported");
    } else if (at(delay, "fixedDelay").is_null()) {
      check.add(path + ".delay.fixedDelay", "fixedDelay is required");
    }
    check.duration(delay, "fixedDelay", path + ".delay");
    check.percentage(at(delay, "percentage"), path + ".delay.percentage");
  }
  if (abort.is_object()) {
    check.percentage(at(abort, "percentage"), path + ".abort.percentage");
    if (!at(abort, "http2Error").is_null()) {
      check.add(path + ".abort.http2Error", "http2Error is not supported");
    }
    const Json& status = at(abort, "httpStatus");
    if (!status.is_null() && (fields::number(status) < 200 || fields::number(status) > 599)) {
      check.add(path + ".abort.httpStatus",
                "HTTP status " + status.dump() + " must be in the range 200..599");
    }
    if (status.is_null() && at(abort, "grpcStatus").is_null() &&
        at(abort, "http2Error").is_null()) {
      check.add(path + ".abort", "httpStatus or grpcStatus is required");
    }
  }
}

void checkRetries(Check& check, const Json& retries, const std::string& path) {
  if (!retries.is_object()) return;
  const Json& attempts = at(retries, "attempts");
  if (fields::number(attempts) < 0) check.add(path + ".attempts", "attempts cannot be negative");
  const bool others = !at(retries, "perTryTimeout").is_null() ||
                      !at(retries, "retryOn").is_null() ||
                      !at(retries, "retryRemoteLocalities").is_null();
  if (attempts.is_number() && fields::number(attempts) == 0 && others) {
    check.add(path + ".attempts", "attempts 0 excludes other retry fields");
  }
  check.duration(retries, "perTryTimeout", path);
  check.duration(retries, "backoff", path);
  static const std::set<std::string, std::less<>> kTokens{"5xx",
                                                          "gateway-error",
                                                          "reset",
                                                          "reset-before-request",
                                                          "connect-failure",
                                                          "retriable-4xx",
                                                          "refused-stream",
                                                          "retriable-status-codes",
                                                          "retriable-headers",
                                                          "envoy-ratelimited",
                                                          "http3-post-connect-failure",
                                                          "cancelled",
                                                          "deadline-exceeded",
                                                          "internal",
                                                          "resource-exhausted",
                                                          "unavailable"};
  const std::string written = text(retries, "retryOn");
  for (std::string_view token : base::split(written, ',')) {
    token = base::trim(token);
    const auto code = base::parseInteger<unsigned>(token);
    const bool status = code && *code >= 100 && *code <= 599;
    if (!token.empty() && !status && !kTokens.contains(token)) {
      check.add(path + ".retryOn", "unknown retry condition \"" + std::string(token) + "\"");
    }
  }
}

void checkHttpMatch(Check& check, const Json& match, const std::string& path) {
  checkStringMatch(check, at(match, "uri"), path + ".uri", true);
  for (const char* key : {"scheme", "method", "authority"}) {
    checkStringMatch(check, at(match, key), path + "." + key, false);
  }
  for (const char* key : {"headers", "withoutHeaders", "queryParams"}) {
    const Json& map = at(match, key);
    if (!map.is_object()) continue;
    for (const auto& [name, value] : map.items()) {
      const std::string where = path + "." + key + "[" + name + "]";
      checkStringMatch(check, value, where, false);
      if (std::string_view(key) != "queryParams" && !name.starts_with(":") &&
          !name.starts_with("@") && !validHeaderName(name)) {
        check.add(where, "invalid header name \"" + name + "\"");
      }
    }
  }
  if (!at(match, "port").is_null()) check.port(at(match, "port"), path + ".port");
}

void checkHttpRule(Check& check, const Json& rule, const std::string& path) {
  checkActions(check, rule, path);
  std::size_t index = 0;
  for (const Json& match : items(at(rule, "match"))) {
    checkHttpMatch(check, match, indexed(path + ".match", index++));
  }
  checkRoute(check, rule, path);
  checkHeaders(check, at(rule, "headers"), path + ".headers");
  check.duration(rule, "timeout", path);
  checkRetries(check, at(rule, "retries"), path + ".retries");
  checkFault(check, at(rule, "fault"), path + ".fault");
  if (!at(rule, "mirror").is_null() && !at(rule, "mirrors").is_null()) {
    check.add(path + ".mirrors", "mirror and mirrors exclude each other");
  }
  check.percentage(at(rule, "mirrorPercentage"), path + ".mirrorPercentage");
}

void checkL4Matches(Check& check, const Json& rule, const std::string& path, bool tls,
                    const std::vector<std::string>& hosts) {
  std::size_t m = 0;
  for (const Json& match : items(at(rule, "match"))) {
    const std::string where = indexed(path + ".match", m++);
    if (!at(match, "port").is_null()) check.port(at(match, "port"), where + ".port");
    std::size_t index = 0;
    for (const std::string& subnet : fields::texts(at(match, "destinationSubnets"))) {
      const std::string here = indexed(where + ".destinationSubnets", index++);
      if (!isCidr(subnet)) check.add(here, "\"" + subnet + "\" is neither an address nor a CIDR");
    }
    if (!tls) continue;
    const auto names = fields::texts(at(match, "sniHosts"));
    if (names.empty()) check.add(where + ".sniHosts", "TLS match must have at least one SNI host");
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::string here = indexed(where + ".sniHosts", i);
      check.host(names[i], here, true);
      const bool covered = std::any_of(hosts.begin(), hosts.end(), [&](const std::string& host) {
        return hostCovers(host, names[i]);
      });
      if (!covered) {
        check.add(here, "SNI host \"" + names[i] +
                            "\" is not covered by the hosts of the virtual service");
      }
    }
  }
}

void checkHosts(Check& check, const Json& spec) {
  const auto& hosts = items(at(spec, "hosts"));
  if (hosts.empty()) check.add("spec.hosts", "virtual service must have at least one host");
  const auto gateways = fields::texts(at(spec, "gateways"));
  const bool mesh =
      gateways.empty() || std::find(gateways.begin(), gateways.end(), "mesh") != gateways.end();
  std::set<std::string> seen;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const std::string host = text(hosts[i]);
    const std::string path = indexed("spec.hosts", i);
    check.host(host, path, true);
    if (!seen.insert(base::toLower(host)).second) {
      check.add(path, "duplicate hosts in virtual service: " + host);
    }
    if (host == "*" && mesh) {
      check.add(path,
                "wildcard host * is not allowed for virtual services bound to the mesh gateway");
    }
  }
  for (std::size_t i = 0; i < gateways.size(); ++i) {
    const std::string path = indexed("spec.gateways", i);
    const auto parts = base::split(gateways[i], '/');
    const bool scoped = parts.size() == 2 && (parts[0] == "." || isDnsLabel(parts[0]));
    if (parts.size() > 2 || (parts.size() == 2 && !scoped) || parts.back().empty()) {
      check.add(path, "invalid gateway \"" + gateways[i] + "\": must be name or namespace/name");
    }
  }
}

}  // namespace

void checkVirtualService(Check& check, const Json& spec) {
  checkHosts(check, spec);
  check.exportTo(spec);
  if (items(at(spec, "http")).empty() && items(at(spec, "tls")).empty() &&
      items(at(spec, "tcp")).empty()) {
    check.add("spec", "http, tcp or tls must be provided in virtual service");
  }
  std::size_t index = 0;
  for (const Json& rule : items(at(spec, "http"))) {
    checkHttpRule(check, rule, indexed("spec.http", index++));
  }
  const auto hosts = fields::texts(at(spec, "hosts"));
  for (const char* kind : {"tls", "tcp"}) {
    const bool tls = std::string_view(kind) == "tls";
    index = 0;
    for (const Json& rule : items(at(spec, kind))) {
      const std::string path = indexed(std::string("spec.") + kind, index++);
      if (items(at(rule, "route")).empty()) check.add(path + ".route", "route is required");
      checkRoute(check, rule, path);
      if (tls && items(at(rule, "match")).empty()) {
        check.add(path + ".match", "TLS route must have at least one match condition");
      }
      checkL4Matches(check, rule, path, tls, hosts);
    }
  }
}

}  // namespace postern::model
