// What is active and what still warms: the second half of ConfigStore.
#include "api/message.h"
#include "proxy/config_store.h"
#include "proxy/listener_state.h"
#include "proxy/logs.h"

#include <algorithm>

namespace postern::proxy {

// What the control plane sent and we refused is not waited for: one bad resource would keep all of
// the configuration away, for ever where initial_fetch_timeout is 0.

bool ConfigStore::isWarm(const TlsSocket& socket) const {
  return std::none_of(socket.secrets().begin(), socket.secrets().end(),
                      [&](const SecretUse& use) { return secrets_.waitsFor(use); });
}

bool ConfigStore::isWarm(const ClusterRecord& record) const {
  const Cluster& cluster = *record.warming;
  for (const ClusterSocket& each : cluster.sockets) {
    if (each.tls != nullptr && !isWarm(*each.tls)) return false;
  }
  if (record.warming_dns != nullptr) return record.warming_dns->assignment() != nullptr;
  if (cluster.type != Cluster::Type::kEds || record.deadline <= loop_.now()) return true;
  const auto it = endpoints_.find(cluster.eds_name);
  return it != endpoints_.end() && (it->second.assignment != nullptr || it->second.error);
}

bool ConfigStore::isWarm(const ListenerRecord& record) const {
  const Listener& listener = *record.warming.config;
  for (const auto& chain : listener.allChains()) {
    if (chain->tls != nullptr && !isWarm(*chain->tls)) return false;
  }
  if (record.deadline <= loop_.now()) return true;
  return std::all_of(
      listener.route_names.begin(), listener.route_names.end(), [&](const std::string& name) {
        const auto it = routes_.find(name);
        return it != routes_.end() && (it->second.table != nullptr || it->second.error);
      });
}

void ConfigStore::activateClusters() {
  bool all = true;
  for (auto& [name, record] : clusters_) {
    if (record.warming == nullptr) continue;
    if (!isWarm(record)) {
      all = false;
      continue;
    }
    record.active = std::exchange(record.warming, nullptr);
    record.active_text = std::exchange(record.warming_text, {});
    record.dns = std::move(record.warming_dns);
    changed_ = true;
  }
  const bool waiting = clusters_expected_ && clusters_deadline_ > loop_.now();
  if (all && !waiting) clusters_ready_ = true;
}

void ConfigStore::activateListeners() {
  bool all = true;
  for (auto& [name, record] : listeners_) {
    if (record.warming.config == nullptr) continue;
    // Before the first clusters are there, a discovered listener would only answer errors.
    const bool may = record.is_static || clusters_ready_;
    if (!may || !isWarm(record)) {
      all = false;
      continue;
    }
    record.active = std::exchange(record.warming, {});
    record.active_text = std::exchange(record.warming_text, {});
    record.active_more = std::exchange(record.warming_more, {});
    const auto listen = [&name](const ListenerEntry& entry) {
      if (entry.sockets == nullptr) return;
      if (auto listening = entry.sockets->listen(entry.config->backlog); !listening)
        kConfigLog.error("listener {}: {}", name, listening.error().message());
    };
    listen(record.active);
    for (const ListenerEntry& each : record.active_more) listen(each);
    changed_ = true;
  }
  const bool waiting = listeners_expected_ && listeners_deadline_ > loop_.now();
  if (all && clusters_ready_ && !waiting && !initialized_) {
    initialized_ = true;
    kConfigLog.info("all configuration is initialized");
  }
}

void ConfigStore::settle() {
  const bool was_initialized = initialized_;
  subscribeNames();
  activateClusters();
  activateListeners();
  subscribeNames();  // what only the versions before wanted is not wanted any more
  armDeadline();
  publish();
  if (initialized_ && !was_initialized && on_initialized_) on_initialized_();
}

void ConfigStore::subscribeNames() {
  std::set<std::string> endpoints;
  for (const auto& [name, record] : clusters_) {
    for (const Cluster* each : {record.active.get(), record.warming.get()}) {
      if (each != nullptr && each->type == Cluster::Type::kEds) endpoints.insert(each->eds_name);
    }
  }
  std::set<std::string> routes;
  for (const auto& [name, record] : listeners_) {
    for (const Listener* each : {record.active.config.get(), record.warming.config.get()}) {
      if (each != nullptr) routes.insert(each->route_names.begin(), each->route_names.end());
    }
  }
  const auto follow = [&](auto& records, const std::set<std::string>& names,
                          std::string_view type_url) {
    bool changed = false;
    std::erase_if(records, [&](const auto& entry) {
      const bool gone = !names.contains(entry.first);
      changed = changed || gone;
      return gone;
    });
    for (const std::string& name : names) changed = records.try_emplace(name).second || changed;
    if (!changed) return;
    changed_ = true;
    if (subscribe_) subscribe_(type_url, names);
  };
  const std::set<std::string> secrets = secrets_.names();
  secrets_.follow(sockets());
  if (const std::set<std::string> now = secrets_.names(); now != secrets && subscribe_)
    subscribe_(api::kSecretType, now);
  follow(endpoints_, endpoints, api::kEndpointType);
  follow(routes_, routes, api::kRouteType);
}

void ConfigStore::armDeadline() {
  base::MonotonicTime next = base::MonotonicTime::max();
  const auto consider = [&](base::MonotonicTime at) {
    if (at > loop_.now()) next = std::min(next, at);
  };
  for (const auto& [name, record] : clusters_) {
    if (record.warming != nullptr) consider(record.deadline);
  }
  for (const auto& [name, record] : listeners_) {
    if (record.warming.config != nullptr) consider(record.deadline);
  }
  consider(secrets_.nextDeadline());
  if (clusters_expected_) consider(clusters_deadline_);
  if (listeners_expected_) consider(listeners_deadline_);
  if (next == base::MonotonicTime::max()) {
    deadline_.cancel();
  } else {
    deadline_.arm(next - loop_.now());
  }
}

void ConfigStore::publish() {
  if (!changed_) return;
  changed_ = false;
  auto snapshot = std::make_shared<Snapshot>();
  std::int64_t warming_clusters = 0;
  std::int64_t warming_listeners = 0;
  std::int64_t active_listeners = 0;
  for (const auto& [name, record] : clusters_) {
    if (record.warming != nullptr) ++warming_clusters;
    if (record.active == nullptr) continue;
    ClusterEntry entry{record.active, nullptr, record.use};
    if (record.dns != nullptr) entry.assignment = record.dns->assignment();
    if (record.active->type == Cluster::Type::kEds) {
      const auto it = endpoints_.find(record.active->eds_name);
      if (it != endpoints_.end()) entry.assignment = it->second.assignment;
    }
    snapshot->clusters.emplace(name, std::move(entry));
  }
  for (const auto& [name, record] : listeners_) {
    if (record.warming.config != nullptr) ++warming_listeners;
    if (record.active.config == nullptr) continue;
    ++active_listeners;
    snapshot->listeners.emplace(name, record.active);
    for (const ListenerEntry& each : record.active_more)
      snapshot->listeners.emplace(each.config->name, each);
  }
  for (const auto& [name, record] : routes_) {
    if (record.table != nullptr) snapshot->routes.emplace(name, record.table);
  }
  stats::Scope& clusters = stats_.scope("cluster_manager.");
  clusters.gauge("active_clusters").set(static_cast<std::int64_t>(snapshot->clusters.size()));
  clusters.gauge("warming_clusters").set(warming_clusters);
  stats::Scope& listeners = stats_.scope("listener_manager.");
  listeners.gauge("total_listeners_active").set(active_listeners);
  listeners.gauge("total_listeners_warming").set(warming_listeners);
  published_ = snapshot;
  std::erase_if(retired_uses_, [](const auto& each) { return each.second.expired(); });
  if (publish_) publish_(std::move(snapshot));
}

}  // namespace postern::proxy
