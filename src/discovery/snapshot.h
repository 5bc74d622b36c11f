// The immutable state that configuration is generated from, and the key of a proxy. A snapshot is
// built from plain vectors of objects, so that everything behind it is testable without a cluster.
// Any thread may read a snapshot.
#pragma once

#include "json/json.h"
#include "kube/informer.h"
#include "model/types.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postern::discovery {

/// The objects discovery reads, by kind.
struct Sources {
  std::vector<kube::ObjectPtr> services, slices, pods;
  std::vector<kube::ObjectPtr> gateways, virtual_services, destination_rules, service_entries,
      sidecars;
  kube::ObjectPtr mesh_config_map;  // istio-system/istio
  kube::ObjectPtr mesh;             // the Istio resource
};

/// What is generated for: one proxy's identity as its node says it.
struct ProxyKey {
  bool router = false;
  std::string id;  // "sidecar~ip~pod.ns~domain"
  std::string ip;
  std::string pod;
  std::string ns;
  std::string domain = "cluster.local";
  model::Labels labels;
  std::string service_account;  // as the metadata says
  bool unprivileged = false;

  /// From the node id and its metadata; nothing when the id does not have Istio's four parts.
  static base::ConfigResult<ProxyKey> parse(std::string_view node_id, const json::Json& metadata);
};

/// "ns/host" of a Kubernetes Service; "ns/host/name" of a ServiceEntry, for several of them may
/// share a host.
std::string endpointsKey(const model::Service& service);

template <class T>
using List = std::vector<std::shared_ptr<const T>>;

struct Snapshot {
  std::uint64_t version = 0;
  model::MeshSettings mesh;
  List<model::Service> services;  // oldest first, Kubernetes Services before ServiceEntries
  std::map<std::string, std::vector<model::Endpoint>> endpoints;            // by endpointsKey
  std::map<std::string, std::shared_ptr<const model::Workload>> workloads;  // by "ns/name"
  List<model::Gateway> gateways;  // oldest first, as all below
  List<model::VirtualService> virtual_services;
  List<model::DestinationRule> destination_rules;
  List<model::Sidecar> sidecars;

  /// Names of what differs from `before`: "Kind/ns/name" of objects, "Endpoints/<key>",
  /// "Workload/ns/name", "Mesh".
  std::set<std::string> changedSince(const Snapshot& before) const;
};

/// Builds snapshots and remembers parsed objects: an object of which only the status changed (our
/// own writes among them) is the same value as before, and concerns nobody.
class SnapshotBuilder {
 public:
  std::shared_ptr<const Snapshot> build(const Sources& sources);

 private:
  template <class T>
  struct Parsed {
    kube::ObjectPtr object;
    List<T> values;
  };
  template <class T>
  using Cache = std::unordered_map<std::string, Parsed<T>>;  // by "Kind/ns/name"
  template <class T, class Parse>
  static List<T> refresh(Cache<T>& cache, const std::vector<kube::ObjectPtr>& objects, Parse parse);
  std::uint64_t version_ = 0;
  Cache<model::Service> services_;
  Cache<model::Slice> slices_;
  Cache<model::Workload> workloads_;
  Cache<model::Gateway> gateways_;
  Cache<model::VirtualService> virtual_services_;
  Cache<model::DestinationRule> destination_rules_;
  Cache<model::Sidecar> sidecars_;
};

}  // namespace postern::discovery
