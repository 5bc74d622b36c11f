// Namespaces: what each has from the start, and emptying those that are being deleted.
#include "controllers/context.h"

#include <algorithm>

namespace postern::controllers {
namespace {

using kube::ApiError;
using kube::ApiResult;
using kube::Outcome;
using kube::types::kConfigMap;
using kube::types::kNamespace;
using kube::types::kServiceAccount;

constexpr const char* kRootCa = "kube-root-ca.crt";

ApiResult<void> furnish(Context& context, const std::string& ns) {
  if (!context.informer(kServiceAccount).get(ns, "default")) {
    auto made = context.client.create(kServiceAccount, ns,
                                      Json{{"apiVersion", "v1"},
                                           {"kind", "ServiceAccount"},
                                           {"metadata", {{"name", "default"}, {"namespace", ns}}}});
    if (!made && !made.error().alreadyExists()) return std::unexpected(made.error());
  }
  const std::string& pem = context.options.root_ca_pem;
  if (pem.empty()) return {};
  auto have = context.informer(kConfigMap).get(ns, kRootCa);
  if (have && entryAt(*have, "data", "ca.crt") == pem) return {};
  auto written =
      context.client.apply(kConfigMap,
                           Json{{"apiVersion", "v1"},
                                {"kind", "ConfigMap"},
                                {"metadata", {{"name", kRootCa}, {"namespace", ns}}},
                                {"data", {{"ca.crt", pem}}}},
                           {.field_manager = "root-ca", .subresource = {}, .force = true});
  if (!written) return std::unexpected(written.error());
  return {};
}

/// Deletes what one resource has in the namespace; says how much was still there.
ApiResult<std::size_t> sweep(Context& context, const std::string& base, const Json& resource,
                             const std::string& ns) {
  std::string name = json::stringAt(resource, "name");
  if (!json::boolAt(resource, "namespaced") || name.find('/') != std::string::npos) return 0;
  const Json& verbs = arrayAt(resource, "verbs");
  auto can = [&](const char* verb) {
    return std::find(verbs.begin(), verbs.end(), verb) != verbs.end();
  };
  if (!can("list") || !can("deletecollection")) return 0;
  std::string url = base + "/namespaces/" + ns + "/" + name;
  auto listed = context.client.raw("GET", url);
  if (!listed) return std::unexpected(listed.error());
  std::size_t left = arrayAt(*listed, "items").size();
  if (left == 0) return 0;
  auto gone = context.client.raw("DELETE", url,
                                 R"({"apiVersion":"v1","kind":"DeleteOptions",)"
                                 R"("propagationPolicy":"Background"})");
  if (!gone) return std::unexpected(gone.error());
  return left;
}

ApiResult<std::size_t> sweepGroup(Context& context, const std::string& base,
                                  const std::string& ns) {
  auto served = context.client.raw("GET", base);
  if (!served) return std::unexpected(served.error());
  std::size_t left = 0;
  for (const Json& resource : arrayAt(*served, "resources")) {
    POSTERN_TRY(auto some, sweep(context, base, resource, ns));
    left += some;
  }
  return left;
}

ApiResult<std::size_t> sweepAll(Context& context, const std::string& ns) {
  POSTERN_TRY(std::size_t left, sweepGroup(context, "/api/v1", ns));
  auto groups = context.client.raw("GET", "/apis");
  if (!groups) return std::unexpected(groups.error());
  for (const Json& group : arrayAt(*groups, "groups")) {
    std::string version = json::stringAt(group, "preferredVersion.groupVersion");
    if (version.empty()) continue;
    POSTERN_TRY(auto some, sweepGroup(context, "/apis/" + version, ns));
    left += some;
  }
  return left;
}

Outcome terminate(Context& context, const std::string& name) {
  auto left = sweepAll(context, name);
  if (!left) return retryAfter("namespace", name, left.error());
  if (*left > 0) return Outcome::later(std::chrono::milliseconds(100));
  auto live = context.client.get(kNamespace, "", name);
  if (!live) {
    return live.error().notFound() ? Outcome::done() : retryAfter("namespace", name, live.error());
  }
  Json changed = std::move(*live);
  changed["spec"]["finalizers"] = Json::array();
  changed["apiVersion"] = "v1";
  changed["kind"] = "Namespace";
  auto done = context.client.raw("PUT", kNamespace.url("", name, "finalize"), json::dump(changed));
  if (!done && !done.error().notFound()) return retryAfter("namespace", name, done.error());
  return Outcome::done();
}

Outcome reconcileNamespace(Context& context, const std::string& name) {
  auto ns = context.informer(kNamespace).get("", name);
  if (!ns) return Outcome::done();
  if (deleting(*ns)) return terminate(context, name);
  auto done = furnish(context, name);
  return done ? Outcome::done() : retryAfter("namespace", name, done.error());
}

}  // namespace

void startNamespaces(Context& context, std::vector<ControllerPtr>& out) {
  auto controller = kube::Controller::start(
      "namespace", [&](const std::string& key) { return reconcileNamespace(context, key); }, 2);
  controller->watch(context.informer(kNamespace));
  auto of_child = [](const Json& object) {
    std::string name = json::stringAt(object, "metadata.name");
    if (name != "default" && name != kRootCa) return std::vector<std::string>{};
    return std::vector{json::stringAt(object, "metadata.namespace")};
  };
  controller->watchMapped(context.informer(kServiceAccount), of_child);
  controller->watchMapped(context.informer(kConfigMap), of_child);
  out.push_back(std::move(controller));
}

}  // namespace postern::controllers
