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

}  // namespace postern::discovery
