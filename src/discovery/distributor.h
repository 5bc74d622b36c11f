// Who gets what: the state of each connected proxy, independent of the transport. On a new snapshot
// only those types of those proxies are generated again whose observed dependencies changed, and
// only resources whose content changed are reported. One thread (the discovery loop).
#pragma once

#include "discovery/generate.h"

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace postern::discovery {

/// In the order of a push.
enum class Type : unsigned char { kClusters, kEndpoints, kListeners, kRoutes };
inline constexpr std::size_t kTypeCount = 4;
/// "type.googleapis.com/envoy.config.cluster.v3.Cluster", …
std::string_view typeUrl(Type type);

/// A generated resource as it is sent, with the version of its content.
struct Versioned {
  std::string version;
  std::string bytes;  // the serialized message
  Resource resource;
};

/// What changed of one type for one proxy.
struct Delta {
  Type type = Type::kClusters;
  std::vector<const Versioned*> updated;  // valid until the next call
  std::vector<std::string> removed;
};

class Distributor {
 public:
  using ProxyId = std::uint64_t;

  /// A proxy connected; its resources are generated at once.
  ProxyId add(ProxyKey proxy);
  void remove(ProxyId id);

  /// Takes the new state; calls back for each proxy and type with a difference, in push order.
  using OnDelta = std::function<void(ProxyId, const Delta&)>;
  void update(std::shared_ptr<const Snapshot> snapshot, const OnDelta& on_delta);

  /// All resources of a type by name; null for an unknown proxy.
  const std::map<std::string, Versioned>* resources(ProxyId id, Type type) const;
  /// Where a resource comes from: {"name", "origins": [{kind, namespace, name, path}]}.
  json::Json explain(ProxyId id, Type type) const;
  const std::shared_ptr<const Snapshot>& snapshot() const { return snapshot_; }
  /// Generator runs so far, for tests and metrics.
  std::uint64_t generations() const { return generations_; }
  const ProxyKey* proxy(ProxyId id) const;

 private:
  struct PerType {
    std::map<std::string, Versioned> resources;
    std::set<std::string> dependencies;
  };
  struct Proxy {
    ProxyKey key;
    std::array<PerType, kTypeCount> types;
  };

  /// Generates one type again and says what is different.
  Delta generate(Proxy& proxy, View& view, Type type);
  /// Serializes; a resource that is not what its message declares is left out, with a log line.
  static bool encode(Type type, Versioned& entry);

  std::shared_ptr<const Snapshot> snapshot_ = std::make_shared<Snapshot>();
  std::map<ProxyId, Proxy> proxies_;
  ProxyId next_ = 1;
  std::uint64_t generations_ = 0;
};

}  // namespace postern::discovery
