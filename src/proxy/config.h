// The part of an Envoy bootstrap the proxy serves, as plain immutable values. Built once from JSON
// on the main thread and shared by the workers. A field that is not understood is an error with
// its path, never ignored: a route must not quietly do less than was asked.
#pragma once

#include "base/error.h"
#include "net/address.h"
#include "proxy/http_config.h"

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace postern::proxy {

struct TcpProxy {
  std::vector<WeightedCluster> clusters;
  std::vector<AccessLogConfig> logs;
};

struct FilterChainMatch {
  std::optional<std::uint16_t> destination_port;
  std::vector<net::Cidr> prefixes;
  std::vector<std::string> server_names;
  std::string transport_protocol;
  std::vector<std::string> application_protocols;
};

struct FilterChain {
  std::string name;
  FilterChainMatch match;
  std::variant<HttpManager, TcpProxy> filter;
};

struct Listener {
  std::string name;
  net::Address address;
  bool bind = true;
  bool use_original_dst = false;
  std::vector<FilterChain> chains;
  std::optional<FilterChain> fallback;
};

struct Endpoint {
  std::string host;  // a name for STRICT_DNS
  std::uint16_t port = 0;
};

struct Cluster {
  enum class Type : unsigned char { kStatic, kStrictDns, kOriginalDst };
  std::string name;
  Type type = Type::kStatic;
  std::vector<Endpoint> endpoints;
  std::chrono::milliseconds connect_timeout{5000};
  std::optional<net::Address> source;
};

struct Config {
  std::vector<Listener> listeners;
  std::vector<Cluster> clusters;
  std::optional<net::Address> admin;
};

/// Builds the configuration of a bootstrap; the error names the field.
base::ConfigResult<std::shared_ptr<const Config>> buildConfig(const nlohmann::json& bootstrap);

}  // namespace postern::proxy
