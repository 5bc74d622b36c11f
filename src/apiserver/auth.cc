#include "apiserver/auth.h"

#include "base/strings.h"
#include "tls/x509.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

constexpr const char* kIssuer = "https://kubernetes.default.svc.cluster.local";
const std::string kRbac = "rbac.authorization.k8s.io/";

long long seconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

bool listed(const Json& rule, const char* field, const std::string& value) {
  auto values = json::stringsAt(rule, field);
  return std::any_of(values.begin(), values.end(),
                     [&](const std::string& v) { return v == "*" || v == value; });
}

bool subjectIs(const Json& subject, const User& user, const std::string& binding_ns) {
  std::string kind = json::stringAt(subject, "kind");
  std::string name = json::stringAt(subject, "name");
  if (kind == "User") return name == user.name;
  if (kind == "Group") {
    return std::find(user.groups.begin(), user.groups.end(), name) != user.groups.end();
  }
  if (kind != "ServiceAccount") return false;
  std::string ns = json::stringAt(subject, "namespace", binding_ns);
  return user.name == "system:serviceaccount:" + ns + ":" + name;
}

Json userJson(const User& user) {
  Json info = {{"username", user.name}, {"groups", user.groups}};
  if (!user.uid.empty()) info["uid"] = user.uid;
  if (!user.extra.empty()) info["extra"] = user.extra;
  return info;
}

User userOf(const Json& spec) {
  User user;
  user.name = json::stringAt(spec, "user");
  user.groups = json::stringsAt(spec, "groups");
  return user;
}

Attributes attributesOf(const Json& spec) {
  Attributes a;
  const Json* r = json::find(spec, "resourceAttributes");
  if (r == nullptr) {
    a.verb = json::stringAt(spec, "nonResourceAttributes.verb");
    a.path = json::stringAt(spec, "nonResourceAttributes.path");
    return a;
  }
  a.verb = json::stringAt(*r, "verb");
  a.group = json::stringAt(*r, "group");
  a.resource = json::stringAt(*r, "resource");
  a.sub = json::stringAt(*r, "subresource");
  a.ns = json::stringAt(*r, "namespace");
  a.name = json::stringAt(*r, "name");
  return a;
}

}  // namespace

ApiResult<User> Auth::authenticate(const http::Request& request) const {
  std::string_view header = request.headers.value("authorization");
  if (header.starts_with("Bearer ")) {
    return checkToken(std::string(base::trim(header.substr(7))), {kIssuer});
  }
  User user;
  if (!request.peer.common_name.empty()) {
    user.name = request.peer.common_name;
    user.groups = request.peer.organizations;
    user.groups.emplace_back("system:authenticated");
    return user;
  }
  user.name = "system:anonymous";
  user.groups = {"system:unauthenticated"};
  return user;
}

ApiResult<User> Auth::checkToken(const std::string& token,
                                 const std::vector<std::string>& audiences) const {
  auto parts = base::split(token, '.');
  if (parts.size() != 3) return failed(unauthorized());
  auto signature = base::base64Decode(parts[2]);
  auto payload = base::base64Decode(parts[1]);
  std::string signed_part = std::string(parts[0]) + "." + std::string(parts[1]);
  if (!signature || !payload || !tls::verifyEs256(public_key_, signed_part, *signature)) {
    return failed(unauthorized());
  }
  auto claims = json::parse(*payload);
  if (!claims || json::integerAt(*claims, "exp") <= seconds(loop_.clock().wall())) {
    return failed(unauthorized());
  }
  auto has = json::stringsAt(*claims, "aud");
  bool meant = std::any_of(audiences.begin(), audiences.end(), [&](const std::string& a) {
    return std::find(has.begin(), has.end(), a) != has.end();
  });
  // Claims have dots in their names: no dotted look-ups below.
  auto kube = claims->find("kubernetes.io");
  if (!meant || kube == claims->end()) return failed(unauthorized());
  std::string ns = json::stringAt(*kube, "namespace");
  std::string name = json::stringAt(*kube, "serviceaccount.name");
  auto account = store_.get("/serviceaccounts", ns, name);
  User user;
  user.uid = json::stringAt(*kube, "serviceaccount.uid");
  if (!account || json::stringAt(*account, "metadata.uid") != user.uid) {
    return failed(unauthorized());
  }
  user.name = "system:serviceaccount:" + ns + ":" + name;
  user.groups = {"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"};
  std::string pod = json::stringAt(*kube, "pod.name");
  if (!pod.empty()) {
    user.extra["authentication.kubernetes.io/pod-name"] = Json::array({pod});
    user.extra["authentication.kubernetes.io/pod-uid"] =
        Json::array({json::stringAt(*kube, "pod.uid")});
  }
  return user;
}

