// What a former run had accepted, given to the store and taken from it: the third part of
// ConfigStore.
#include "proxy/config_store.h"
#include "proxy/logs.h"
#include "xds/types.h"

#include <algorithm>

namespace postern::proxy {

void ConfigStore::restore(const std::vector<DynamicResources>& saved) {
  std::size_t count = 0;
  for (const DynamicResources& type : saved) {
    for (const auto& [name, text] : type.resources) {
      const xds::Update update{name, text.version, &text.message};
      if (const auto taken = take(type.type_url, update); !taken) {
        kConfigLog.warning("saved {} {}: {}", type.type_url, name, taken.error().message());
        continue;
      }
      ++count;
      versions_[type.type_url] = text.version;
      if (xds::isWildcardType(type.type_url)) restored_[type.type_url].insert(name);
    }
    if (type.resources.empty()) continue;
    if (type.type_url == api::kClusterType) clusters_expected_ = false;
    if (type.type_url == api::kListenerType) listeners_expected_ = false;
    subscribeNames();  // so that endpoints and routes find who wants them
    // One of them that needs what is not saved (a secret, endpoints that were not there) fails the
    // requests for it, not all listeners.
    if (type.type_url == api::kClusterType) clusters_ready_ = true;
  }
  if (count == 0) return;
  kConfigLog.info("took {} saved resources until the control plane answers", count);
  changed_ = true;
  settle();
}

void ConfigStore::dropRestored(std::string_view type_url, const std::vector<xds::Update>& updated) {
  const auto it = restored_.find(type_url);
  if (it == restored_.end()) return;
  std::set<std::string> gone = std::move(it->second);
  restored_.erase(it);
  for (const xds::Update& each : updated) gone.erase(each.name);
  for (const std::string& name : gone) remove(type_url, name);
}

std::vector<DynamicResources> ConfigStore::dynamicResources() const {
  std::vector<DynamicResources> out;
  for (const std::string_view type_url : xds::kPushOrder) {
    DynamicResources& type = out.emplace_back();
    type.type_url = type_url;
    const auto add = [&](const std::string& name, const ResourceText& text) {
      if (!text.message.type_url().empty()) type.resources.emplace_back(name, text);
    };
    const auto addVersions = [&](const auto& records, const auto& warming) {
      for (const auto& [name, record] : records) {
        if (!record.is_static)
          add(name, warming(record) ? record.warming_text : record.active_text);
      }
    };
    if (type_url == api::kClusterType) {
      addVersions(clusters_, [](const ClusterRecord& each) { return each.warming != nullptr; });
    } else if (type_url == api::kListenerType) {
      addVersions(listeners_,
                  [](const ListenerRecord& each) { return each.warming.config != nullptr; });
    } else if (type_url == api::kEndpointType) {
      for (const auto& [name, record] : endpoints_) add(name, record.text);
    } else if (type_url == api::kRouteType) {
      for (const auto& [name, record] : routes_) add(name, record.text);
    }
  }
  return out;
}

}  // namespace postern::proxy
