// What a bootstrap says beside its listeners and clusters, as plain values. Main thread.
#pragma once

#include "base/error.h"
#include "http/headers.h"
#include "net/address.h"
#include "proxy/matcher.h"
#include "proxy/overload.h"
#include "xds/client.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace envoy::config::bootstrap::v3 {
class Bootstrap;
}

namespace postern::proxy {

struct AdsSource {
  xds::Client::Options client;
  std::string cluster;  // a static one
  std::string authority;
  std::size_t message_bytes_max = 64 * 1024 * 1024;
};

struct BootstrapValues {
  std::optional<net::Address> admin;
  std::vector<StringMatcher> admin_paths;  // empty: all
  std::optional<AdsSource> ads;
  std::optional<std::chrono::milliseconds> clusters_timeout;   // set: clusters come by ADS
  std::optional<std::chrono::milliseconds> listeners_timeout;  // set: listeners come by ADS
  std::uint64_t connections_max = 0;                           // 0: no limit
  std::map<std::string, std::uint64_t> connection_limits;      // by listener
  OverloadConfig overload;
  xds::NodeInfo node;
};

/// Refuses by its path whatever is not honoured; static resources are checked where they are built.
base::ConfigResult<BootstrapValues> readBootstrap(
    const envoy::config::bootstrap::v3::Bootstrap& bootstrap);

}  // namespace postern::proxy
