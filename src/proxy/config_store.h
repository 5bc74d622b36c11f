// All configuration of the process: static and discovered listeners, clusters, endpoints and
// routes, what is active and what still warms, and what was refused. Main thread. Publishes
// immutable snapshots; a resource that is refused leaves the last good one in force.
#pragma once

#include "base/function.h"
#include "base/random.h"
#include "event/loop.h"
#include "net/resolver.h"
#include "proxy/config.h"
#include "proxy/dns_cluster.h"
#include "proxy/resource_text.h"
#include "proxy/runtime.h"
#include "proxy/secrets.h"
#include "stats/stats.h"
#include "xds/client.h"

#include <google/protobuf/any.pb.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace envoy::config::bootstrap::v3 {
class Bootstrap;
}

namespace postern::proxy {

class BoundSockets;
class InheritedSockets;

class ConfigStore {
 public:
  struct Options {
    std::uint32_t workers = 1;
    bool reject_unknown_fields = false;  // of unknown numbers, in discovered resources
    bool ignore_unknown_fields = false;  // they are not counted
    bool bind = true;                    // false: only validate
    std::map<std::string, std::uint64_t> connection_limits;  // by listener
    Runtime runtime;
    InheritedSockets* inherited = nullptr;  // of the process before; outlives the store
  };
  /// Called with the names of a type that are wanted now.
  using Subscribe =
      base::Function<void(std::string_view type_url, const std::set<std::string>& names)>;
  using Publish = base::Function<void(std::shared_ptr<const Snapshot> snapshot)>;

  ConfigStore(event::Loop& loop, stats::Store& stats, Options options, Publish publish,
              Subscribe subscribe);
  ~ConfigStore();
  ConfigStore(const ConfigStore&) = delete;
  ConfigStore& operator=(const ConfigStore&) = delete;

  /// Takes the static resources and publishes what needs nothing more.
  base::ConfigResult<void> addStatic(const envoy::config::bootstrap::v3::Bootstrap& bootstrap);
  /// The first answers of these types are waited for, so long (0: for ever).
  void expect(std::optional<std::chrono::milliseconds> clusters,
              std::optional<std::chrono::milliseconds> listeners);
  /// One response. The good resources of a partly bad one are taken; the error names the others.
  base::ConfigResult<void> update(std::string_view type_url,
                                  const std::vector<xds::Update>& updated,
                                  const std::vector<std::string>& removed);
  /// Takes resources of a former run, as if they had been discovered; what is no longer accepted is
  /// left out with a warning. Clusters and listeners that the first response of their type does not
  /// name go with it.
  void restore(const std::vector<DynamicResources>& saved);
  /// The last accepted version of every discovered resource, in the order to take them again.
  std::vector<DynamicResources> dynamicResources() const;
  /// True once the first configuration is complete and everything in it warm; stays true.
  bool initialized() const { return initialized_; }
  /// From now on listeners that come do not bind: another process has taken over.
  void stopBinding() { binds_ = false; }
  void onInitialized(base::Function<void()> callback) { on_initialized_ = std::move(callback); }
  const Snapshot& snapshot() const { return *published_; }

  // ---- for the admin port ----
  struct ClusterRecord {
    bool is_static = false;
    std::shared_ptr<const Cluster> active;
    ResourceText active_text;
    std::shared_ptr<const Cluster> warming;
    ResourceText warming_text;
    std::unique_ptr<DnsCluster> dns;          // of `active`
    std::unique_ptr<DnsCluster> warming_dns;  // of `warming`
    std::shared_ptr<ClusterUse> use;
    base::MonotonicTime deadline = base::MonotonicTime::max();  // of warming
    std::optional<ResourceError> error;
  };
  struct ListenerRecord {
    bool is_static = false;
    ListenerEntry active;
    ResourceText active_text;
    ListenerEntry warming;
    ResourceText warming_text;
    /// One per additional address: the same listener once more.
    std::vector<ListenerEntry> active_more;
    std::vector<ListenerEntry> warming_more;
    base::MonotonicTime deadline = base::MonotonicTime::max();  // of the routes of warming
    std::optional<ResourceError> error;
  };
  struct RouteRecord {
    std::shared_ptr<const RouteTable> table;  // null: asked for, never accepted
    ResourceText text;
    std::optional<ResourceError> error;
  };
  struct EndpointRecord {
    std::shared_ptr<const LoadAssignment> assignment;  // null: asked for, never accepted
    ResourceText text;
    std::optional<ResourceError> error;
  };
  template <class T>
  using Records = std::map<std::string, T, std::less<>>;
  const Records<ClusterRecord>& clusters() const { return clusters_; }
  const Records<ListenerRecord>& listeners() const { return listeners_; }
  const Records<RouteRecord>& routes() const { return routes_; }
  const Records<EndpointRecord>& endpoints() const { return endpoints_; }
  const SecretStore& secrets() const { return secrets_; }
  /// The last version accepted of a type.
  std::string version(std::string_view type_url) const;

