// The recording view: what a generator reads of a snapshot for one proxy, with each read noted, so
// that dependencies are observed and not declared. A dependency is an object ("Endpoints/ns/host",
// "Workload/ns/pod", "Mesh") or all of a kind ("Service/*", "VirtualService/*"), because a new
// object of a listed kind changes the result too. One thread; lives for one generation.
#pragma once

#include "discovery/snapshot.h"

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace postern::discovery {

class View {
 public:
  View(std::shared_ptr<const Snapshot> snapshot, ProxyKey proxy);

  const ProxyKey& proxy() const { return proxy_; }
  const model::MeshSettings& mesh();
  /// The outbound policy in force: the proxy's Sidecar, else the mesh.
  bool allowAny();

  struct VisibleService {
    const model::Service* service;
    std::vector<const model::Port*> ports;  // those the Sidecar scope lets through
  };
  /// Services the proxy may see; each port of a host once (ServiceEntries of a namespace may share
  /// a host).
  const std::vector<VisibleService>& services();
  /// The service of a host as this proxy sees it (visible or not: null when unknown).
  const model::Service* service(std::string_view host);
  /// Services (of the proxy's namespace) whose selector matches its pod.
  std::vector<const model::Service*> ownServices();
  const std::vector<model::Endpoint>& endpoints(const model::Service& service);
  /// VirtualServices visible here and bound to a gateway ("mesh" or "ns/name"), oldest first.
  std::vector<const model::VirtualService*> virtualServices(std::string_view gateway);
  /// Gateways whose selector matches this proxy.
  std::vector<const model::Gateway*> gateways();
  const model::DestinationRule* destinationRule(const model::Service& service);
  /// The pod's container port of this name, or 0.
  std::uint32_t containerPort(const std::string& name);
  const model::Labels& labels();

  std::set<std::string> takeDependencies() { return std::exchange(dependencies_, {}); }

 private:
  const model::Workload* pod();
  const model::Sidecar* sidecar();
  bool sidecarAllows(const model::Service& service, const model::Port& port);
  void buildScope();
  void note(std::string key) { dependencies_.insert(std::move(key)); }

  std::shared_ptr<const Snapshot> snapshot_;
  ProxyKey proxy_;
  std::set<std::string> dependencies_;
  std::set<std::string> scope_dependencies_;
  bool services_ready_ = false;
  std::vector<VisibleService> services_;
  std::map<std::string, const model::Service*, std::less<>> by_host_;
};

/// Whether one of the changed names touches one of the dependencies.
bool touches(const std::set<std::string>& dependencies, const std::set<std::string>& changed);

}  // namespace postern::discovery
