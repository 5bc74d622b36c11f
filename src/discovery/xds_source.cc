#include "discovery/xds_source.h"

#include "api/message.h"
#include "base/log.h"

#include <nlohmann/json.hpp>

#include <array>
#include <optional>
#include <set>

namespace postern::discovery {
namespace {

using json::Json;

base::LogComponent kXdsLog("xds");

constexpr int kInvalidArgument = 3;
constexpr int kUnauthenticated = 16;
constexpr int kUnavailable = 14;

struct Known {
  Type type;
  const char* name;
};
constexpr std::array<Known, kTypeCount> kTypes{{{Type::kClusters, "cds"},
                                                {Type::kEndpoints, "eds"},
                                                {Type::kListeners, "lds"},
                                                {Type::kRoutes, "rds"}}};

const Known* known(std::string_view type_url) {
  for (const Known& each : kTypes) {
    if (typeUrl(each.type) == type_url) return &each;
  }
  return nullptr;
}
std::string shortName(std::string_view type_url) {
  const Known* found = known(type_url);
  return found != nullptr ? found->name : std::string(type_url);
}

/// Why the credentials do not belong to the node, or "". A credential bound to a pod speaks for
/// this pod only; the account is that of the pod when the pod is known, else what the node says.
std::string mismatch(const ProxyKey& key, const xds::Caller& caller, const Snapshot& snapshot) {
  if (caller.ns != key.ns) {
    return "the token is of namespace " + caller.ns + ", the node of " + key.ns;
  }
  if (!caller.pod.empty() && caller.pod != key.pod) {
    return "the token is bound to pod " + caller.pod + ", the node is " + key.pod;
  }
  const auto pod = snapshot.workloads.find(key.ns + "/" + key.pod);
  const std::string& account =
      pod != snapshot.workloads.end() ? pod->second->service_account : key.service_account;
  if (!account.empty() && account != caller.service_account) {
    return "the token is of service account " + caller.service_account + ", the pod runs as " +
           account;
  }
  return "";
}

}  // namespace

void XdsSource::update(std::shared_ptr<const Snapshot> snapshot) {
  ready_ = true;
  std::set<ProxyId> changed;
  distributor_.update(std::move(snapshot),
                      [&](ProxyId proxy, const Delta&) { changed.insert(proxy); });
  for (const ProxyId proxy : changed) {
    if (on_changed_) on_changed_(proxy);
  }
}

std::expected<XdsSource::ProxyId, http::GrpcStatus> XdsSource::connected(
    const xds::NodeInfo& node, const xds::Caller& caller) {
  const auto refuse = [&](int code, std::string why) {
    ++refused_;
    kXdsLog.warning("proxy {} refused: {}", node.id.substr(0, 200), why);
    return std::unexpected(http::GrpcStatus{code, std::move(why)});
  };
  if (!ready_) return refuse(kUnavailable, "the control plane has not read its configuration yet");
  auto metadata = json::parse(node.metadata_json);
  if (!metadata) return refuse(kInvalidArgument, "node.metadata: " + metadata.error().message());
  auto key = ProxyKey::parse(node.id, *metadata);
  if (!key) return refuse(kInvalidArgument, key.error().message());
  if (!caller.local) {
    if (std::string why = mismatch(*key, caller, *distributor_.snapshot()); !why.empty()) {
      return refuse(kUnauthenticated, std::move(why));
    }
  }
  const ProxyId id = distributor_.add(std::move(*key));
  proxies_[id];
  kXdsLog.info("proxy {} connected", node.id);
  return id;
}

void XdsSource::disconnected(ProxyId proxy) {
  if (const ProxyKey* key = distributor_.proxy(proxy))
    kXdsLog.info("proxy {} disconnected", key->id);
  distributor_.remove(proxy);
  proxies_.erase(proxy);
}

void XdsSource::resources(ProxyId proxy, std::string_view type_url, const Visit& visit) {
  const Known* type = known(type_url);
  const auto* all = type == nullptr ? nullptr : distributor_.resources(proxy, type->type);
  if (all == nullptr) return;
  for (const auto& [name, entry] : *all) visit(name, entry.version, entry.bytes);
}

void XdsSource::sent(ProxyId proxy, std::string_view type_url) {
  ++counters_[shortName(type_url)].pushes;
  ++proxies_[proxy].types[shortName(type_url)].sent;
}

void XdsSource::acknowledged(ProxyId proxy, std::string_view type_url, std::string_view error) {
  const std::string name = shortName(type_url);
  TypeSync& sync = proxies_[proxy].types[name];
  sync.acknowledged = sync.sent;
  sync.error = error;
  if (error.empty()) return;
  ++counters_[name].rejects;
  const ProxyKey* key = distributor_.proxy(proxy);
  kXdsLog.error("proxy {} refuses {}: {}", key != nullptr ? key->id : "?", name, error);
}

Json XdsSource::syncState() const {
  Json out = Json::array();
  for (const auto& [id, state] : proxies_) {
    const ProxyKey* key = distributor_.proxy(id);
    if (key == nullptr) continue;
    Json types = Json::object();
    for (const auto& [name, sync] : state.types) {
      Json entry = {{"status", !sync.error.empty()              ? "ERROR"
                               : sync.acknowledged == sync.sent ? "SYNCED"
                                                                : "STALE"},
                    {"sent", sync.sent}};
      if (!sync.error.empty()) entry["error"] = sync.error;
      types[name] = std::move(entry);
    }
    out.push_back({{"proxy", key->pod + "." + key->ns},
                   {"node_id", key->id},
                   {"type", key->router ? "router" : "sidecar"},
                   {"types", std::move(types)}});
  }
  return out;
}

Json XdsSource::configDump(std::string_view proxy) const {
  for (const auto& [id, state] : proxies_) {
    const ProxyKey* key = distributor_.proxy(id);
    if (key == nullptr || (key->id != proxy && key->pod + "." + key->ns != proxy)) continue;
    Json out = {{"node_id", key->id}};
    for (const Known& type : kTypes) {
      Json list = Json::array();
      for (const auto& [name, entry] : *distributor_.resources(id, type.type)) {
        list.push_back(
            {{"name", name}, {"version", entry.version}, {"resource", entry.resource.config}});
      }
      out[type.name] = std::move(list);
      out["origins"][type.name] = distributor_.explain(id, type.type);
    }
    return out;
  }
  return nullptr;
}

}  // namespace postern::discovery
