#include "discovery/http_route.h"

#include "model/host.h"

#include <algorithm>
#include <cmath>

namespace postern::discovery {

using json::Json;
using model::StringMatch;

namespace {

Json stringMatcher(const StringMatch& match, bool ignore_case) {
  Json out;
  switch (match.kind) {
    case StringMatch::Kind::kExact:
      out["exact"] = match.value;
      break;
    case StringMatch::Kind::kPrefix:
      out["prefix"] = match.value;
      break;
    case StringMatch::Kind::kRegex:
      out["safe_regex"] = {{"regex", match.value}};
      return out;
    case StringMatch::Kind::kPresent:
      return out;
  }
  if (ignore_case) out["ignore_case"] = true;
  return out;
}

bool present(const StringMatch& match) {
  return match.kind == StringMatch::Kind::kPresent || match.value.empty();
}

Json headerMatch(const std::string& name, const StringMatch& match, bool invert) {
  Json out = {{"name", name}};
  if (present(match)) {
    out["present_match"] = true;
  } else {
    out["string_match"] = stringMatcher(match, false);
    if (invert) out["treat_missing_header_as_empty"] = true;
  }
  if (invert) out["invert_match"] = true;
  return out;
}

Json routeMatch(const model::HttpMatch& match) {
  Json out;
  if (!match.uri || match.uri->value.empty()) {
    out["prefix"] = "/";
  } else if (match.uri->kind == StringMatch::Kind::kExact) {
    out["path"] = match.uri->value;
  } else if (match.uri->kind == StringMatch::Kind::kPrefix) {
    out["prefix"] = match.uri->value;
  } else {
    out["safe_regex"] = {{"regex", match.uri->value}};
  }
  if (match.ignore_case && !out.contains("safe_regex")) out["case_sensitive"] = false;
  Json headers = Json::array();
  for (const auto& [name, value] : match.headers) {
    headers.push_back(headerMatch(name, value, false));
  }
  for (const auto& [name, value] : match.without_headers) {
    headers.push_back(headerMatch(name, value, true));
  }
  if (match.method) headers.push_back(headerMatch(":method", *match.method, false));
  if (match.authority) headers.push_back(headerMatch(":authority", *match.authority, false));
  if (match.scheme) headers.push_back(headerMatch(":scheme", *match.scheme, false));
  if (!headers.empty()) out["headers"] = std::move(headers);
  Json query = Json::array();
  for (const auto& [name, value] : match.query) {
    Json item = {{"name", name}};
    if (present(value)) {
      item["present_match"] = true;
    } else {
      item["string_match"] = stringMatcher(value, false);
    }
    query.push_back(std::move(item));
  }
  if (!query.empty()) out["query_parameters"] = std::move(query);
  return out;
}

bool isHost(std::string_view name) {
  return name == "host" || name == "Host" || name == ":authority";
}

/// Adds header operations to a route or weighted cluster. A set of Host is not a header operation.
void addHeaderOps(Json& target, const model::HeaderOps& ops, const std::string& direction) {
  Json add = Json::array();
  auto append = [&](const model::Labels& entries, const char* action) {
    for (const auto& [name, value] : entries) {
      if (isHost(name)) continue;
      add.push_back({{"header", {{"key", name}, {"value", value}}}, {"append_action", action}});
    }
  };
  append(ops.set, "OVERWRITE_IF_EXISTS_OR_ADD");
  append(ops.add, "APPEND_IF_EXISTS_OR_ADD");
  const std::string to_add = direction + "_headers_to_add";
  const std::string to_remove = direction + "_headers_to_remove";
  for (Json& item : add) target[to_add].push_back(std::move(item));
  for (const std::string& name : ops.remove) target[to_remove].push_back(name);
}

void addHeaders(Json& target, const model::Headers& headers) {
  addHeaderOps(target, headers.request, "request");
  addHeaderOps(target, headers.response, "response");
}

std::string hostSet(const model::Headers& headers) {
  for (const auto& [name, value] : headers.request.set) {
    if (isHost(name)) return value;
  }
  return "";
}

Json retryPolicy(const std::optional<model::Retries>& retries) {
  Json policy = shapes::defaultRetryPolicy();
  if (!retries) return policy;
  if (retries->attempts <= 0) return nullptr;
  policy["num_retries"] = retries->attempts;
  if (!retries->retry_on.empty()) policy["retry_on"] = retries->retry_on;
  if (!retries->status_codes.empty()) policy["retriable_status_codes"] = retries->status_codes;
  if (!retries->per_try_timeout.empty()) policy["per_try_timeout"] = retries->per_try_timeout;
  if (!retries->backoff.empty()) {
    policy["retry_back_off"] = {{"base_interval", retries->backoff}};
  }
  return policy;
}

/// The service's only port when the rule names none, else the listener's.
std::uint32_t destinationPort(const RouteContext& context, const model::Destination& to) {
  if (to.port != 0) return to.port;
  const model::Service* service = context.view.service(to.host);
  if (service != nullptr && service->ports.size() == 1) return service->ports[0].number;
  return context.port;
}

void addRewrite(Json& action, const model::Rewrite& rewrite, const StringMatch* uri) {
  if (!rewrite.authority.empty()) action["host_rewrite_literal"] = rewrite.authority;
  if (!rewrite.regex.empty()) {
    action["regex_rewrite"] = {{"pattern", {{"regex", rewrite.regex}}},
                               {"substitution", rewrite.regex_substitution}};
  } else if (!rewrite.uri.empty()) {
    if (uri != nullptr && uri->kind == StringMatch::Kind::kRegex) {
      action["regex_rewrite"] = {{"pattern", {{"regex", ".*"}}}, {"substitution", rewrite.uri}};
    } else {
      action["prefix_rewrite"] = rewrite.uri;
    }
  }
}

Json redirectAction(const model::Redirect& redirect) {
  Json out;
  if (!redirect.uri.empty()) out["path_redirect"] = redirect.uri;
  if (!redirect.prefix_rewrite.empty()) out["prefix_rewrite"] = redirect.prefix_rewrite;
  if (!redirect.authority.empty()) out["host_redirect"] = redirect.authority;
  if (!redirect.scheme.empty()) out["scheme_redirect"] = redirect.scheme;
  const bool is_default = (redirect.scheme == "http" && redirect.port == 80) ||
                          (redirect.scheme == "https" && redirect.port == 443);
  if (redirect.port != 0 && !is_default) out["port_redirect"] = redirect.port;
  switch (redirect.code) {
    case 302:
      out["response_code"] = "FOUND";
      break;
    case 303:
      out["response_code"] = "SEE_OTHER";
      break;
    case 307:
      out["response_code"] = "TEMPORARY_REDIRECT";
      break;
    case 308:
      out["response_code"] = "PERMANENT_REDIRECT";
      break;
    default:
      out["response_code"] = "MOVED_PERMANENTLY";
  }
  return out;
}

Json forwardAction(const RouteContext& context, const model::HttpRule& rule, const StringMatch* uri,
                   Json& route) {
  Json action;
  std::string host = hostSet(rule.headers);
  if (rule.destinations.size() == 1) {
    const model::WeightedDestination& to = rule.destinations[0];
    action["cluster"] =
        shapes::clusterName(to.destination, destinationPort(context, to.destination));
    addHeaders(route, to.headers);
    if (std::string own = hostSet(to.headers); !own.empty()) host = own;
  } else {
    Json clusters = Json::array();
    for (const model::WeightedDestination& to : rule.destinations) {
      Json entry = {
          {"name", shapes::clusterName(to.destination, destinationPort(context, to.destination))},
          {"weight", to.weight}};
      addHeaders(entry, to.headers);
      if (std::string own = hostSet(to.headers); !own.empty()) entry["host_rewrite_literal"] = own;
      clusters.push_back(std::move(entry));
    }
    action["weighted_clusters"] = {{"clusters", std::move(clusters)}};
  }
  action["timeout"] = rule.timeout.empty() ? "0s" : rule.timeout;
  if (Json policy = retryPolicy(rule.retries); !policy.is_null()) {
    action["retry_policy"] = std::move(policy);
  }
  if (rule.rewrite) addRewrite(action, *rule.rewrite, uri);
  if (!host.empty() && !action.contains("host_rewrite_literal")) {
    action["host_rewrite_literal"] = host;
  }
  return action;
}

Json fraction(double percent) {
  return {{"numerator", static_cast<std::uint32_t>(std::lround(percent * 10000))},
          {"denominator", "MILLION"}};
}

void addFault(Json& route, const model::Fault& fault) {
  Json fields;
  if (fault.delay_percent > 0 && !fault.fixed_delay.empty()) {
    fields["delay"] = {{"fixed_delay", fault.fixed_delay},
                       {"percentage", fraction(fault.delay_percent)}};
  }
  if (fault.abort_percent > 0 && fault.abort_status != 0) {
    fields["abort"] = {{"http_status", fault.abort_status},
                       {"percentage", fraction(fault.abort_percent)}};
  }
  if (fields.is_null()) return;
  route["typed_per_filter_config"]["envoy.filters.http.fault"] =
      shapes::typed("envoy.extensions.filters.http.fault.v3.HTTPFault", std::move(fields));
}

BuiltRoute buildRoute(const RouteContext& context, const model::VirtualService& vs,
                      const model::HttpRule& rule, const model::HttpMatch* match) {
  static const model::HttpMatch kAll;
  BuiltRoute out;
  out.origin = vs.meta.origin.at(match != nullptr ? match->path : rule.path);
  Json& route = out.config;
  std::string name = rule.name;
  if (match != nullptr && !match->name.empty()) {
    name += name.empty() ? match->name : "." + match->name;
  }
  if (!name.empty()) route["name"] = name;
  route["match"] = routeMatch(match != nullptr ? *match : kAll);
  out.catch_all = route["match"] == Json{{"prefix", "/"}} ||
                  route["match"] == Json{{"safe_regex", {{"regex", ".*"}}}};
  addHeaders(route, rule.headers);
  const StringMatch* uri = match != nullptr && match->uri ? &*match->uri : nullptr;
  if (rule.redirect) {
    route["redirect"] = redirectAction(*rule.redirect);
  } else if (rule.direct_response) {
    Json response = {{"status", rule.direct_response->status}};
    if (rule.direct_response->text) {
      response["body"] = {{"inline_string", *rule.direct_response->text}};
    } else if (rule.direct_response->bytes) {
      response["body"] = {{"inline_bytes", *rule.direct_response->bytes}};
    }
    route["direct_response"] = std::move(response);
  } else {
    route["route"] = forwardAction(context, rule, uri, route);
    if (!rule.destinations.empty()) {
      const model::Destination& to = rule.destinations[0].destination;
      route["decorator"] = {
          {"operation", to.host + ":" + std::to_string(destinationPort(context, to)) + "/*"}};
    }
  }
  if (rule.fault) addFault(route, *rule.fault);
  return out;
}

}  // namespace

bool appliesHere(const RouteContext& context, std::uint32_t port,
                 const std::vector<std::string>& gateways, const model::Labels& source_labels,
                 const std::string& source_namespace) {
  if (port != 0 && port != context.port) return false;
  if (!gateways.empty() &&
      std::find(gateways.begin(), gateways.end(), context.gateway) == gateways.end()) {
    return false;
  }
  if (!source_namespace.empty() && source_namespace != context.view.proxy().ns) return false;
  return source_labels.empty() || model::labelsContain(context.view.labels(), source_labels);
}

std::vector<BuiltRoute> httpRoutes(const RouteContext& context, const model::VirtualService& vs) {
  std::vector<BuiltRoute> out;
  for (const model::HttpRule& rule : vs.http) {
    if (rule.destinations.empty() && !rule.redirect && !rule.direct_response) continue;
    if (rule.matches.empty()) {
      out.push_back(buildRoute(context, vs, rule, nullptr));
      return out;
    }
    for (const model::HttpMatch& match : rule.matches) {
      if (!appliesHere(context, match.port, match.gateways, match.source_labels,
                       match.source_namespace)) {
        continue;
      }
      out.push_back(buildRoute(context, vs, rule, &match));
      if (out.back().catch_all) return out;
    }
  }
  return out;
}

const model::L4Rule* firstL4Rule(const RouteContext& context,
                                 const std::vector<model::L4Rule>& rules) {
  for (const model::L4Rule& rule : rules) {
    if (rule.destinations.empty()) continue;
    if (rule.matches.empty()) return &rule;
    for (const model::L4Match& match : rule.matches) {
      if (appliesHere(context, match.port, match.gateways, match.source_labels,
                      match.source_namespace)) {
        return &rule;
      }
    }
  }
  return nullptr;
}

}  // namespace postern::discovery
