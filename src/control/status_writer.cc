#include "control/status_writer.h"

#include "base/log.h"
#include "discovery/lookup.h"
#include "kube/controller.h"
#include "model/findings.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace postern::control {
namespace {

using json::Json;

base::LogComponent kStatusLog("status");

constexpr std::chrono::milliseconds kPause{200};

const kube::ResourceType* typeOf(const std::string& kind) {
  using namespace kube::types;
  for (const kube::ResourceType* type :
       {&kGateway, &kVirtualService, &kDestinationRule, &kServiceEntry, &kSidecar}) {
    if (type->kind == kind) return type;
  }
  return nullptr;
}

class StatusWriterImpl final : public StatusWriter {
 public:
  StatusWriterImpl(event::Loop& loop, kube::Client& client)
      : loop_(loop), client_(client), timer_(loop, [this] { look(); }) {
    controller_ =
        kube::Controller::start("status", [this](const std::string& key) { return write(key); });
  }
  ~StatusWriterImpl() override { controller_.reset(); }

  void update(std::shared_ptr<const discovery::Snapshot> snapshot,
              discovery::Sources sources) override {
    snapshot_ = std::move(snapshot);
    sources_ = std::move(sources);
    if (!timer_.armed()) timer_.arm(kPause);
  }

 private:
  void look() {
    const discovery::SnapshotLookup lookup(snapshot_);
    const std::string now =
        fmt::format("{:%Y-%m-%dT%H:%M:%S}Z",
                    fmt::gmtime(std::chrono::system_clock::to_time_t(loop_.clock().wall())));
    const std::pair<const kube::ResourceType&, const std::vector<kube::ObjectPtr>&> all[] = {
        {kube::types::kGateway, sources_.gateways},
        {kube::types::kVirtualService, sources_.virtual_services},
        {kube::types::kDestinationRule, sources_.destination_rules},
        {kube::types::kServiceEntry, sources_.service_entries},
        {kube::types::kSidecar, sources_.sidecars}};
    for (const auto& [type, objects] : all) {
      for (const kube::ObjectPtr& object : objects) {
        if (json::find(*object, "metadata.deletionTimestamp") != nullptr) continue;
        Json status = model::statusWith(*object, model::findings(type.kind, *object, &lookup), now);
        if (status.is_null()) continue;
        std::string key = type.kind + "/" + kube::keyOf(*object);
        {
          std::lock_guard lock(mutex_);
          wanted_[key] = std::move(status);
        }
        controller_->enqueue(std::move(key));
      }
    }
  }

  /// Worker thread.
  kube::Outcome write(const std::string& key) {
    Json status;
    {
      std::lock_guard lock(mutex_);
      auto found = wanted_.find(key);
      if (found == wanted_.end()) return kube::Outcome::done();
      status = std::move(found->second);
      wanted_.erase(found);
    }
    const auto slash = key.find('/');
    const kube::ResourceType* type = typeOf(key.substr(0, slash));
    if (type == nullptr) return kube::Outcome::done();
    const auto [ns, name] = kube::splitKey(std::string_view(key).substr(slash + 1));
    auto patched =
        client_.patch(*type, ns, name, kube::PatchType::kMerge, {{"status", status}},
                      {.field_manager = "postern-status", .subresource = "status", .force = false});
    if (patched || patched.error().notFound()) return kube::Outcome::done();
    kStatusLog.warning("{}: status not written: {}", key, patched.error().message);
    std::lock_guard lock(mutex_);
    wanted_.try_emplace(key, std::move(status));  // something newer goes first
    return kube::Outcome::retry();
  }

  event::Loop& loop_;
  kube::Client& client_;
  event::Timer timer_;
  std::shared_ptr<const discovery::Snapshot> snapshot_;  // loop thread
  discovery::Sources sources_;
  std::mutex mutex_;
  std::map<std::string, Json> wanted_;  // guarded
  std::unique_ptr<kube::Controller> controller_;
};

}  // namespace

std::unique_ptr<StatusWriter> StatusWriter::start(event::Loop& loop, kube::Client& client) {
  return std::make_unique<StatusWriterImpl>(loop, client);
}

}  // namespace postern::control
