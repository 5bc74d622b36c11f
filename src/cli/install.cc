// install, uninstall: the mesh and its demo application.
#include "cli/components.h"
#include "cli/manifests.h"
#include "cli/next_steps.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <memory>

namespace postern::cli {
namespace {

using json::Json;

constexpr int kLoadRps = 10;
constexpr int kLoadSeconds = 30;

struct InstallArguments {
  bool everything = false;
  bool run_demo = false;
  bool dump = false;
  bool purge = false;
};

int installCommand(const Context& context, const InstallArguments& arguments) {
  const Terminal& terminal = context.terminal;
  bool demo = arguments.run_demo;
  if (arguments.dump) {
    auto objects = meshObjects();
    if (demo) {
      auto demo_objects = demoObjects(kDemoNamespace, {});
      if (!demo_objects) return context.fail(demo_objects.error().message());
      for (Json& object : *demo_objects) objects.push_back(std::move(object));
    }
    fmt::print("{}", dumpObjects(objects));
    return kExitOk;
  }
  auto client = connect(context);
  if (!client) return context.fail(client.error().message());
  Installer installer(**client, terminal);
  if (auto ours = installer.requireLocalCluster(); !ours) {
    return context.fail(ours.error().message());
  }
  if (!arguments.everything) {
    if (!terminal.confirm("Install the mesh (control plane and gateways)?", true)) return kExitOk;
    if (!demo)
      demo = terminal.interactive() && terminal.confirm("Install the demo application?", false);
  }
  if (auto mesh = installMesh(installer); !mesh) return context.fail(mesh.error().message());
  if (demo) {
    auto objects = demoObjects(kDemoNamespace, {});
    if (!objects) return context.fail(objects.error().message());
    if (auto done = installDemo(installer, kDemoNamespace, *objects); !done) {
      return context.fail(done.error().message());
    }
    if (auto load = startLoad(installer, kDemoNamespace, kLoadRps, kLoadSeconds); !load) {
      return context.fail(load.error().message());
    }
    terminal.done("load",
                  fmt::format("{} requests/s for {} s, in the background", kLoadRps, kLoadSeconds));
  }
  if (arguments.everything || demo) {
    terminal.note("Not part of this version, so not installed: dashboard, metrics store, tracing.");
  }
  const NextSteps next = nextSteps(**client, contextName(context), demo);
  if (context.structured()) {
    context.print(next.toJson());
  } else {
    fmt::print("{}", next.toText());
  }
  return kExitOk;
}

/// Custom resources that a person made: all of the mesh's kinds but the mesh itself.
std::vector<std::string> userResources(Installer& installer, const std::string& ns) {
  std::vector<std::string> out;
  for (const Json& crd : manifestObjects("crds/")) {
    const Json* versions = json::find(crd, "spec.versions");
    if (versions == nullptr || versions->empty()) continue;
    const kube::ResourceType type{
        json::stringAt(crd, "spec.group"), json::stringAt((*versions)[0], "name"),
        json::stringAt(crd, "spec.names.plural"), json::stringAt(crd, "spec.names.kind"), true};
    auto list = installer.client().list(type, ns);
    if (!list) continue;
    for (const Json& each : (*list)["items"]) {
      const Json* labels = json::find(each, "metadata.labels");
      const bool ours =
          labels != nullptr && labels->value("app.kubernetes.io/part-of", "") == "postern";
      // What has an owner goes with it.
      if (ours || json::find(each, "metadata.ownerReferences") != nullptr) continue;
      out.push_back(fmt::format("{} {}", type.kind, kube::keyOf(each)));
    }
  }
  return out;
}

Problem removeMesh(Installer& installer) {
  kube::Client& client = installer.client();
  int removed = 0;
  // While the control plane lives: the gateways go with the mesh they belong to.
  POSTERN_TRY_VOID(installer.removeAll(manifestObjects("mesh.yaml"), removed));
  POSTERN_TRY_VOID(installer.await("mesh", [&](std::string& detail) {
    detail = "the gateways end";
    auto gateways =
        client.list(kube::types::kDeployment, "istio-system", {.label_selector = "gateway-name"});
    auto mesh = client.get(kube::types::kIstio, "istio-system", "mesh");
    return (!mesh && mesh.error().notFound()) && (!gateways || (*gateways)["items"].empty());
  }));
  installer.terminal().done("mesh", "removed");
  // The webhooks next: with nobody behind them they would refuse every pod.
  for (const auto& [type, name] :
       {std::pair{kube::types::kMutatingWebhook, "istio-sidecar-injector"},
        std::pair{kube::types::kValidatingWebhook, "istio-validator-istio-system"}}) {
    auto gone = client.remove(type, "", name);
    if (!gone && !gone.error().notFound()) return problem(gone.error(), name);
  }
  std::vector<Json> control;
  for (Json& object : manifestObjects("control.yaml")) {
    if (json::stringAt(object, "kind") != "Namespace") control.push_back(std::move(object));
  }
  POSTERN_TRY_VOID(installer.removeAll(control, removed));
  // Made by the control plane itself in every namespace.
  if (auto maps = client.list(kube::types::kConfigMap, ""); maps) {
    for (const Json& each : (*maps)["items"]) {
      if (json::stringAt(each, "metadata.name") != "istio-ca-root-cert") continue;
      client.remove(kube::types::kConfigMap, json::stringAt(each, "metadata.namespace"),
                    "istio-ca-root-cert");
    }
  }
  installer.terminal().done("control plane", "removed");
  return {};
}

/// istio-system goes unless a person keeps resources in it.
Problem removeMeshNamespace(Installer& installer, bool purge) {
  kube::Client& client = installer.client();
  if (!purge) {
    std::vector<std::string> kept = userResources(installer, "istio-system");
    for (const kube::ResourceType& type : {kube::types::kDeployment, kube::types::kService}) {
      auto list = client.list(type, "istio-system");
      if (!list) continue;
      for (const Json& each : (*list)["items"]) {
        if (json::find(each, "metadata.deletionTimestamp") == nullptr)
          kept.push_back(fmt::format("{} {}", type.kind, kube::keyOf(each)));
      }
    }
    if (!kept.empty()) {
      installer.terminal().note(
          fmt::format("Namespace istio-system stays: {} of yours is in it.", kept.front()));
      return {};
    }
  }
  auto gone = client.remove(kube::types::kNamespace, "", "istio-system");
  if (!gone && !gone.error().notFound()) return problem(gone.error(), "istio-system");
  POSTERN_TRY_VOID(installer.await("namespace istio-system", [&](std::string& detail) {
    detail = "ends";
    auto still = client.get(kube::types::kNamespace, "", "istio-system");
    return !still && still.error().notFound();
  }));
  installer.terminal().done("namespace istio-system", "removed");
  return {};
}

int uninstallCommand(const Context& context, const InstallArguments& arguments) {
  const Terminal& terminal = context.terminal;
  auto client = connect(context);
  if (!client) return context.fail(client.error().message());
  Installer installer(**client, terminal);
  if (auto ours = installer.requireLocalCluster(); !ours) {
    return context.fail(ours.error().message());
  }
  if (!terminal.confirm("Remove the mesh from " + contextName(context) + "?", true)) {
    return kExitFailed;
  }
  const bool demo =
      arguments.everything ||
      (terminal.interactive() && terminal.confirm("Remove the demo application too?", false));
  if (demo) {
    auto removed = uninstallDemo(installer, kDemoNamespace);
    if (!removed) return context.fail(removed.error().message());
    if (*removed) terminal.done("demo application", "removed");
  }
  if (arguments.purge) {
    // While somebody is there to take their gateways down.
    auto gateways = (*client)->list(kube::types::kMeshGateway, "");
    for (const Json& each : gateways ? (*gateways)["items"] : Json::array()) {
      (*client)->remove(kube::types::kMeshGateway, json::stringAt(each, "metadata.namespace"),
                        json::stringAt(each, "metadata.name"));
    }
  }
  if (auto removed = removeMesh(installer); !removed) {
    return context.fail(removed.error().message());
  }
  const auto kept = userResources(installer, "");
  if (auto removed = removeMeshNamespace(installer, arguments.purge); !removed) {
    return context.fail(removed.error().message());
  }
  if (arguments.purge) {
    int removed = 0;
    if (auto crds = installer.removeAll(manifestObjects("crds/"), removed); !crds) {
      return context.fail(crds.error().message());
    }
    terminal.done("custom resources", "removed, with every resource of their kinds");
  } else {
    terminal.note(
        "The custom resource definitions stay; `postern uninstall -a --purge` removes them.");
    for (const std::string& each : kept) terminal.note("kept: " + each);
  }
  terminal.note("Pods keep the sidecar they have until they are started again.");
  if (context.structured()) context.print({{"kept", arguments.purge ? Json::array() : Json(kept)}});
  return kExitOk;
}

}  // namespace

void addInstallCommands(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<InstallArguments>();
  CLI::App* install = app.add_subcommand("install", "install the mesh into the local cluster");
  install->add_flag("-a,--install-everything", arguments->everything,
                    "all components, no questions");
  install->add_flag("--run-demo", arguments->run_demo, "the demo application too, with some load");
  install->add_flag("-d,--dump-resources", arguments->dump, "print the resources, apply nothing");
  install->footer(
      "Interrupted or repeated, it goes on from what is there.\n"
      "Examples:\n  postern install -a --run-demo\n  postern install --dump-resources");
  install->callback([&context, arguments] {
    context.action = [&context, arguments] { return installCommand(context, *arguments); };
  });
  CLI::App* uninstall = app.add_subcommand("uninstall", "remove what install made");
  uninstall->add_flag("-a,--uninstall-everything", arguments->everything,
                      "the demo application too");
  uninstall->add_flag("--purge", arguments->purge,
                      "the custom resource definitions too, with every resource of their kinds");
  uninstall->footer("Examples:\n  postern uninstall -a\n  postern uninstall -a --purge");
  uninstall->callback([&context, arguments] {
    context.action = [&context, arguments] { return uninstallCommand(context, *arguments); };
  });
}

}  // namespace postern::cli
