#include "cli/mesh_status.h"

#include "base/strings.h"
#include "kube/client.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <string>

namespace postern::cli {
namespace {

using json::Json;

constexpr const char* kHostPortsAnnotation = "postern.dev/host-ports";

/// "a b" of an array of strings.
std::string words(const Json* list) {
  std::string out;
  if (list == nullptr || !list->is_array()) return out;
  for (const Json& each : *list) {
    if (each.is_string()) out += (out.empty() ? "" : " ") + each.get<std::string>();
  }
  return out;
}

/// What the host could not give as asked: written by the node as an annotation.
Json hostPorts(const Json& service) {
  const Json* annotations = json::find(service, "metadata.annotations");
  if (annotations == nullptr || !annotations->is_object()) return {};
  const auto found = annotations->find(kHostPortsAnnotation);
  if (found == annotations->end() || !found->is_string()) return {};
  auto value = json::parse(found->get<std::string>());
  return value ? *value : *found;
}

/// Why ports are elsewhere, and what the user can do; "" without a reason to tell.
std::string hintFor(const Json& moved) {
  int lowest = 0;
  std::string taken;
  if (!moved.is_object()) return "";
  for (const auto& [port, at] : moved.items()) {
    const int wanted = base::parseInteger<int>(port).value_or(0);
    if (at == 0) {
      taken += (taken.empty() ? "" : ", ") + port;
    } else if (at == wanted + 10000 && (lowest == 0 || wanted < lowest)) {
      lowest = wanted;
    }
  }
  std::string out;
  if (lowest != 0) {
    out = fmt::format(
        "the kernel keeps ports below 1024 from you, so they are at port + 10000; for the ports "
        "themselves run: sudo sysctl -w net.ipv4.ip_unprivileged_port_start={}",
        lowest);
  }
  if (!taken.empty()) {
    out += (out.empty() ? "" : "; ") + std::string("taken by another program: port ") + taken;
  }
  return out;
}

Json loadBalancers(const Json& services) {
  Json out = Json::array();
  for (const Json& service : services["items"]) {
    if (json::stringAt(service, "spec.type") != "LoadBalancer") continue;
    Json addresses = Json::array();
    if (const Json* ingress = json::find(service, "status.loadBalancer.ingress");
        ingress != nullptr && ingress->is_array()) {
      for (const Json& each : *ingress) addresses.push_back(json::stringAt(each, "ip"));
    }
    Json ports = Json::array();
    if (const Json* list = json::find(service, "spec.ports"); list != nullptr) {
      for (const Json& each : *list) ports.push_back(json::integerAt(each, "port"));
    }
    Json entry = {{"namespace", json::stringAt(service, "metadata.namespace")},
                  {"name", json::stringAt(service, "metadata.name")},
                  {"addresses", std::move(addresses)},
                  {"ports", std::move(ports)}};
    if (Json moved = hostPorts(service); !moved.is_null()) {
      if (std::string hint = hintFor(moved); !hint.empty()) entry["hint"] = hint;
      entry["hostPorts"] = std::move(moved);
    }
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace

void addMeshStatus(const cluster::DataFolder& folder, Json& status) {
  auto config = kube::ClientConfig::fromKubeconfig(folder.adminKubeconfig());
  auto client = config ? kube::Client::make(std::move(*config))
                       : base::failConfig("", config.error().message());
  if (!client) {
    status["apiError"] = client.error().message();
    return;
  }
  auto services = (*client)->list(kube::types::kService, "");
  if (!services) {
    status["apiError"] = services.error().message;
    return;
  }
  status["loadBalancers"] = loadBalancers(*services);
  auto mesh = (*client)->get(kube::types::kIstio, "istio-system", "mesh");
  if (!mesh) {
    status["mesh"] = {{"installed", false}};
    return;
  }
  Json out = {{"installed", true},
              {"status", json::stringAt(*mesh, "status.Status")},
              {"error", json::stringAt(*mesh, "status.ErrorMessage")},
              {"version", json::stringAt(*mesh, "spec.version")}};
  if (const Json* addresses = json::find(*mesh, "status.GatewayAddress"); addresses != nullptr) {
    out["gateways"] = *addresses;
  }
  status["mesh"] = std::move(out);
}

void printMeshStatus(const Json& status) {
  const std::string broken = json::stringAt(status, "apiError");
  if (!broken.empty()) fmt::print("{:<14} {}\n", "API error", broken);
  if (status.contains("mesh")) {
    const Json& mesh = status["mesh"];
    if (!json::boolAt(mesh, "installed")) {
      fmt::print("{:<14} not installed\n", "mesh");
    } else {
      fmt::print("{:<14} {}{}{}\n", "mesh", json::stringAt(mesh, "status"),
                 json::stringAt(mesh, "error").empty() ? "" : ": ", json::stringAt(mesh, "error"));
      fmt::print("{:<14} {}\n", "gateways", words(json::find(mesh, "gateways")));
    }
  }
  const Json* balancers = json::find(status, "loadBalancers");
  if (balancers == nullptr) return;
  for (const Json& each : *balancers) {
    if (!each.contains("hostPorts")) continue;
    fmt::print("{:<14} {}/{}: {}\n", "host ports", json::stringAt(each, "namespace"),
               json::stringAt(each, "name"), json::dump(each["hostPorts"]));
    if (each.contains("hint")) fmt::print("{:<14} {}\n", "", json::stringAt(each, "hint"));
  }
}

int hostPort(const Json& service, int port) {
  const Json moved = hostPorts(service);
  if (!moved.is_object()) return port;
  return static_cast<int>(json::integerAt(moved, std::to_string(port), port));
}

}  // namespace postern::cli
