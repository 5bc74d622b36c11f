#include "proxy/config_routes.h"

#include "base/strings.h"

namespace postern::proxy {

namespace {

bool readString(Fields& fields, StringMatch& out) {
  using Kind = StringMatch::Kind;
  for (auto [name, kind] :
       {std::pair{"exact", Kind::kExact}, std::pair{"prefix", Kind::kPrefix},
        std::pair{"suffix", Kind::kSuffix}, std::pair{"contains", Kind::kContains}}) {
    if (fields.get(name) == nullptr) continue;
    out = {kind, fields.text(name)};
    return true;
  }
  return false;
}

HeaderMatch readHeader(Fields fields) {
  HeaderMatch out;
  out.name = base::toLower(fields.text("name"));
  out.invert = fields.flag("invert_match", false);
  if (fields.get("string_match") != nullptr) {
    Fields value = fields.message("string_match");
    if (!readString(value, out.value)) value.fail("exact", "a string match is required");
    value.finish();
  } else {
    out.value.kind = StringMatch::Kind::kPresent;
    if (!fields.flag("present_match", true)) out.invert = !out.invert;
  }
  fields.finish();
  return out;
}

RouteMatch readRouteMatch(Fields fields) {
  RouteMatch out;
  if (fields.get("path") != nullptr) {
    out.kind = RouteMatch::Kind::kPath;
    out.path = fields.text("path");
  } else if (fields.get("path_separated_prefix") != nullptr) {
    out.kind = RouteMatch::Kind::kSeparatedPrefix;
    out.path = fields.text("path_separated_prefix");
  } else if (fields.get("prefix") != nullptr) {
    out.path = fields.text("prefix");
  } else {
    fields.fail("prefix", "a path match is required");
  }
  out.case_sensitive = fields.flag("case_sensitive", true);
  fields.list("headers", [&](Fields each) { out.headers.push_back(readHeader(std::move(each))); });
  fields.finish();
  return out;
}

void readAdded(Fields& owner, const char* name, HeaderMutation& out) {
  owner.list(name, [&](Fields option) {
    Fields header = option.message("header");
    const std::string action = option.text("append_action", "APPEND_IF_EXISTS_OR_ADD");
    const bool overwrite = action == "OVERWRITE_IF_EXISTS_OR_ADD";
    if (!overwrite && action != "APPEND_IF_EXISTS_OR_ADD")
      option.fail("append_action", "\"" + action + "\" is not supported");
    HeaderValue value{base::toLower(header.text("key")), header.text("value"), !overwrite};
    if (value.value.find('%') != std::string::npos)
      header.fail("value", "format operators are not supported");
    out.add.push_back(std::move(value));
    header.finish();
    option.finish();
  });
}

ClusterAction readAction(Fields fields) {
  ClusterAction out;
  if (fields.get("cluster") != nullptr) out.clusters.push_back({fields.text("cluster"), 1});
  Fields weighted = fields.message("weighted_clusters");
  readWeighted(weighted, out.clusters);
  if (out.clusters.empty()) fields.fail("cluster", "is required");
  out.prefix_rewrite = fields.text("prefix_rewrite");
  out.host_rewrite = fields.text("host_rewrite_literal");
  out.timeout = fields.duration("timeout", out.timeout);
  fields.finish();
  return out;
}

Redirect readRedirect(Fields fields) {
  Redirect out{fields.text("host_redirect"), fields.text("path_redirect"),
               fields.text("prefix_rewrite"), 301, fields.flag("https_redirect", false)};
  const std::string code = fields.text("response_code", "MOVED_PERMANENTLY");
  if (code == "FOUND") {
    out.status = 302;
  } else if (code == "SEE_OTHER") {
    out.status = 303;
  } else if (code == "TEMPORARY_REDIRECT") {
    out.status = 307;
  } else if (code == "PERMANENT_REDIRECT") {
    out.status = 308;
  } else if (code != "MOVED_PERMANENTLY") {
    fields.fail("response_code", "\"" + code + "\" is not supported");
  }
  fields.finish();
  return out;
}

Route readRoute(Fields fields) {
  Route out;
  out.name = fields.text("name");
  fields.accept({"decorator", "metadata"});
  out.match = readRouteMatch(fields.message("match"));
  readAdded(fields, "request_headers_to_add", out.request);
  readAdded(fields, "response_headers_to_add", out.response);
  out.request.remove = fields.texts("request_headers_to_remove");
  out.response.remove = fields.texts("response_headers_to_remove");
  if (fields.get("route") != nullptr) {
    out.action = readAction(fields.message("route"));
  } else if (fields.get("redirect") != nullptr) {
    out.action = readRedirect(fields.message("redirect"));
  } else if (fields.get("direct_response") != nullptr) {
    Fields direct = fields.message("direct_response");
    Fields body = direct.message("body");
    out.action = DirectResponse{static_cast<int>(direct.number("status", 200, 599)),
                                body.text("inline_string")};
    body.finish();
    direct.finish();
  } else {
    fields.fail("route", "an action is required");
  }
  fields.finish();
  return out;
}

}  // namespace

void readWeighted(Fields& fields, std::vector<WeightedCluster>& out) {
  fields.list("clusters", [&](Fields each) {
    out.push_back(
        {each.text("name"), static_cast<std::uint32_t>(each.number("weight", 0, 1000000))});
    each.finish();
  });
  fields.accept({"total_weight"});
  fields.finish();
}

RouteTable readRoutes(Fields fields) {
  RouteTable out;
  out.name = fields.text("name");
  fields.accept({"validate_clusters", "max_direct_response_body_size_bytes"});
  out.ignore_port = fields.flag("ignore_port_in_host_matching", false);
  fields.list("virtual_hosts", [&](Fields each) {
    VirtualHost host{each.text("name"), each.texts("domains"), {}};
    for (std::string& domain : host.domains) domain = base::toLower(domain);
    if (host.domains.empty()) each.fail("domains", "is required");
    each.accept({"include_request_attempt_count"});
    each.list("routes", [&](Fields route) { host.routes.push_back(readRoute(std::move(route))); });
    each.finish();
    out.hosts.push_back(std::move(host));
  });
  fields.finish();
  return out;
}

}  // namespace postern::proxy
