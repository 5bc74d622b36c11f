#include "cli/components.h"

#include "cli/manifests.h"
#include "cluster/files.h"
#include "cluster/kubeconfig.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace postern::cli {

using json::Json;

base::ConfigResult<std::unique_ptr<kube::Client>> connect(const Context& context) {
  auto config = kube::ClientConfig::fromKubeconfig(context.kubeconfig, context.kube_context);
  if (!config) {
    return base::failConfig("", config.error().message() + "; start a cluster with `postern up`");
  }
  config->user_agent = "postern/" POSTERN_VERSION;
  return kube::Client::make(std::move(*config));
}

std::string contextName(const Context& context) {
  if (!context.kube_context.empty()) return context.kube_context;
  auto text = cluster::readFile(context.kubeconfig.empty() ? cluster::defaultKubeconfigPath()
                                                           : context.kubeconfig);
  if (!text) return "";
  auto config = json::parseYaml(*text);
  return config ? json::stringAt(*config, "current-context") : "";
}

std::vector<Json> meshObjects() {
  std::vector<Json> out;
  for (const char* part : {"crds/", "control.yaml", "mesh.yaml"}) {
    for (Json& object : manifestObjects(part)) out.push_back(std::move(object));
  }
  return out;
}

Problem installMesh(Installer& installer) {
  const Terminal& terminal = installer.terminal();
  const auto crds = manifestObjects("crds/");
  terminal.waiting("custom resources");
  POSTERN_TRY_VOID(installer.applyAll(crds));
  for (const Json& crd : crds) {
    const std::string name = json::stringAt(crd, "metadata.name");
    POSTERN_TRY_VOID(installer.await("custom resources", [&](std::string& detail) {
      return installer.crdEstablished(name, detail);
    }));
  }
  terminal.done("custom resources", fmt::format("{} definitions", crds.size()));

  terminal.waiting("control plane");
  POSTERN_TRY_VOID(installer.applyAll(manifestObjects("control.yaml")));
  POSTERN_TRY_VOID(installer.await("control plane", [&](std::string& detail) {
    return installer.deploymentAvailable("istio-system", "istiod", detail);
  }));
  terminal.done("control plane", "istiod in istio-system");

  terminal.waiting("mesh");
  POSTERN_TRY_VOID(installer.applyAll(manifestObjects("mesh.yaml")));
  POSTERN_TRY_VOID(installer.await(
      "mesh", [&](std::string& detail) { return installer.meshAvailable(detail); }));
  terminal.done("mesh", "gateways are running");
  return {};
}

base::ConfigResult<std::vector<Json>> demoObjects(const std::string& ns,
                                                  const std::vector<std::string>& services) {
  std::vector<Json> out;
  std::set<std::string> known;
  for (Json& object : manifestObjects("demo/backyards-demo.yaml")) {
    const std::string kind = json::stringAt(object, "kind");
    const std::string app = json::stringAt(object, "metadata.labels.app");
    if (!app.empty()) known.insert(app);
    const std::string owner = app.empty() ? json::stringAt(object, "metadata.name") : app;
    const bool shared = kind == "Namespace" || kind == "Sidecar";
    if (!services.empty() && !shared && std::ranges::find(services, owner) == services.end())
      continue;
    if (kind == "Namespace") {
      object["metadata"]["name"] = ns;
    } else {
      object["metadata"]["namespace"] = ns;
    }
    out.push_back(std::move(object));
  }
  for (const std::string& service : services) {
    if (known.contains(service)) continue;
    std::string all;
    for (const std::string& each : known) all += (all.empty() ? "" : ", ") + each;
    return base::failConfig("--enabled-services", service + " is none of " + all);
  }
  return out;
}

Problem installDemo(Installer& installer, const std::string& ns, const std::vector<Json>& objects) {
  installer.terminal().waiting("demo application");
  auto namespace_object = installer.client().get(kube::types::kNamespace, "", ns);
  if (namespace_object && namespace_object->contains("metadata") &&
      (*namespace_object)["metadata"].contains("deletionTimestamp")) {
    POSTERN_TRY_VOID(installer.await("demo application", [&](std::string& detail) {
      detail = "the old namespace ends";
      auto still = installer.client().get(kube::types::kNamespace, "", ns);
      return !still && still.error().notFound();
    }));
  }
  POSTERN_TRY_VOID(installer.applyAll(objects));
  std::size_t workloads = 0;
  for (const Json& object : objects) {
    if (json::stringAt(object, "kind") != "Deployment") continue;
    const std::string name = json::stringAt(object, "metadata.name");
    POSTERN_TRY_VOID(installer.await("demo application", [&](std::string& detail) {
      return installer.deploymentAvailable(ns, name, detail);
    }));
    ++workloads;
  }
  installer.terminal().done("demo application", fmt::format("{} workloads in {}", workloads, ns));
  return {};
}

base::ConfigResult<bool> uninstallDemo(Installer& installer, const std::string& ns) {
  auto found = installer.client().get(kube::types::kNamespace, "", ns);
  if (!found && found.error().notFound()) return false;
  if (!found) return std::unexpected(problem(found.error(), ns).error());
  const Json* labels = json::find(*found, "metadata.labels");
  if (labels == nullptr || labels->value("app.kubernetes.io/part-of", "") != "postern") {
    return base::failConfig(ns, "is not a namespace that postern made: it is left alone");
  }
  auto removed = installer.client().remove(kube::types::kNamespace, "", ns);
  if (!removed && !removed.error().notFound()) {
    return std::unexpected(problem(removed.error(), ns).error());
  }
  POSTERN_TRY_VOID(installer.await("demo application", [&](std::string& detail) {
    detail = "namespace " + ns + " ends";
    auto still = installer.client().get(kube::types::kNamespace, "", ns);
    return !still && still.error().notFound();
  }));
  return true;
}

Problem startLoad(Installer& installer, const std::string& ns, int rps, int duration_seconds) {
  kube::Client& client = installer.client();
  auto frontpage = client.get(kube::types::kService, ns, "frontpage");
  if (!frontpage) {
    if (!frontpage.error().notFound()) return problem(frontpage.error(), ns);
    return base::failConfig(ns, "has no demo application; run `postern demoapp install`");
  }
  auto old = client.remove(kube::types::kJob, ns, "load");
  if (!old && !old.error().notFound()) return problem(old.error(), "Job load");
  POSTERN_TRY_VOID(installer.await("load", [&](std::string& detail) {
    detail = "the last run ends";
    auto still = client.get(kube::types::kJob, ns, "load");
    auto pods = client.list(kube::types::kPod, ns, {.label_selector = "app=load"});
    return !still && still.error().notFound() && pods && (*pods)["items"].empty();
  }));
  auto objects = manifestObjects("demo/load.yaml");
  for (Json& job : objects) {
    job["metadata"]["namespace"] = ns;
    job["spec"]["template"]["spec"]["containers"][0]["args"] =
        Json::array({"load", "--rps", std::to_string(rps), "--duration",
                     std::to_string(duration_seconds), "http://frontpage:8080/"});
    // Created, not applied: the run before it is gone.
    auto made = client.create(kube::types::kJob, ns, job, {.field_manager = "postern-install"});
    if (!made) return problem(made.error(), nameOf(job));
  }
  return {};
}

std::string dumpObjects(const std::vector<Json>& objects) {
  std::string out;
  for (const Json& object : objects) {
    if (!out.empty()) out += "---\n";
    out += json::dumpYaml(object);
    if (!out.ends_with('\n')) out += '\n';
  }
  return out;
}

}  // namespace postern::cli
