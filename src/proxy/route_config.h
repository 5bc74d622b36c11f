// What an HTTP connection manager does, as plain immutable values: routes, header mutations, access
// logs. Shared by the workers. A field that is not understood is an error with its path, never
// ignored: a route must not quietly do less than was asked.
#pragma once

#include <chrono>
#include <cstdint>
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

}  // namespace postern::proxy
