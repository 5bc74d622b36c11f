#include "discovery/lookup.h"

#include "model/host.h"

#include <algorithm>

namespace postern::discovery {

const model::Gateway* SnapshotLookup::gateway(std::string_view ns, std::string_view name) const {
  for (const auto& item : snapshot_->gateways) {
    if (item->meta.origin.ns == ns && item->meta.origin.name == name) return item.get();
  }
  return nullptr;
}

bool SnapshotLookup::hasHost(std::string_view host) const {
  return std::any_of(snapshot_->services.begin(), snapshot_->services.end(),
                     [&](const auto& s) { return model::hostCovers(s->host, host); });
}

bool SnapshotLookup::hasSubset(std::string_view host, std::string_view subset) const {
  for (const auto& rule : snapshot_->destination_rules) {
    if (!model::hostCovers(rule->host, host)) continue;
    for (const model::Subset& each : rule->subsets) {
      if (each.name == subset) return true;
    }
  }
  return false;
}

bool SnapshotLookup::hasWorkload(const model::Labels& selector) const {
  return std::any_of(
      snapshot_->workloads.begin(), snapshot_->workloads.end(),
      [&](const auto& entry) { return model::labelsContain(entry.second->meta.labels, selector); });
}

std::string SnapshotLookup::meshRuleOf(std::string_view host) const {
  for (const auto& item : snapshot_->virtual_services) {  // oldest first
    const auto has = [](const std::vector<std::string>& list, std::string_view what) {
      return std::find(list.begin(), list.end(), what) != list.end();
    };
    if (!item->http.empty() && has(item->gateways, "mesh") && has(item->hosts, host)) {
      return item->meta.origin.ns + "/" + item->meta.origin.name;
    }
  }
  return "";
}

std::string SnapshotLookup::portTakenBy(const model::Gateway& gateway,
                                        const model::Server& server) const {
  const auto common = [&](const model::Gateway& other) {
    return std::any_of(
        snapshot_->workloads.begin(), snapshot_->workloads.end(), [&](const auto& w) {
          const model::Labels& labels = w.second->meta.labels;
          return model::labelsContain(labels, gateway.selector.value_or(model::Labels{})) &&
                 model::labelsContain(labels, other.selector.value_or(model::Labels{}));
        });
  };
  for (const auto& other : snapshot_->gateways) {  // oldest first
    const model::Origin& origin = other->meta.origin;
    if (origin.ns == gateway.meta.origin.ns && origin.name == gateway.meta.origin.name) break;
    const bool taken =
        std::any_of(other->servers.begin(), other->servers.end(), [&](const model::Server& theirs) {
          return theirs.port == server.port && theirs.bind == server.bind &&
                 model::familyOf(theirs.protocol) != model::familyOf(server.protocol);
        });
    if (taken && common(*other)) return origin.ns + "/" + origin.name;
  }
  return "";
}

}  // namespace postern::discovery
