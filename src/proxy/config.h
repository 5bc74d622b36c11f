// The part of an Envoy bootstrap the proxy serves, as plain immutable values. Built once from JSON
// on the main thread and shared by the workers. A field that is not understood is an error with
// its path, never ignored: a route must not quietly do less than was asked.
#pragma once

#include "base/error.h"
#include "net/address.h"

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace postern::proxy {

struct HeaderValue {
  std::string name;
  std::string value;
  bool append = true;
};

struct HeaderMutation {
  std::vector<HeaderValue> add;
  std::vector<std::string> remove;
};

struct StringMatch {
  enum class Kind : unsigned char { kExact, kPrefix, kSuffix, kContains, kPresent };
  Kind kind = Kind::kExact;
  std::string text;
};

struct HeaderMatch {
  std::string name;
  StringMatch value;
  bool invert = false;
};

struct RouteMatch {
  enum class Kind : unsigned char { kPrefix, kPath, kSeparatedPrefix };
  Kind kind = Kind::kPrefix;
  std::string path;
  bool case_sensitive = true;
  std::vector<HeaderMatch> headers;
};

struct WeightedCluster {
  std::string name;
  std::uint32_t weight = 1;
};

struct DirectResponse {
  int status = 200;
  std::string body;
};

struct Redirect {
  std::string host;
  std::string path;
  std::string prefix;
  int status = 301;
  bool https = false;
};

struct ClusterAction {
  std::vector<WeightedCluster> clusters;  // one or more
  std::string prefix_rewrite;
  std::string host_rewrite;
  std::chrono::milliseconds timeout{15000};  // 0: none
};

struct Route {
  std::string name;
  RouteMatch match;
  std::variant<ClusterAction, DirectResponse, Redirect> action;
  HeaderMutation request;
  HeaderMutation response;
};

struct VirtualHost {
  std::string name;
  std::vector<std::string> domains;
  std::vector<Route> routes;
};

struct RouteTable {
  std::string name;
  std::vector<VirtualHost> hosts;
  bool ignore_port = false;
};

struct AccessLogConfig {
  std::string path;
  std::string format;
};

struct HttpManager {
  RouteTable routes;
  std::string server_name = "envoy";
  bool use_remote_address = false;
  std::vector<AccessLogConfig> logs;
};

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
