#include "apiserver/discovery.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

const char* const kVerbs[] = {"create", "delete", "deletecollection", "get",
                              "list",   "patch",  "update",           "watch"};

Json verbs() { return Json(kVerbs); }

struct Subresource {
  std::string name;
  std::string group;
  std::string version;
  std::string kind;
  Json verbs;
};

std::vector<Subresource> subresources(const schema::Kind& k, const std::string& version) {
  std::vector<Subresource> out;
  if (k.status) out.push_back({"status", k.group, version, k.kind, {"get", "patch", "update"}});
  if (k.scale) out.push_back({"scale", "autoscaling", "v1", "Scale", {"get", "patch", "update"}});
  if (k.storage == "/pods") {
    for (const char* name : {"attach", "exec", "portforward"}) {
      std::string kind = name == std::string("exec")     ? "PodExecOptions"
                         : name == std::string("attach") ? "PodAttachOptions"
                                                         : "PodPortForwardOptions";
      out.push_back({name, "", "v1", kind, {"create", "get"}});
    }
    out.push_back({"log", "", "v1", "Pod", {"get"}});
    out.push_back({"eviction", "policy", "v1", "Eviction", {"create"}});
    out.push_back({"binding", "", "v1", "Binding", {"create"}});
  }
  if (k.storage == "/namespaces") out.push_back({"finalize", "", "v1", "Namespace", {"update"}});
  if (k.storage == "/serviceaccounts") {
    out.push_back({"token", "authentication.k8s.io", "v1", "TokenRequest", {"create"}});
  }
  return out;
}

struct Review {
  const char* group;
  const char* plural;
  const char* kind;
};
constexpr Review kReviews[] = {
    {"authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"},
    {"authentication.k8s.io", "tokenreviews", "TokenReview"},
    {"authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"},
    {"authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"},
    {"authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"},
};

struct GroupVersions {
  std::string name;
  std::vector<std::string> versions;
};

std::vector<GroupVersions> groups(const Catalog& catalog) {
  std::vector<GroupVersions> out;
  auto add = [&](const std::string& group, const std::string& version) {
    auto it = std::find_if(out.begin(), out.end(), [&](const auto& g) { return g.name == group; });
    if (it == out.end()) it = out.insert(out.end(), GroupVersions{group, {}});
    if (std::find(it->versions.begin(), it->versions.end(), version) == it->versions.end()) {
      it->versions.push_back(version);
    }
  };
  for (const auto& served : catalog.all()) {
    if (served->kind.custom) continue;
    for (const std::string& v : served->kind.versions) add(served->kind.group, v);
  }
  for (const Review& r : kReviews) add(r.group, "v1");
  for (const auto& served : catalog.all()) {
    for (const std::string& v : served->kind.versions) add(served->kind.group, v);
  }
  return out;
}

bool serves(const schema::Kind& k, const std::string& group, const std::string& version) {
  return k.group == group &&
         std::find(k.versions.begin(), k.versions.end(), version) != k.versions.end();
}

Json resourceList(const Catalog& catalog, const std::string& group, const std::string& version) {
  Json resources = Json::array();
  for (const auto& served : catalog.all()) {
    const schema::Kind& k = served->kind;
    if (!serves(k, group, version)) continue;
    Json r = {{"name", k.plural},
              {"singularName", k.singular},
              {"namespaced", k.namespaced},
              {"kind", k.kind},
              {"verbs", verbs()}};
    if (!k.short_names.empty()) r["shortNames"] = k.short_names;
    if (!k.categories.empty()) r["categories"] = k.categories;
    resources.push_back(std::move(r));
    for (const Subresource& s : subresources(k, version)) {
      Json sub = {{"name", k.plural + "/" + s.name},
                  {"singularName", ""},
                  {"namespaced", k.namespaced},
                  {"kind", s.kind},
                  {"verbs", s.verbs}};
      if (s.group != k.group || s.version != version) {
        sub["group"] = s.group;
        sub["version"] = s.version;
      }
      resources.push_back(std::move(sub));
    }
  }
  for (const Review& r : kReviews) {
    if (group != r.group || version != "v1") continue;
    resources.push_back({{"name", r.plural},
                         {"singularName", ""},
                         {"namespaced", false},
                         {"kind", r.kind},
                         {"verbs", Json::array({"create"})}});
  }
  return {{"kind", "APIResourceList"},
          {"apiVersion", "v1"},
          {"groupVersion", group.empty() ? version : group + "/" + version},
          {"resources", std::move(resources)}};
}

