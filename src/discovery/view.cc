#include "discovery/view.h"

#include "base/strings.h"
#include "model/host.h"

#include <algorithm>

namespace postern::discovery {

View::View(std::shared_ptr<const Snapshot> snapshot, ProxyKey proxy)
    : snapshot_(std::move(snapshot)), proxy_(std::move(proxy)) {}

const model::MeshSettings& View::mesh() {
  note("Mesh");
  return snapshot_->mesh;
}

const model::Workload* View::pod() {
  const std::string key = proxy_.ns + "/" + proxy_.pod;
  note("Workload/" + key);
  auto found = snapshot_->workloads.find(key);
  return found == snapshot_->workloads.end() ? nullptr : found->second.get();
}

const model::Labels& View::labels() {
  const model::Workload* workload = pod();
  return workload != nullptr ? workload->meta.labels : proxy_.labels;
}

std::uint32_t View::containerPort(const std::string& name) {
  const model::Workload* workload = pod();
  if (workload == nullptr) return 0;
  auto found = workload->port_names.find(name);
  if (found == workload->port_names.end()) return 0;
  return base::parseInteger<std::uint32_t>(found->second).value_or(0);
}

const model::Sidecar* View::sidecar() {
  if (proxy_.router) return nullptr;
  note("Sidecar/*");
  const model::Sidecar* of_namespace = nullptr;
  const model::Sidecar* of_root = nullptr;
  for (const auto& item : snapshot_->sidecars) {
    const std::string& ns = item->meta.origin.ns;
    const bool selects = item->selector && !item->selector->empty();
    if (ns == proxy_.ns && selects && model::labelsContain(labels(), *item->selector)) {
      return item.get();
    }
    if (selects) continue;
    if (ns == proxy_.ns && of_namespace == nullptr) of_namespace = item.get();
    if (ns == snapshot_->mesh.root_namespace && of_root == nullptr) of_root = item.get();
  }
  return of_namespace != nullptr ? of_namespace : of_root;
}

bool View::allowAny() {
  const model::Sidecar* scope = sidecar();
  return scope != nullptr && scope->allow_any ? *scope->allow_any : mesh().allow_any;
}

namespace {

/// One "ns/dns" entry of a Sidecar against a service.
bool entryMatches(std::string_view entry, const model::Service& service, const std::string& own) {
  const auto slash = entry.find('/');
  if (slash == std::string_view::npos) return false;
  std::string_view ns = entry.substr(0, slash);
  if (ns == ".") ns = own;
  return (ns == "*" || ns == service.meta.origin.ns) &&
         model::hostCovers(entry.substr(slash + 1), service.host);
}

}  // namespace

namespace {

/// ServiceEntries of one namespace add up: each brings ports to the host. A port belongs to the
/// oldest.
bool sharesHost(const model::Service& chosen, const model::Service& other) {
  if (&chosen == &other) return true;
  return !chosen.kubernetes && !other.kubernetes && chosen.meta.origin.ns == other.meta.origin.ns;
}

}  // namespace

bool View::sidecarAllows(const model::Service& service, const model::Port& port) {
  const model::Sidecar* scope = sidecar();
  if (scope == nullptr || scope->egress.empty()) return true;
  for (const model::EgressListener& listener : scope->egress) {
    if (listener.port != 0 && listener.port != port.number) continue;
    bool included = false;
    bool excluded = false;
    for (std::string_view entry : listener.hosts) {
      if (!entry.starts_with("~")) {
        included = included || entryMatches(entry, service, proxy_.ns);
        continue;
      }
      entry.remove_prefix(1);
      const std::string any = "*" + std::string(entry);
      const bool all = entry.starts_with("/");
      excluded = excluded || entryMatches(all ? std::string_view(any) : entry, service, proxy_.ns);
    }
    if (included && !excluded) return true;
  }
  return false;
}

const std::vector<View::VisibleService>& View::services() {
  if (!services_ready_) {
    services_ready_ = true;
    std::set<std::string> outer = takeDependencies();
    note("Service/*");
    note("ServiceEntry/*");
    buildScope();
    scope_dependencies_ = std::exchange(dependencies_, std::move(outer));
  }
  // The scope is computed once, but every type that reads it depends on what it was made of.
  dependencies_.insert(scope_dependencies_.begin(), scope_dependencies_.end());
  return services_;
}

void View::buildScope() {
  // A host of the proxy's own namespace wins over the same host elsewhere; then Kubernetes, then
  // age.
  for (const auto& item : snapshot_->services) {
    if (!model::exportedTo(item->export_to, item->meta.origin.ns, proxy_.ns)) continue;
    auto [slot, fresh] = by_host_.try_emplace(item->host, item.get());
    const bool own = item->meta.origin.ns == proxy_.ns;
    if (!fresh && own && slot->second->meta.origin.ns != proxy_.ns && !slot->second->kubernetes) {
      slot->second = item.get();
    }
  }
  std::set<std::string> named;  // destinations that rules name are imported too
  if (sidecar() != nullptr) {
    for (const model::VirtualService* vs : virtualServices("mesh")) {
      for (const model::HttpRule& rule : vs->http) {
        for (const auto& to : rule.destinations) named.insert(to.destination.host);
      }
      for (const auto* rules : {&vs->tls, &vs->tcp}) {
        for (const model::L4Rule& rule : *rules) {
          for (const auto& to : rule.destinations) named.insert(to.destination.host);
        }
      }
    }
  }
  std::map<std::string, std::set<std::uint32_t>, std::less<>> taken;  // ports, by host
  for (const auto& item : snapshot_->services) {
    auto chosen = by_host_.find(item->host);
    if (chosen == by_host_.end() || !sharesHost(*chosen->second, *item)) continue;
    VisibleService visible{item.get(), {}};
    for (const model::Port& port : item->ports) {
      if (port.protocol == model::Protocol::kUdp) continue;
      if (!taken[item->host].insert(port.number).second) continue;
      if (named.contains(item->host) || sidecarAllows(*item, port)) visible.ports.push_back(&port);
    }
    if (!visible.ports.empty()) services_.push_back(std::move(visible));
  }
}

const model::Service* View::service(std::string_view host) {
  services();
  auto found = by_host_.find(host);
  return found == by_host_.end() ? nullptr : found->second;
}

std::vector<const model::Service*> View::ownServices() {
  note("Service/*");
  std::vector<const model::Service*> out;
  for (const auto& item : snapshot_->services) {
    if (item->kubernetes && item->meta.origin.ns == proxy_.ns && !item->selector.empty() &&
        model::labelsContain(labels(), item->selector)) {
      out.push_back(item.get());
    }
  }
  return out;
}

const std::vector<model::Endpoint>& View::endpoints(const model::Service& service) {
  static const std::vector<model::Endpoint> none;
  const std::string key = endpointsKey(service);
  note("Endpoints/" + key);
  auto found = snapshot_->endpoints.find(key);
  return found == snapshot_->endpoints.end() ? none : found->second;
}

std::vector<const model::VirtualService*> View::virtualServices(std::string_view gateway) {
  note("VirtualService/*");
  std::vector<const model::VirtualService*> out;
  for (const auto& item : snapshot_->virtual_services) {
    const bool bound =
        std::find(item->gateways.begin(), item->gateways.end(), gateway) != item->gateways.end();
    if (bound && model::exportedTo(item->export_to, item->meta.origin.ns, proxy_.ns)) {
      out.push_back(item.get());
    }
  }
  return out;
}

std::vector<const model::Gateway*> View::gateways() {
  note("Gateway/*");
  std::vector<const model::Gateway*> out;
  for (const auto& item : snapshot_->gateways) {
    if (!item->selector || model::labelsContain(labels(), *item->selector)) {
      out.push_back(item.get());
    }
  }
  return out;
}

const model::DestinationRule* View::destinationRule(const model::Service& service) {
  note("DestinationRule/*");
  const std::string& root = snapshot_->mesh.root_namespace;
  for (const std::string& ns :
       {proxy_.ns == root ? std::string() : proxy_.ns, service.meta.origin.ns, root}) {
    const model::DestinationRule* best = nullptr;
    for (const auto& item : snapshot_->destination_rules) {
      const model::DestinationRule& rule = *item;
      if (ns.empty() || rule.meta.origin.ns != ns || !model::hostCovers(rule.host, service.host)) {
        continue;
      }
      if (!model::exportedTo(rule.export_to, ns, proxy_.ns)) continue;
      if (rule.workload_selector &&
          (ns != proxy_.ns || !model::labelsContain(labels(), *rule.workload_selector))) {
        continue;
      }
      if (best == nullptr ||
          model::hostSpecificity(rule.host) > model::hostSpecificity(best->host)) {
        best = &rule;
      }
    }
    if (best != nullptr) return best;
  }
  return nullptr;
}

bool touches(const std::set<std::string>& dependencies, const std::set<std::string>& changed) {
  return std::any_of(changed.begin(), changed.end(), [&](const std::string& key) {
    return dependencies.contains(key) || dependencies.contains(key.substr(0, key.find('/')) + "/*");
  });
}

}  // namespace postern::discovery