 private:
  class Batch;
  base::ConfigResult<void> takeCluster(const google::protobuf::Message& message,
                                       const std::string& path, ResourceText text, bool is_static);
  base::ConfigResult<void> takeListener(const google::protobuf::Message& message,
                                        const std::string& path, ResourceText text, bool is_static);
  base::ConfigResult<void> takeRoutes(const google::protobuf::Message& message, ResourceText text);
  base::ConfigResult<void> takeEndpoints(const google::protobuf::Message& message,
                                         ResourceText text);
  base::ConfigResult<void> take(std::string_view type_url, const xds::Update& update);
  void remove(std::string_view type_url, const std::string& name);
  void dropRestored(std::string_view type_url, const std::vector<xds::Update>& updated);
  void fail(std::string_view type_url, const xds::Update& update, const std::string& details);
  /// `before`: what versions before had in this place.
  base::ConfigResult<std::shared_ptr<const BoundSockets>> socketsFor(
      const Listener& listener, const ListenerRecord& record,
      const std::vector<const ListenerEntry*>& before);
  base::ConfigResult<std::vector<ListenerEntry>> moreOf(const Listener& listener,
                                                        const ListenerRecord& record);
  std::shared_ptr<const FilterChain> known(const ListenerRecord& record,
                                           const std::shared_ptr<const FilterChain>& chain) const;
  base::ConfigResult<void> takeSecret(const google::protobuf::Message& message, ResourceText text);
  std::vector<std::shared_ptr<TlsSocket>> sockets() const;
  /// Builds those that name the secret (empty: all); the first error, after all were tried.
  base::ConfigResult<void> rebuildSockets(const std::string& secret);
  bool isWarm(const TlsSocket& socket) const;
  bool isWarm(const ClusterRecord& record) const;
  bool isWarm(const ListenerRecord& record) const;
  void settle();  // activates what is warm, subscribes, publishes
  void activateClusters();
  void activateListeners();
  void subscribeNames();
  void armDeadline();
  void publish();
  void countUpdate(std::string_view type_url, bool accepted);

  event::Loop& loop_;
  stats::Store& stats_;
  const Options options_;
  bool binds_;
  InheritedSockets* inherited_;
  Publish publish_;
  Subscribe subscribe_;
  base::Function<void()> on_initialized_;
  std::unique_ptr<net::Resolver> resolver_;
  base::Random random_;
  Records<ClusterRecord> clusters_;
  /// Of removed clusters on which something still runs: it counts when one of that name comes back.
  std::map<std::string, std::weak_ptr<ClusterUse>> retired_uses_;
  Records<ListenerRecord> listeners_;
  Records<RouteRecord> routes_;
  Records<EndpointRecord> endpoints_;
  SecretStore secrets_;
  std::map<std::string, std::string, std::less<>> versions_;
  std::map<std::string, std::set<std::string>, std::less<>>
      restored_;  // by type, not yet confirmed
  std::shared_ptr<const Snapshot> published_;
  bool clusters_expected_ = false;
  bool listeners_expected_ = false;
  base::MonotonicTime clusters_deadline_ = base::MonotonicTime::max();
  base::MonotonicTime listeners_deadline_ = base::MonotonicTime::max();
  bool clusters_ready_ = false;  // the first clusters are warm: listeners may open
  bool initialized_ = false;
  bool changed_ = false;
  event::Timer deadline_;
  event::Timer settle_;  // DNS answers settle in a turn of their own
};

}  // namespace postern::proxy
