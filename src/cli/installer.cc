#include "cli/installer.h"

#include "cli/manifests.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <thread>

namespace postern::cli {

using json::Json;

namespace {

constexpr std::chrono::milliseconds kPoll{20};
constexpr const char* kFieldManager = "postern-install";

}  // namespace

std::vector<Json> manifestObjects(std::string_view prefix) {
  std::vector<Json> out;
  for (const Manifest& manifest : manifests()) {
    if (!manifest.name.starts_with(prefix)) continue;
    // They are part of the program and were parsed by its tests.
    auto objects = json::parseYamlStream(manifest.text);
    if (!objects) continue;
    for (Json& object : *objects) {
      if (object.is_object()) out.push_back(std::move(object));
    }
  }
  return out;
}

std::string nameOf(const Json& object) {
  const std::string ns = json::stringAt(object, "metadata.namespace");
  return fmt::format("{} {}{}{}", json::stringAt(object, "kind"), ns, ns.empty() ? "" : "/",
                     json::stringAt(object, "metadata.name"));
}

Problem problem(const kube::ApiError& error, const std::string& what) {
  if (error.code == 0) {
    return base::failConfig(
        what, error.message + "; is the cluster up? `postern status` says, `postern up` starts it");
  }
  return base::failConfig(what, error.message);
}

base::ConfigResult<kube::ResourceType> Installer::typeOf(const Json& object) {
  const std::string version = json::stringAt(object, "apiVersion");
  const std::string kind = json::stringAt(object, "kind");
  const std::size_t slash = version.find('/');
  auto found = discovered_.find(version);
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (found == discovered_.end()) {
      auto list = client_.raw("GET", (slash == std::string::npos ? "/api/" : "/apis/") + version);
      if (!list) return std::unexpected(problem(list.error(), version).error());
      found = discovered_.insert_or_assign(version, std::move(*list)).first;
    }
    if (const Json* resources = json::find(found->second, "resources"); resources != nullptr) {
      for (const Json& each : *resources) {
        const std::string plural = json::stringAt(each, "name");
        if (json::stringAt(each, "kind") != kind || plural.find('/') != std::string::npos) continue;
        return kube::ResourceType{slash == std::string::npos ? "" : version.substr(0, slash),
                                  slash == std::string::npos ? version : version.substr(slash + 1),
                                  plural, kind, json::boolAt(each, "namespaced")};
      }
    }
    // Perhaps the type was made since the list was read.
    discovered_.erase(found);
    found = discovered_.end();
  }
  return base::failConfig(version, "does not serve " + kind);
}

Problem Installer::requireLocalCluster() {
  auto mark = client_.get(kube::types::kConfigMap, "kube-system", "postern-cluster");
  if (mark) return {};
  if (!mark.error().notFound()) return problem(mark.error(), client_.config().server);
  return base::failConfig(
      client_.config().server,
      "is not a local postern cluster; other clusters are not supported yet. Start one with "
      "`postern up`, or name its context with --context postern");
}

Problem Installer::applyAll(const std::vector<Json>& objects) {
  for (const Json& object : objects) {
    POSTERN_TRY(const kube::ResourceType type, typeOf(object));
    auto applied = client_.apply(type, object, {.field_manager = kFieldManager, .force = true});
    if (!applied) return problem(applied.error(), nameOf(object));
    terminal_.detail("applied " + nameOf(object));
  }
  return {};
}

Problem Installer::removeAll(const std::vector<Json>& objects, int& removed) {
  for (auto object = objects.rbegin(); object != objects.rend(); ++object) {
    auto type = typeOf(*object);
    if (!type) continue;  // the type itself is gone, and its objects with it
    auto gone = client_.remove(*type, json::stringAt(*object, "metadata.namespace"),
                               json::stringAt(*object, "metadata.name"));
    if (!gone && !gone.error().notFound()) return problem(gone.error(), nameOf(*object));
    if (!gone) continue;
    ++removed;
    terminal_.detail("deleted " + nameOf(*object));
  }
  return {};
}

Problem Installer::await(const std::string& what, const Question& question,
                         std::chrono::seconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  std::string shown;
  while (true) {
    std::string detail;
    if (question(detail)) return {};
    if (std::chrono::steady_clock::now() > end) {
      return base::failConfig(
          "", fmt::format("{} is not ready after {} s{}{}; the next `postern install` goes on "
                          "from here",
                          what, patience.count(), detail.empty() ? "" : ": ", detail));
    }
    if (detail != shown || shown.empty()) terminal_.waiting(what, detail);
    shown = detail;
    std::this_thread::sleep_for(kPoll);
  }
}

bool Installer::exists(const Json& object) {
  auto type = typeOf(object);
  return type && client_.get(*type, json::stringAt(object, "metadata.namespace"),
                             json::stringAt(object, "metadata.name"));
}

bool Installer::crdEstablished(const std::string& name, std::string& detail) {
  detail = name;
  auto crd = client_.get(kube::types::kCrd, "", name);
  if (!crd) return false;
  const Json* conditions = json::find(*crd, "status.conditions");
  if (conditions == nullptr || !conditions->is_array()) return false;
  for (const Json& each : *conditions) {
    if (json::stringAt(each, "type") == "Established" && json::stringAt(each, "status") == "True")
      return true;
  }
  return false;
}

bool Installer::deploymentAvailable(const std::string& ns, const std::string& name,
                                    std::string& detail) {
  auto found = client_.get(kube::types::kDeployment, ns, name);
  if (!found) {
    detail = found.error().message;
    return false;
  }
  const long long wanted = json::integerAt(*found, "spec.replicas", 1);
  const long long available = json::integerAt(*found, "status.availableReplicas");
  const bool ready = json::integerAt(*found, "status.observedGeneration") >=
                         json::integerAt(*found, "metadata.generation") &&
                     json::integerAt(*found, "status.updatedReplicas") >= wanted &&
                     available >= wanted;
  if (ready) return true;
  const std::string why = podProblem(ns);
  detail = fmt::format("{} {}/{}{}{}", name, available, wanted, why.empty() ? "" : ", ", why);
  return false;
}

bool Installer::meshAvailable(std::string& detail) {
  auto mesh = client_.get(kube::types::kIstio, "istio-system", "mesh");
  if (!mesh) {
    detail = mesh.error().message;
    return false;
  }
  const std::string state = json::stringAt(*mesh, "status.Status");
  if (state == "Available") return true;
  const std::string error = json::stringAt(*mesh, "status.ErrorMessage");
  const std::string why = podProblem("istio-system");
  detail = fmt::format("{}{}{}{}{}", state.empty() ? "not seen yet" : state,
                       error.empty() ? "" : ", ", error, why.empty() ? "" : ", ", why);
  return false;
}

std::string Installer::podProblem(const std::string& ns) {
  auto pods = client_.list(kube::types::kPod, ns);
  if (!pods) return "";
  for (const Json& pod : (*pods)["items"]) {
    for (const char* list : {"status.initContainerStatuses", "status.containerStatuses"}) {
      const Json* statuses = json::find(pod, list);
      if (statuses == nullptr || !statuses->is_array()) continue;
      for (const Json& each : *statuses) {
        const std::string reason = json::stringAt(each, "state.waiting.reason");
        if (reason.empty() || reason == "ContainerCreating" || reason == "PodInitializing")
          continue;
        const std::string message = json::stringAt(each, "state.waiting.message");
        return fmt::format("pod {}: {}{}{}", json::stringAt(pod, "metadata.name"), reason,
                           message.empty() ? "" : ": ", message);
      }
    }
  }
  return "";
}

}  // namespace postern::cli