Json aggregatedResource(const schema::Kind& k, const std::string& version) {
  Json r = {{"resource", k.plural},
            {"responseKind", {{"group", k.group}, {"version", version}, {"kind", k.kind}}},
            {"scope", k.namespaced ? "Namespaced" : "Cluster"},
            {"singularResource", k.singular},
            {"verbs", verbs()}};
  if (!k.short_names.empty()) r["shortNames"] = k.short_names;
  if (!k.categories.empty()) r["categories"] = k.categories;
  for (const Subresource& s : subresources(k, version)) {
    r["subresources"].push_back(
        {{"subresource", s.name},
         {"responseKind", {{"group", s.group}, {"version", s.version}, {"kind", s.kind}}},
         {"verbs", s.verbs}});
  }
  return r;
}

Json aggregated(const Catalog& catalog, bool core, const std::string& form) {
  Json items = Json::array();
  for (const GroupVersions& g : groups(catalog)) {
    if (g.name.empty() != core) continue;
    Json item = {{"metadata", Json::object()}, {"versions", Json::array()}};
    if (!core) item["metadata"]["name"] = g.name;
    for (const std::string& version : g.versions) {
      Json resources = Json::array();
      for (const auto& served : catalog.all()) {
        if (serves(served->kind, g.name, version)) {
          resources.push_back(aggregatedResource(served->kind, version));
        }
      }
      for (const Review& r : kReviews) {
        if (g.name != r.group || version != "v1") continue;
        resources.push_back(
            {{"resource", r.plural},
             {"responseKind", {{"group", r.group}, {"version", "v1"}, {"kind", r.kind}}},
             {"scope", "Cluster"},
             {"singularResource", ""},
             {"verbs", Json::array({"create"})}});
      }
      item["versions"].push_back(
          {{"version", version}, {"freshness", "Current"}, {"resources", std::move(resources)}});
    }
    items.push_back(std::move(item));
  }
  return {{"kind", "APIGroupDiscoveryList"},
          {"apiVersion", "apidiscovery.k8s.io/" + form},
          {"metadata", Json::object()},
          {"items", std::move(items)}};
}

Json groupJson(const GroupVersions& g) {
  Json versions = Json::array();
  for (const std::string& v : g.versions) {
    versions.push_back({{"groupVersion", g.name + "/" + v}, {"version", v}});
  }
  return {{"name", g.name}, {"versions", versions}, {"preferredVersion", versions.front()}};
}

Json version() {
  return {{"major", "1"},
          {"minor", "33"},
          {"gitVersion", "v1.33.0+postern"},
          {"gitCommit", "0000000000000000000000000000000000000000"},
          {"gitTreeState", "clean"},
          {"buildDate", "2025-01-01T00:00:00Z"},
          {"goVersion", "none"},
          {"compiler", "gcc"},
          {"platform", "linux/amd64"}};
}

Document reply(const Json& body) { return {200, "application/json", json::dump(body) + "\n"}; }

}  // namespace

std::optional<Document> discover(const Call& call, const Catalog& catalog) {
  const auto& p = call.path;
  if (p.empty()) {
    return reply({{"paths",
                   {"/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/openapi/v2",
                    "/openapi/v3", "/version"}}});
  }
  if (p[0] == "version") return reply(version());
  if (p[0] == "healthz" || p[0] == "livez" || p[0] == "readyz")
    return Document{200, "text/plain", "ok"};
  bool core = p[0] == "api";
  if (!core && p[0] != "apis") return std::nullopt;
  if (p.size() == 1) {
    std::string accept = call.accept();
    if (accept.find("as=APIGroupDiscoveryList") != std::string::npos) {
      std::size_t v2 = accept.find("v=v2;");
      std::string form = v2 != std::string::npos || accept.ends_with("v=v2") ? "v2" : "v2beta1";
      Document d = reply(aggregated(catalog, core, form));
      d.content_type =
          "application/json;g=apidiscovery.k8s.io;v=" + form + ";as=APIGroupDiscoveryList";
      return d;
    }
    if (core) {
      Json address = {{"clientCIDR", "0.0.0.0/0"},
                      {"serverAddress", std::string(call.request.headers.authority())}};
      return reply({{"kind", "APIVersions"},
                    {"versions", Json::array({"v1"})},
                    {"serverAddressByClientCIDRs", Json::array({address})}});
    }
    Json list = Json::array();
    for (const GroupVersions& g : groups(catalog)) {
      if (!g.name.empty()) list.push_back(groupJson(g));
    }
    return reply({{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", std::move(list)}});
  }
  std::string group = core ? "" : p[1];
  for (const GroupVersions& g : groups(catalog)) {
    if (g.name != group) continue;
    if (!core && p.size() == 2) {
      Json one = groupJson(g);
      one["kind"] = "APIGroup";
      one["apiVersion"] = "v1";
      return reply(one);
    }
    std::string v = core ? p[1] : p[2];
    if (std::find(g.versions.begin(), g.versions.end(), v) != g.versions.end()) {
      return reply(resourceList(catalog, group, v));
    }
  }
  return std::nullopt;
}

}  // namespace postern::apiserver