ApiResult<Json> Auth::issueToken(const Call& call, Json request) const {
  auto account = store_.get("/serviceaccounts", call.ns, call.name);
  if (!account) return failed(notFound(call.served->kind, call.name));
  auto audiences = json::stringsAt(request, "spec.audiences");
  if (audiences.empty()) audiences = {kIssuer};
  long long lifetime = std::clamp(json::integerAt(request, "spec.expirationSeconds", 3600), 600LL,
                                  365LL * 24 * 3600);
  WallTime now = loop_.clock().wall();
  Json kube = {
      {"namespace", call.ns},
      {"serviceaccount", {{"name", call.name}, {"uid", json::stringAt(*account, "metadata.uid")}}}};
  if (json::stringAt(request, "spec.boundObjectRef.kind") == "Pod") {
    kube["pod"] = {{"name", json::stringAt(request, "spec.boundObjectRef.name")},
                   {"uid", json::stringAt(request, "spec.boundObjectRef.uid")}};
  }
  Json claims = {{"iss", kIssuer},
                 {"aud", audiences},
                 {"iat", seconds(now)},
                 {"nbf", seconds(now)},
                 {"exp", seconds(now) + lifetime},
                 {"sub", "system:serviceaccount:" + call.ns + ":" + call.name},
                 {"kubernetes.io", std::move(kube)}};
  std::string text = base::base64UrlEncode(R"({"alg":"ES256","typ":"JWT"})") + "." +
                     base::base64UrlEncode(json::dump(claims));
  auto signature = tls::signEs256(signing_key_, text);
  if (!signature) return failed(internal("cannot sign the token: " + signature.error().message()));
  request["kind"] = "TokenRequest";
  request["apiVersion"] = "authentication.k8s.io/v1";
  request["metadata"] = {{"name", call.name}, {"namespace", call.ns}};
  request["spec"]["audiences"] = audiences;
  request["spec"]["expirationSeconds"] = lifetime;
  request["status"] = {{"token", text + "." + base::base64UrlEncode(*signature)},
                       {"expirationTimestamp", formatTime(now + std::chrono::seconds(lifetime))}};
  return request;
}

std::vector<const Json*> Auth::rolesOf(const User& user, const std::string& ns,
                                       std::vector<store::ObjectPtr>& keep) const {
  std::vector<const Json*> roles;
  auto bind = [&](const store::ObjectPtr& binding, const std::string& binding_ns) {
    const Json* subjects = json::find(*binding, "subjects");
    if (subjects == nullptr || !subjects->is_array()) return;
    if (!std::any_of(subjects->begin(), subjects->end(),
                     [&](const Json& s) { return subjectIs(s, user, binding_ns); })) {
      return;
    }
    bool cluster = json::stringAt(*binding, "roleRef.kind") == "ClusterRole";
    auto role = store_.get(kRbac + (cluster ? "clusterroles" : "roles"), cluster ? "" : binding_ns,
                           json::stringAt(*binding, "roleRef.name"));
    if (!role) return;
    roles.push_back(role.get());
    keep.push_back(std::move(role));
  };
  for (const auto& b : store_.list(kRbac + "clusterrolebindings")) bind(b, "");
  if (!ns.empty()) {
    for (const auto& b : store_.list(kRbac + "rolebindings", ns)) bind(b, ns);
  }
  return roles;
}

bool Auth::roleAllows(const Json& role, const Attributes& a) const {
  const Json* rules = json::find(role, "rules");
  if (rules == nullptr || !rules->is_array()) return false;
  return std::any_of(rules->begin(), rules->end(), [&](const Json& rule) {
    if (!listed(rule, "verbs", a.verb)) return false;
    if (!a.path.empty()) {
      auto urls = json::stringsAt(rule, "nonResourceURLs");
      return std::any_of(urls.begin(), urls.end(), [&](const std::string& u) {
        return u == a.path || (u.ends_with('*') && a.path.starts_with(u.substr(0, u.size() - 1)));
      });
    }
    std::string resource = a.sub.empty() ? a.resource : a.resource + "/" + a.sub;
    bool named = listed(rule, "resources", resource) ||
                 (!a.sub.empty() && listed(rule, "resources", "*/" + a.sub));
    if (!listed(rule, "apiGroups", a.group) || !named) return false;
    auto names = json::stringsAt(rule, "resourceNames");
    return names.empty() || std::find(names.begin(), names.end(), a.name) != names.end();
  });
}

