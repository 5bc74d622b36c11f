#include "discovery/distributor.h"

#include "api/message.h"
#include "base/log.h"

#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

#include <functional>

namespace postern::discovery {

using json::Json;

std::string_view typeUrl(Type type) {
  switch (type) {
    case Type::kClusters:
      return "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    case Type::kEndpoints:
      return "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    case Type::kListeners:
      return "type.googleapis.com/envoy.config.listener.v3.Listener";
    case Type::kRoutes:
      return "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
  }
  return "";
}

namespace {

constexpr std::array<Type, kTypeCount> kPushOrder{Type::kClusters, Type::kEndpoints,
                                                  Type::kListeners, Type::kRoutes};

base::LogComponent kDiscoveryLog("discovery");

std::vector<Resource> run(View& view, Type type) {
  switch (type) {
    case Type::kClusters:
      return generateClusters(view);
    case Type::kEndpoints:
      return generateEndpoints(view);
    case Type::kListeners:
      return generateListeners(view);
    case Type::kRoutes:
      return generateRoutes(view);
  }
  return {};
}

}  // namespace

bool Distributor::encode(Type type, Versioned& entry) {
  const auto message = api::makeMessage(typeUrl(type));
  if (message == nullptr) return false;
  if (auto read = api::fromJson(entry.resource.config, *message); !read) {
    kDiscoveryLog.error("{} {}: {}", typeUrl(type), entry.resource.name, read.error().message());
    return false;
  }
  entry.bytes = api::serialize(*message);
  // By content, so that it means the same after a restart of the control plane.
  entry.version = std::to_string(std::hash<std::string>{}(entry.bytes));
  return true;
}

Delta Distributor::generate(Proxy& proxy, View& view, Type type) {
  ++generations_;
  PerType& state = proxy.types[static_cast<std::size_t>(type)];
  Delta delta{type, {}, {}};
  std::map<std::string, Versioned> next;
  std::vector<std::string> changed;
  for (Resource& resource : run(view, type)) {
    const std::string name = resource.name;
    if (next.contains(name)) continue;
    auto old = state.resources.find(name);
    if (old != state.resources.end() && old->second.resource.config == resource.config) {
      Versioned same = std::move(old->second);
      same.resource.origins = std::move(resource.origins);
      old->second = {};
      next.emplace(name, std::move(same));
      continue;
    }
    Versioned entry{"", "", std::move(resource)};
    if (!encode(type, entry)) continue;
    next.emplace(name, std::move(entry));
    changed.push_back(name);
  }
  for (const auto& [name, old] : state.resources) {
    if (!next.contains(name)) delta.removed.push_back(name);
  }
  state.resources = std::move(next);
  state.dependencies = view.takeDependencies();
  for (const std::string& name : changed) delta.updated.push_back(&state.resources.at(name));
  return delta;
}

Distributor::ProxyId Distributor::add(ProxyKey key) {
  const ProxyId id = next_++;
  Proxy& proxy = proxies_[id];
  proxy.key = std::move(key);
  View view(snapshot_, proxy.key);
  for (Type type : kPushOrder) generate(proxy, view, type);
  return id;
}

void Distributor::remove(ProxyId id) { proxies_.erase(id); }

void Distributor::update(std::shared_ptr<const Snapshot> snapshot, const OnDelta& on_delta) {
  const std::set<std::string> changed = snapshot->changedSince(*snapshot_);
  snapshot_ = std::move(snapshot);
  if (changed.empty()) return;
  for (auto& [id, proxy] : proxies_) {
    View view(snapshot_, proxy.key);
    for (Type type : kPushOrder) {
      const PerType& state = proxy.types[static_cast<std::size_t>(type)];
      if (!touches(state.dependencies, changed)) continue;
      const Delta delta = generate(proxy, view, type);
      if (!delta.updated.empty() || !delta.removed.empty()) on_delta(id, delta);
    }
  }
}

const std::map<std::string, Versioned>* Distributor::resources(ProxyId id, Type type) const {
  auto found = proxies_.find(id);
  if (found == proxies_.end()) return nullptr;
  return &found->second.types[static_cast<std::size_t>(type)].resources;
}

const ProxyKey* Distributor::proxy(ProxyId id) const {
  auto found = proxies_.find(id);
  return found == proxies_.end() ? nullptr : &found->second.key;
}

Json Distributor::explain(ProxyId id, Type type) const {
  Json out = Json::array();
  const auto* all = resources(id, type);
  if (all == nullptr) return out;
  for (const auto& [name, entry] : *all) {
    Json origins = Json::array();
    for (const model::Origin& origin : entry.resource.origins) {
      origins.push_back({{"kind", origin.kind},
                         {"namespace", origin.ns},
                         {"name", origin.name},
                         {"path", origin.path}});
    }
    out.push_back({{"name", name}, {"version", entry.version}, {"origins", std::move(origins)}});
  }
  return out;
}

}  // namespace postern::discovery
