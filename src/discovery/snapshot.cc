#include "discovery/snapshot.h"

#include "base/strings.h"
#include "model/host.h"
#include "model/parse.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace postern::discovery {

using json::Json;

base::ConfigResult<ProxyKey> ProxyKey::parse(std::string_view node_id, const Json& metadata) {
  const auto parts = base::split(node_id, '~');
  if (parts.size() != 4) {
    return base::failConfig("node.id", "must be type~ip~pod.namespace~domain, got \"" +
                                           std::string(node_id.substr(0, 200)) + "\"");
  }
  if (parts[0] != "sidecar" && parts[0] != "router") {
    return base::failConfig("node.id", "unknown proxy type \"" + std::string(parts[0]) + "\"");
  }
  ProxyKey key;
  key.id = node_id;
  key.router = parts[0] == "router";
  key.ip = parts[1];
  const auto dot = parts[2].rfind('.');
  key.pod = parts[2].substr(0, dot);
  if (dot != std::string_view::npos) key.ns = parts[2].substr(dot + 1);
  const std::string_view dns = parts[3];
  if (const auto svc = dns.find(".svc."); svc != std::string_view::npos) {
    key.domain = dns.substr(svc + 5);
  } else if (dns.starts_with("svc.")) {
    key.domain = dns.substr(4);
  }
  if (std::string ns = json::stringAt(metadata, "NAMESPACE"); !ns.empty()) key.ns = std::move(ns);
  if (const Json* labels = json::find(metadata, "LABELS");
      labels != nullptr && labels->is_object()) {
    for (const auto& [name, value] : labels->items()) {
      if (value.is_string()) key.labels.emplace(name, value.get_ref<const std::string&>());
    }
  }
  key.service_account = json::stringAt(metadata, "SERVICE_ACCOUNT");
  const std::string unprivileged = json::stringAt(metadata, "UNPRIVILEGED_POD");
  key.unprivileged = unprivileged == "true" || json::boolAt(metadata, "UNPRIVILEGED_POD");
  return key;
}

namespace {

/// Whether two states of an object say the same to the parsers. Only a Pod's status is read.
bool sameInput(const Json& a, const Json& b) {
  const auto part = [](const Json& object, const char* key) {
    const Json* found = json::find(object, key);
    return found == nullptr ? Json() : *found;
  };
  const bool pod = json::stringAt(a, "kind") == "Pod";
  for (const auto& [key, value] : a.items()) {
    if (key == "metadata" || (key == "status" && !pod)) continue;
    if (part(b, key.c_str()) != value) return false;
  }
  for (const char* key : {"metadata.uid", "metadata.labels", "metadata.annotations",
                          "metadata.creationTimestamp", "metadata.ownerReferences"}) {
    if (part(a, key) != part(b, key)) return false;
  }
  const auto size = [&](const Json& object) { return object.size() - object.count("status"); };
  return size(a) == size(b) && (!pod || part(a, "status") == part(b, "status"));
}

template <class T>
List<T> one(T value) {
  return {std::make_shared<const T>(std::move(value))};
}

std::vector<model::Endpoint> selectedPods(const Snapshot& snapshot, const model::Service& service) {
  std::vector<model::Endpoint> out;
  for (const auto& [key, pod] : snapshot.workloads) {
    if (pod->meta.origin.ns != service.meta.origin.ns || pod->ip.empty() ||
        !model::labelsContain(pod->meta.labels, service.selector)) {
      continue;
    }
    for (const model::Port& port : service.ports) {
      model::Endpoint endpoint;
      endpoint.address = pod->ip;
      endpoint.port = port.target != 0 ? port.target : port.number;
      endpoint.port_name = port.name;
      endpoint.labels = pod->meta.labels;
      endpoint.pod = key;
      endpoint.ns = service.meta.origin.ns;
      out.push_back(std::move(endpoint));
    }
  }
  return out;
}

void joinEndpoints(Snapshot& snapshot, const List<model::Slice>& slices) {
  std::map<std::string, std::vector<model::Endpoint>> by_service;  // "ns/name"
  for (const auto& slice : slices) {
    auto& list = by_service[slice->meta.origin.ns + "/" + slice->service];
    for (model::Endpoint endpoint : slice->endpoints) {
      if (auto pod = snapshot.workloads.find(endpoint.pod); pod != snapshot.workloads.end()) {
        endpoint.labels = pod->second->meta.labels;
        endpoint.workload = pod->second->owner;
      }
      list.push_back(std::move(endpoint));
    }
  }
  for (const auto& service : snapshot.services) {
    const std::string key = endpointsKey(*service);
    if (service->kubernetes) {
      snapshot.endpoints[key] = by_service[service->meta.origin.ns + "/" + service->short_name];
    } else if (!service->selector.empty()) {
      snapshot.endpoints[key] = selectedPods(snapshot, *service);
    } else {
      snapshot.endpoints[key] = service->endpoints;
    }
  }
}

template <class T>
void compare(const List<T>& now, const List<T>& before, std::set<std::string>& changed) {
  std::set<std::shared_ptr<const T>> old(before.begin(), before.end());
  for (const auto& item : now) {
    if (old.erase(item) == 0) changed.insert(item->meta.origin.key());
  }
  for (const auto& item : old) changed.insert(item->meta.origin.key());
}

}  // namespace