bool Auth::authorize(const User& user, const Attributes& a) const {
  if (std::find(user.groups.begin(), user.groups.end(), "system:masters") != user.groups.end()) {
    return true;
  }
  bool known = std::find(user.groups.begin(), user.groups.end(), "system:authenticated") !=
               user.groups.end();
  if (!a.path.empty()) {
    for (std::string_view open : {"/version", "/healthz", "/livez", "/readyz"}) {
      if (a.path.starts_with(open)) return true;
    }
    if (known && (a.path.starts_with("/api") || a.path.starts_with("/openapi"))) return true;
  }
  if (known && a.verb == "create" &&
      (a.resource == "selfsubjectaccessreviews" || a.resource == "selfsubjectrulesreviews" ||
       a.resource == "selfsubjectreviews")) {
    return true;
  }
  std::vector<store::ObjectPtr> keep;
  auto roles = rolesOf(user, a.ns, keep);
  return std::any_of(roles.begin(), roles.end(),
                     [&](const Json* role) { return roleAllows(*role, a); });
}

Failure Auth::refusal(const User& user, const Attributes& a) {
  if (!a.path.empty()) {
    return forbidden("forbidden: User \"" + user.name + "\" cannot " + a.verb + " path \"" +
                     a.path + "\"");
  }
  schema::Kind kind;
  kind.group = a.group;
  kind.plural = a.resource;
  std::string resource = a.sub.empty() ? a.resource : a.resource + "/" + a.sub;
  std::string subject = kind.qualified() + (a.name.empty() ? "" : " \"" + a.name + "\"");
  std::string where = a.ns.empty() ? " at the cluster scope" : " in the namespace \"" + a.ns + "\"";
  return forbidden(subject + " is forbidden: User \"" + user.name + "\" cannot " + a.verb +
                       " resource \"" + resource + "\" in API group \"" + a.group + "\"" + where,
                   &kind, a.name);
}

std::optional<ApiResult<Json>> Auth::review(const Call& call, Json request) const {
  if (call.request.method != "POST") return std::nullopt;
  const std::string& what = call.resource;
  const Json spec = request.contains("spec") ? request["spec"] : Json::object();
  if (call.group == "authentication.k8s.io" && what == "selfsubjectreviews") {
    request["status"] = {{"userInfo", userJson(call.user)}};
  } else if (call.group == "authentication.k8s.io" && what == "tokenreviews") {
    auto audiences = json::stringsAt(spec, "audiences");
    if (audiences.empty()) audiences = {kIssuer};
    auto user = checkToken(json::stringAt(spec, "token"), audiences);
    request["status"] =
        user ? Json{{"authenticated", true}, {"user", userJson(*user)}, {"audiences", audiences}}
             : Json{{"authenticated", false}, {"error", "invalid token"}};
  } else if (call.group == "authorization.k8s.io" && what.ends_with("accessreviews")) {
    bool own = what == "selfsubjectaccessreviews";
    if (!own && what != "subjectaccessreviews") return std::nullopt;
    request["status"] = {
        {"allowed", authorize(own ? call.user : userOf(spec), attributesOf(spec))}};
  } else if (call.group == "authorization.k8s.io" && what == "selfsubjectrulesreviews") {
    Json resource_rules = Json::array();
    Json path_rules = Json::array();
    auto take = [&](const Json& rule) {
      (rule.contains("nonResourceURLs") ? path_rules : resource_rules).push_back(rule);
    };
    std::vector<store::ObjectPtr> keep;
    for (const Json* role : rolesOf(call.user, json::stringAt(spec, "namespace"), keep)) {
      const Json* rules = json::find(*role, "rules");
      for (std::size_t i = 0; rules && i < rules->size(); ++i) take((*rules)[i]);
    }
    if (authorize(call.user, {"*", "*", "*", "", "", "", ""})) {
      const Json any = Json::array({"*"});
      take({{"verbs", any}, {"apiGroups", any}, {"resources", any}});
    }
    request["status"] = {
        {"resourceRules", resource_rules}, {"nonResourceRules", path_rules}, {"incomplete", false}};
  } else {
    return std::nullopt;
  }
  return ApiResult<Json>(std::move(request));
}

}  // namespace postern::apiserver
