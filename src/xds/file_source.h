// Resources of a JSON file, the same for every proxy: {"clusters": […], "endpoints": […],
// "listeners": […], "routes": […]} in Envoy's proto JSON. In texts, "@COUNTER@" stands for a number
// that tick() raises, so that resources can be made to change at any rate. For tests. One loop.
#pragma once

#include "base/error.h"
#include "xds/server.h"

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace postern::xds {

class FileSource final : public ResourceSource {
 public:
  struct Counts {
    std::uint64_t changes = 0;  // tick() and load()
    std::uint64_t sent = 0;
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;
  };

  /// Replaces everything; after an error the old resources stay.
  base::ConfigResult<void> load(const std::string& path);
  /// Changes the resources that hold "@COUNTER@". Each proxy is told by `server`.
  void tick(Server& server);
  void tellAll(Server& server) const;
  const Counts& counts() const { return counts_; }
  std::size_t proxies() const { return proxies_.size(); }

  std::expected<ProxyId, http::GrpcStatus> connected(const NodeInfo& node,
                                                     const Caller& caller) override;
  void disconnected(ProxyId proxy) override { proxies_.erase(proxy); }
  void resources(ProxyId proxy, std::string_view type_url, const Visit& visit) override;
  void sent(ProxyId, std::string_view) override { ++counts_.sent; }
  void acknowledged(ProxyId proxy, std::string_view type_url, std::string_view error) override;

 private:
  struct Resource {
    std::string text;   // JSON, with "@COUNTER@" where it changes; "" when it does not
    std::string bytes;  // serialized
    std::string version;
  };
  using Resources = std::map<std::string, Resource>;  // by name
  static base::ConfigResult<std::string> serialize(std::string_view type_url,
                                                   const std::string& text, std::uint64_t counter);

  std::map<std::string, Resources, std::less<>> types_;
  std::set<ProxyId> proxies_;
  ProxyId last_proxy_ = 0;
  std::uint64_t counter_ = 0;
  std::uint64_t loads_ = 0;
  Counts counts_;
};

}  // namespace postern::xds