/// Parses what is new, keeps what is known, forgets what is gone; the result is oldest first.
template <class T, class Parse>
List<T> SnapshotBuilder::refresh(Cache<T>& cache, const std::vector<kube::ObjectPtr>& objects,
                                 Parse parse) {
  Cache<T> next;
  List<T> out;
  for (const kube::ObjectPtr& object : objects) {
    std::string key = json::stringAt(*object, "kind") + "/" + kube::keyOf(*object);
    auto known = cache.find(key);
    const bool same = known != cache.end() &&
                      (known->second.object == object || sameInput(*known->second.object, *object));
    Parsed<T> entry{object, same ? known->second.values : parse(*object)};
    out.insert(out.end(), entry.values.begin(), entry.values.end());
    next.emplace(std::move(key), std::move(entry));
  }
  cache = std::move(next);
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    const auto& x = a->meta;
    const auto& y = b->meta;
    return std::tie(x.created, x.origin.name, x.origin.ns) <
           std::tie(y.created, y.origin.name, y.origin.ns);
  });
  return out;
}

std::string endpointsKey(const model::Service& service) {
  std::string key = service.meta.origin.ns + "/" + service.host;
  return service.kubernetes ? key : key + "/" + service.meta.origin.name;
}

std::shared_ptr<const Snapshot> SnapshotBuilder::build(const Sources& sources) {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->version = ++version_;
  snapshot->mesh = model::parseMesh(sources.mesh_config_map.get(), sources.mesh.get());
  const std::string domain = snapshot->mesh.domain;

  std::vector<kube::ObjectPtr> hosts = sources.services;
  hosts.insert(hosts.end(), sources.service_entries.begin(), sources.service_entries.end());
  snapshot->services = refresh<model::Service>(services_, hosts, [&](const Json& object) {
    if (json::stringAt(object, "kind") != "ServiceEntry" &&
        json::find(object, "spec.hosts") == nullptr) {
      return one(model::parseService(object, domain));
    }
    List<model::Service> out;
    for (model::Service& service : model::parseServiceEntry(object)) {
      out.push_back(std::make_shared<const model::Service>(std::move(service)));
    }
    return out;
  });
  std::stable_sort(snapshot->services.begin(), snapshot->services.end(),
                   [](const auto& a, const auto& b) { return a->kubernetes && !b->kubernetes; });
  for (const auto& pod : refresh<model::Workload>(
           workloads_, sources.pods, [](const Json& o) { return one(model::parsePod(o)); })) {
    snapshot->workloads[pod->meta.origin.ns + "/" + pod->meta.origin.name] = pod;
  }
  joinEndpoints(*snapshot, refresh<model::Slice>(slices_, sources.slices, [](const Json& o) {
    return one(model::parseSlice(o));
  }));
  snapshot->gateways = refresh<model::Gateway>(
      gateways_, sources.gateways, [](const Json& o) { return one(model::parseGateway(o)); });
  snapshot->virtual_services = refresh<model::VirtualService>(
      virtual_services_, sources.virtual_services,
      [&](const Json& o) { return one(model::parseVirtualService(o, domain)); });
  snapshot->destination_rules = refresh<model::DestinationRule>(
      destination_rules_, sources.destination_rules,
      [&](const Json& o) { return one(model::parseDestinationRule(o, domain)); });
  snapshot->sidecars = refresh<model::Sidecar>(
      sidecars_, sources.sidecars, [](const Json& o) { return one(model::parseSidecar(o)); });
  return snapshot;
}

std::set<std::string> Snapshot::changedSince(const Snapshot& before) const {
  std::set<std::string> changed;
  compare(services, before.services, changed);
  compare(gateways, before.gateways, changed);
  compare(virtual_services, before.virtual_services, changed);
  compare(destination_rules, before.destination_rules, changed);
  compare(sidecars, before.sidecars, changed);
  for (const auto& [key, list] : endpoints) {
    auto old = before.endpoints.find(key);
    if (old == before.endpoints.end() || old->second != list) changed.insert("Endpoints/" + key);
  }
  for (const auto& [key, list] : before.endpoints) {
    if (!endpoints.contains(key)) changed.insert("Endpoints/" + key);
  }
  for (const auto& [key, pod] : workloads) {
    auto old = before.workloads.find(key);
    if (old == before.workloads.end() || old->second->meta.labels != pod->meta.labels ||
        old->second->port_names != pod->port_names) {
      changed.insert("Workload/" + key);
    }
  }
  if (mesh.allow_any != before.mesh.allow_any ||
      mesh.access_log_file != before.mesh.access_log_file ||
      mesh.access_log_format != before.mesh.access_log_format ||
      mesh.connect_timeout != before.mesh.connect_timeout) {
    changed.insert("Mesh");
  }
  return changed;
}

}  // namespace postern::discovery
