#include "discovery/watcher.h"

#include "json/json.h"

#include <nlohmann/json.hpp>

#include <array>
#include <atomic>

namespace postern::discovery {

namespace {

enum Kind : std::size_t {
  kServices,
  kSlices,
  kPods,
  kGateways,
  kVirtualServices,
  kDestinationRules,
  kServiceEntries,
  kSidecars,
  kConfigMaps,
  kMeshes,
  kKindCount
};

constexpr std::chrono::milliseconds kSyncPoll{20};

}  // namespace

/// Outlives the watcher in handlers that are still queued; `alive` is only touched on the loop.
struct Watcher::Shared : std::enable_shared_from_this<Watcher::Shared> {
  Shared(event::Loop& on, OnSnapshot callback, std::chrono::milliseconds quiet)
      : loop(on), on_snapshot(std::move(callback)), debounce(quiet) {
    timer = std::make_unique<event::Timer>(loop, [this] { fire(); });
  }

  /// Any thread.
  void changed() {
    if (posted.exchange(true)) return;
    loop.post([self = shared_from_this()] {
      self->posted = false;
      if (self->timer != nullptr && !self->timer->armed()) self->timer->arm(self->debounce);
    });
  }

  void fire() {
    for (const auto& informer : informers) {
      if (!informer->synced()) {
        timer->arm(kSyncPoll);
        return;
      }
    }
    const Sources sources = collect();
    on_snapshot(builder.build(sources), sources);
  }

  Sources collect() const {
    Sources out;
    out.services = informers[kServices]->list();
    out.slices = informers[kSlices]->list();
    out.pods = informers[kPods]->list();
    out.gateways = informers[kGateways]->list();
    out.virtual_services = informers[kVirtualServices]->list();
    out.destination_rules = informers[kDestinationRules]->list();
    out.service_entries = informers[kServiceEntries]->list();
    out.sidecars = informers[kSidecars]->list();
    out.mesh_config_map = informers[kConfigMaps]->get("istio-system", "istio");
    const auto meshes = informers[kMeshes]->list("istio-system");
    if (!meshes.empty()) out.mesh = meshes.front();
    return out;
  }

  event::Loop& loop;
  OnSnapshot on_snapshot;
  std::chrono::milliseconds debounce;
  std::unique_ptr<event::Timer> timer;
  std::atomic<bool> posted{false};
  std::array<std::unique_ptr<kube::Informer>, kKindCount> informers;
  SnapshotBuilder builder;
};

Watcher::Watcher(event::Loop& loop, kube::Client& client, OnSnapshot on_snapshot,
                 std::chrono::milliseconds debounce)
    : shared_(std::make_shared<Shared>(loop, std::move(on_snapshot), debounce)) {
  const std::array<const kube::ResourceType*, kKindCount> types{
      &kube::types::kService,      &kube::types::kEndpointSlice,  &kube::types::kPod,
      &kube::types::kGateway,      &kube::types::kVirtualService, &kube::types::kDestinationRule,
      &kube::types::kServiceEntry, &kube::types::kSidecar,        &kube::types::kConfigMap,
      &kube::types::kIstio};
  for (std::size_t i = 0; i < kKindCount; ++i) {
    const std::string ns = i == kConfigMaps || i == kMeshes ? "istio-system" : "";
    shared_->informers[i] = kube::Informer::start(client, *types[i], ns);
  }
  for (auto& informer : shared_->informers) {
    informer->addHandler([weak = std::weak_ptr<Shared>(shared_)](const kube::InformerEvent&) {
      if (auto self = weak.lock()) self->changed();
    });
  }
  shared_->changed();  // also an empty cluster has a snapshot
}

Watcher::~Watcher() {
  shared_->timer.reset();
  for (auto& informer : shared_->informers) informer.reset();
}

}  // namespace postern::discovery
