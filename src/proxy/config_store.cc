#include "proxy/config_store.h"

#include "api/message.h"
#include "config/supported.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "proxy/config_build.h"
#include "proxy/config_http.h"
#include "proxy/listener_state.h"
#include "proxy/logs.h"

#include <algorithm>

namespace postern::proxy {

namespace {

namespace conf = envoy::config;
using config::joinPath;
using google::protobuf::Message;

template <class T>
const T& castTo(const Message& message) {
  return *google::protobuf::DynamicCastToGenerated<const T>(&message);
}

bool isDns(const Cluster& cluster) {
  return cluster.type == Cluster::Type::kStrictDns || cluster.type == Cluster::Type::kLogicalDns;
}

/// The statistics prefix of a type's subscription.
std::string statPrefix(std::string_view type_url) {
  if (type_url == api::kClusterType) return "cluster_manager.cds.";
  if (type_url == api::kListenerType) return "listener_manager.lds.";
  if (type_url == api::kRouteType) return "http.rds.";
  if (type_url == api::kSecretType) return "sds.";
  return "cluster.eds.";
}

/// All that a listener has bound, whichever version.
std::vector<const ListenerEntry*> entriesOf(const ConfigStore::ListenerRecord& record) {
  std::vector<const ListenerEntry*> out{&record.warming, &record.active};
  for (const auto* more : {&record.warming_more, &record.active_more}) {
    for (const ListenerEntry& each : *more) out.push_back(&each);
  }
  return out;
}

}  // namespace

ConfigStore::ConfigStore(event::Loop& loop, stats::Store& stats, Options options, Publish publish,
                         Subscribe subscribe)
    : loop_(loop),
      stats_(stats),
      options_(std::move(options)),
      binds_(options_.bind),
      inherited_(options_.inherited),
      publish_(std::move(publish)),
      subscribe_(std::move(subscribe)),
      resolver_(net::makeResolver(loop)),
      secrets_(loop, stats,
               [this] {
                 (void)rebuildSockets("");
                 settle_.arm({});
               }),
      published_(std::make_shared<const Snapshot>()),
      deadline_(loop, [this] { settle(); }),
      settle_(loop, [this] { settle(); }) {}

ConfigStore::~ConfigStore() = default;

base::ConfigResult<void> ConfigStore::addStatic(const conf::bootstrap::v3::Bootstrap& bootstrap) {
  const auto& resources = bootstrap.static_resources();
  const auto textOf = [&](const Message& message) {
    ResourceText text;
    api::pack(message, text.message);
    text.updated = loop_.clock().wall();
    return text;
  };
  for (int i = 0; i < resources.secrets_size(); ++i) {
    const auto& message = resources.secrets(i);
    POSTERN_TRY_VOID(
        secrets_.addStatic(message, joinPath("static_resources", "secrets", i), textOf(message)));
  }
  for (int i = 0; i < resources.clusters_size(); ++i) {
    const auto& message = resources.clusters(i);
    const std::string path = joinPath("static_resources", "clusters", i);
    if (clusters_.contains(message.name()))
      return base::failConfig(path + ".name", "\"" + message.name() + "\" is there twice");
    POSTERN_TRY_VOID(takeCluster(message, path, textOf(message), true));
  }
  for (int i = 0; i < resources.listeners_size(); ++i) {
    const auto& message = resources.listeners(i);
    const std::string path = joinPath("static_resources", "listeners", i);
    if (!message.name().empty() && listeners_.contains(message.name()))
      return base::failConfig(path + ".name", "\"" + message.name() + "\" is there twice");
    if (options_.runtime.empty()) {
      POSTERN_TRY_VOID(takeListener(message, path, textOf(message), true));
      continue;
    }
    auto used = message;
    options_.runtime.apply(used);
    POSTERN_TRY_VOID(takeListener(used, path, textOf(message), true));
  }
  return {};
}

void ConfigStore::expect(std::optional<std::chrono::milliseconds> clusters,
                         std::optional<std::chrono::milliseconds> listeners) {
  const auto deadline = [&](std::chrono::milliseconds timeout) {
    return timeout.count() == 0 ? base::MonotonicTime::max() : loop_.now() + timeout;
  };
  clusters_expected_ = clusters.has_value();
  listeners_expected_ = listeners.has_value();
  if (clusters) clusters_deadline_ = deadline(*clusters);
  if (listeners) listeners_deadline_ = deadline(*listeners);
  settle();
}

std::string ConfigStore::version(std::string_view type_url) const {
  const auto it = versions_.find(type_url);
  return it == versions_.end() ? "" : it->second;
}

// ---- one response ----

base::ConfigResult<void> ConfigStore::update(std::string_view type_url,
                                             const std::vector<xds::Update>& updated,
                                             const std::vector<std::string>& removed) {
  // Removals first: an address that one listener leaves may be taken by another.
  for (const std::string& name : removed) remove(type_url, name);
  dropRestored(type_url, updated);
  std::string errors;
  std::set<std::string_view> seen;
  for (const xds::Update& each : updated) {
    base::ConfigResult<void> taken = take(type_url, each);
    if (taken && !seen.insert(each.name).second)
      taken = base::failConfig("", "duplicate resource " + each.name);
    if (taken) {
      versions_[std::string(type_url)] = each.version;
      continue;
    }
    fail(type_url, each, taken.error().message());
    if (!errors.empty()) errors += "\n";
    errors += each.name + ": " + taken.error().message();
  }
  if (type_url == api::kClusterType) clusters_expected_ = false;
  if (type_url == api::kListenerType) listeners_expected_ = false;
  countUpdate(type_url, errors.empty());
  settle();
  if (errors.empty()) return {};
  kConfigLog.warning("refused {}: {}", type_url, errors);
  return base::failConfig("", errors);
}

base::ConfigResult<void> ConfigStore::take(std::string_view type_url, const xds::Update& update) {
  if (update.resource == nullptr || update.resource->type_url() != type_url)
    return base::failConfig("", "is not of type " + std::string(type_url));
  POSTERN_TRY(const auto message, api::unpack(*update.resource));
  if (const std::size_t unknown = config::countUnknownFields(*message)) {
    if (!options_.ignore_unknown_fields)
      stats_.scope("server.").counter("dynamic_unknown_fields").add(unknown);
    if (options_.reject_unknown_fields)
      return base::failConfig("", "has " + std::to_string(unknown) + " unknown fields");
  }
  ResourceText text;
  text.message = *update.resource;
  text.version = update.version;
  text.updated = loop_.clock().wall();
  options_.runtime.apply(*message);
  if (type_url == api::kClusterType) return takeCluster(*message, "", std::move(text), false);
  if (type_url == api::kListenerType) return takeListener(*message, "", std::move(text), false);
  if (type_url == api::kRouteType) return takeRoutes(*message, std::move(text));
  if (type_url == api::kEndpointType) return takeEndpoints(*message, std::move(text));
  if (type_url == api::kSecretType) return takeSecret(*message, std::move(text));
  return base::failConfig("", "nobody asked for this type");
}

void ConfigStore::fail(std::string_view type_url, const xds::Update& update,
                       const std::string& details) {
  ResourceError error;
  if (update.resource != nullptr) error.message = *update.resource;
  error.version = update.version;
  error.at = loop_.clock().wall();
  error.details = details;
  if (type_url == api::kClusterType)
    clusters_[update.name].error = std::move(error);
  else if (type_url == api::kListenerType)
    listeners_[update.name].error = std::move(error);
  else if (type_url == api::kRouteType)
    routes_[update.name].error = std::move(error);
  else if (type_url == api::kEndpointType)
    endpoints_[update.name].error = std::move(error);
  else if (type_url == api::kSecretType)
    secrets_.fail(update.name, std::move(error));
}

void ConfigStore::countUpdate(std::string_view type_url, bool accepted) {
  if (type_url == api::kSecretType) return;  // each secret counts its own
  stats::Scope& scope = stats_.scope(statPrefix(type_url));
  scope.counter("update_attempt").add();
  scope.counter(accepted ? "update_success" : "update_rejected").add();
}

// ---- taking one resource ----

base::ConfigResult<void> ConfigStore::takeCluster(const Message& message, const std::string& path,
                                                  ResourceText text, bool is_static) {
  POSTERN_TRY(auto cluster, buildCluster(castTo<conf::cluster::v3::Cluster>(message), path));
  for (const ClusterSocket& each : cluster->sockets) {
    if (each.tls != nullptr) POSTERN_TRY_VOID(each.tls->build(secrets_));
  }
  ClusterRecord& record = clusters_[cluster->name];
  if (!is_static && record.is_static)
    return base::failConfig("name", "is that of a static cluster");
  stats::Scope& stats = stats_.scope("cluster_manager.");
  record.is_static = is_static;
  record.error.reset();
  const google::protobuf::Any& before =
      record.warming != nullptr ? record.warming_text.message : record.active_text.message;
  if ((record.warming != nullptr || record.active != nullptr) &&
      before.value() == text.message.value()) {
    ResourceText& same = record.warming != nullptr ? record.warming_text : record.active_text;
    same.version = text.version;
    return {};
  }
  stats.counter(record.active == nullptr ? "cluster_added" : "cluster_modified").add();
  if (record.use == nullptr) {
    if (const auto it = retired_uses_.find(cluster->name); it != retired_uses_.end())
      record.use = it->second.lock();
    if (record.use == nullptr) record.use = std::make_shared<ClusterUse>();
  }
  record.warming = cluster;
  record.warming_text = std::move(text);
  record.warming_dns.reset();
  record.deadline = base::MonotonicTime::max();
  if (cluster->type == Cluster::Type::kEds && cluster->eds_timeout.count() != 0)
    record.deadline = loop_.now() + cluster->eds_timeout;
  if (isDns(*cluster)) {
    record.warming_dns =
        std::make_unique<DnsCluster>(loop_, *resolver_, random_, stats_, cluster, [this] {
          changed_ = true;
          settle_.arm({});
        });
  }
  return {};
}

base::ConfigResult<std::shared_ptr<const BoundSockets>> ConfigStore::socketsFor(
    const Listener& listener, const ListenerRecord& record,
    const std::vector<const ListenerEntry*>& before) {
  if (!listener.bind || !binds_) return nullptr;
  // A port that the kernel chose belongs to its place; any other address may have moved.
  const bool chosen = listener.address.isIp() && listener.address.port() == 0;
  for (const ListenerEntry* old : chosen ? before : entriesOf(record)) {
    if (old->sockets != nullptr && old->sockets->fit(listener)) return old->sockets;
  }
  for (const auto& [name, other] : listeners_) {
    if (&other == &record) continue;
    for (const ListenerEntry* entry : entriesOf(other)) {
      if (entry->sockets == nullptr || !(entry->sockets->address() == listener.address) ||
          entry->config->udp.has_value() != listener.udp.has_value()) {
        continue;
      }
      return base::failConfig(
          "address", "error adding listener: '" + listener.name + "' has duplicate address '" +
                         listener.address.toString() + "' as existing listener '" + name + "'");
    }
  }
  if (listener.udp && !listener.reuse_port && options_.workers > 1) {
    return base::failConfig(
        "enable_reuse_port",
        "error adding listener: Listening on UDP when concurrency is > 1 without the SO_REUSEPORT "
        "socket option results in unstable packet proxying. Configure the reuse_port listener "
        "option or set concurrency = 1.");
  }
  return BoundSockets::bind(listener, options_.workers, inherited_);
}

base::ConfigResult<std::vector<ListenerEntry>> ConfigStore::moreOf(const Listener& listener,
                                                                   const ListenerRecord& record) {
  std::vector<ListenerEntry> out;
  for (const AdditionalAddress& each : listener.additional) {
    auto copy = std::make_shared<Listener>(listener);
    copy->name += " additional " + std::to_string(out.size());
    copy->address = each.address;
    copy->unix_mode = each.unix_mode;
    copy->socket_options = each.socket_options;
    std::vector<const ListenerEntry*> before;
    for (const auto* more : {&record.warming_more, &record.active_more}) {
      if (out.size() < more->size()) before.push_back(&(*more)[out.size()]);
    }
    POSTERN_TRY(auto sockets, socketsFor(*copy, record, before));
    if (sockets != nullptr) copy->address = sockets->address();
    out.push_back({std::move(copy), std::move(sockets), nullptr});
  }
  return out;
}

/// An equal chain of the version before stays the same object, so that its connections go on.
std::shared_ptr<const FilterChain> ConfigStore::known(
    const ListenerRecord& record, const std::shared_ptr<const FilterChain>& chain) const {
  if (record.active.config == nullptr || chain == nullptr) return chain;
  const Listener& before = *record.active.config;
  if (before.fallback != nullptr && before.fallback->fingerprint == chain->fingerprint)
    return before.fallback;
  for (const auto& old : before.chains) {
    if (old->fingerprint == chain->fingerprint) return old;
  }
  return chain;
}

base::ConfigResult<void> ConfigStore::takeListener(const Message& message, const std::string& path,
                                                   ResourceText text, bool is_static) {
  POSTERN_TRY(const auto built, buildListener(castTo<conf::listener::v3::Listener>(message), path));
  auto listener = std::make_shared<Listener>(*built);
  ListenerRecord& record = listeners_[listener->name];
  if (!is_static && record.is_static)
    return base::failConfig("name", "is that of a static listener");
  record.is_static = is_static;
  const bool warming = record.warming.config != nullptr;
  ResourceText& before = warming ? record.warming_text : record.active_text;
  if ((warming || record.active.config != nullptr) &&
      before.message.value() == text.message.value()) {
    before.version = text.version;
    record.error.reset();
    return {};
  }
  for (const auto& chain : listener->allChains()) {
    if (chain->tls != nullptr) POSTERN_TRY_VOID(chain->tls->build(secrets_));
  }
  POSTERN_TRY(auto sockets, socketsFor(*listener, record, {&record.warming, &record.active}));
  record.error.reset();
  if (sockets != nullptr) listener->address = sockets->address();
  for (auto& chain : listener->chains) chain = known(record, chain);
  listener->fallback = known(record, listener->fallback);
  POSTERN_TRY(auto more, moreOf(*listener, record));
  stats_.scope("listener_manager.")
      .counter(record.active.config == nullptr ? "listener_added" : "listener_modified")
      .add();
  std::shared_ptr<ConnectionLimit> limit = record.active.limit;
  const auto limited = options_.connection_limits.find(listener->name);
  if (limit == nullptr && limited != options_.connection_limits.end()) {
    limit = std::make_shared<ConnectionLimit>();
    limit->max = limited->second;
  }
  for (ListenerEntry& each : more) each.limit = limit;
  record.deadline = base::MonotonicTime::max();
  if (listener->routes_timeout != std::chrono::milliseconds::max())
    record.deadline = loop_.now() + listener->routes_timeout;
  record.warming_more = std::move(more);
  record.warming = {std::move(listener), std::move(sockets), std::move(limit)};
  record.warming_text = std::move(text);
  return {};
}

base::ConfigResult<void> ConfigStore::takeRoutes(const Message& message, ResourceText text) {
  const auto& routes = castTo<conf::route::v3::RouteConfiguration>(message);
  const auto it = routes_.find(routes.name());
  if (it == routes_.end()) return {};  // no listener wants it any more
  POSTERN_TRY(RouteTable table, buildRoutes(routes, ""));
  it->second.table = std::make_shared<const RouteTable>(std::move(table));
  it->second.text = std::move(text);
  it->second.error.reset();
  changed_ = true;
  return {};
}

base::ConfigResult<void> ConfigStore::takeEndpoints(const Message& message, ResourceText text) {
  const auto& endpoints = castTo<conf::endpoint::v3::ClusterLoadAssignment>(message);
  const auto it = endpoints_.find(endpoints.cluster_name());
  if (it == endpoints_.end()) return {};  // no cluster wants it any more
  POSTERN_TRY(LoadAssignment assignment, buildAssignment(endpoints, ""));
  it->second.assignment = std::make_shared<const LoadAssignment>(std::move(assignment));
  it->second.text = std::move(text);
  it->second.error.reset();
  changed_ = true;
  return {};
}

base::ConfigResult<void> ConfigStore::takeSecret(const Message& message, ResourceText text) {
  const auto& secret = castTo<envoy::extensions::transport_sockets::tls::v3::Secret>(message);
  const std::string name = secret.name();
  POSTERN_TRY_VOID(secrets_.take(message, std::move(text)));
  changed_ = true;
  return rebuildSockets(name);
}

std::vector<std::shared_ptr<TlsSocket>> ConfigStore::sockets() const {
  std::vector<std::shared_ptr<TlsSocket>> out;
  for (const auto& [name, record] : listeners_) {
    for (const ListenerEntry* entry : {&record.active, &record.warming}) {
      if (entry->config == nullptr) continue;
      for (const auto& chain : entry->config->allChains()) {
        if (chain->tls != nullptr) out.push_back(chain->tls);
      }
    }
  }
  for (const auto& [name, record] : clusters_) {
    for (const Cluster* cluster : {record.active.get(), record.warming.get()}) {
      if (cluster == nullptr) continue;
      for (const ClusterSocket& each : cluster->sockets) {
        if (each.tls != nullptr) out.push_back(each.tls);
      }
    }
  }
  return out;
}

base::ConfigResult<void> ConfigStore::rebuildSockets(const std::string& secret) {
  base::ConfigResult<void> first;
  for (const auto& socket : sockets()) {
    const auto& uses = socket->secrets();
    const bool meant =
        secret.empty() || std::any_of(uses.begin(), uses.end(),
                                      [&](const SecretUse& use) { return use.name == secret; });
    if (!meant) continue;
    auto built = socket->build(secrets_);
    if (built) continue;
    kConfigLog.warning("{}: the TLS context before stays: {}", secret, built.error().message());
    if (first) first = std::move(built);
  }
  return first;
}

void ConfigStore::remove(std::string_view type_url, const std::string& name) {
  if (type_url == api::kClusterType) {
    const auto it = clusters_.find(name);
    if (it == clusters_.end() || it->second.is_static) return;
    retired_uses_[name] = it->second.use;
    clusters_.erase(it);
    stats_.scope("cluster_manager.").counter("cluster_removed").add();
  } else if (type_url == api::kListenerType) {
    const auto it = listeners_.find(name);
    if (it == listeners_.end() || it->second.is_static) return;
    listeners_.erase(it);
    stats_.scope("listener_manager.").counter("listener_removed").add();
  } else if (type_url == api::kEndpointType) {
    // It does not exist (yet): a cluster need not wait for it.
    const auto it = endpoints_.find(name);
    if (it == endpoints_.end()) return;
    it->second.assignment = std::make_shared<const LoadAssignment>();
    it->second.text = {};
  } else if (type_url == api::kRouteType) {
    // A table in use stays until another comes, as in Envoy; one that never came is not waited for.
    const auto it = routes_.find(name);
    if (it == routes_.end() || it->second.table != nullptr) return;
    RouteTable nothing;
    nothing.name = name;
    it->second.table = std::make_shared<const RouteTable>(std::move(nothing));
  } else if (type_url == api::kSecretType) {
    secrets_.removed(name);
  }
  changed_ = true;
}

}  // namespace postern::proxy
