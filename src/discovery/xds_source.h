// Discovery as the xDS server sees it: who a proxy is, what it may have, and what it said about it.
// One loop, that of the server.
#pragma once

#include "discovery/distributor.h"
#include "json/json.h"
#include "xds/server.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::discovery {

class XdsSource final : public xds::ResourceSource {
 public:
  /// Called for each proxy for which something changed.
  using OnChanged = std::function<void(ProxyId)>;

  void setOnChanged(OnChanged callback) { on_changed_ = std::move(callback); }
  /// Takes the new state and tells the proxies concerned. The first one makes the source ready.
  void update(std::shared_ptr<const Snapshot> snapshot);
  bool ready() const { return ready_; }

  std::expected<ProxyId, http::GrpcStatus> connected(const xds::NodeInfo& node,
                                                     const xds::Caller& caller) override;
  void disconnected(ProxyId proxy) override;
  void resources(ProxyId proxy, std::string_view type_url, const Visit& visit) override;
  void sent(ProxyId proxy, std::string_view type_url) override;
  void acknowledged(ProxyId proxy, std::string_view type_url, std::string_view error) override;

  struct Counters {
    std::uint64_t pushes = 0;
    std::uint64_t rejects = 0;
  };
  const Distributor& distributor() const { return distributor_; }
  const std::map<std::string, Counters, std::less<>>& counters() const { return counters_; }
  std::size_t proxies() const { return proxies_.size(); }
  std::uint64_t refusedConnections() const { return refused_; }
  /// What each proxy accepted: [{proxy, cluster_status per type, …}].
  json::Json syncState() const;
  /// All resources of one proxy by its node id or "pod.ns"; null when it is not connected.
  json::Json configDump(std::string_view proxy) const;

 private:
  struct TypeSync {
    std::uint64_t sent = 0;
    std::uint64_t acknowledged = 0;
    std::string error;  // of the last answer, "" when accepted
  };
  struct Connected {
    std::map<std::string, TypeSync, std::less<>> types;
  };

  Distributor distributor_;
  bool ready_ = false;
  OnChanged on_changed_;
  std::map<ProxyId, Connected> proxies_;
  std::map<std::string, Counters, std::less<>> counters_;  // by short type name
  std::uint64_t refused_ = 0;
};

}  // namespace postern::discovery
