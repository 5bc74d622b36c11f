#include "discovery/lookup.h"

#include "model/host.h"

#include <algorithm>

namespace postern::discovery {

bool SnapshotLookup::hasGateway(std::string_view ns, std::string_view name) const {
  return std::any_of(snapshot_->gateways.begin(), snapshot_->gateways.end(), [&](const auto& g) {
    return g->meta.origin.ns == ns && g->meta.origin.name == name;
  });
}

bool SnapshotLookup::hasHost(std::string_view host) const {
  return std::any_of(snapshot_->services.begin(), snapshot_->services.end(),
                     [&](const auto& s) { return model::hostCovers(s->host, host); });
}

}  // namespace postern::discovery
