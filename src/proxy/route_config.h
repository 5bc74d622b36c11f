// Route tables as plain immutable values, compiled once and shared by the workers. Built from
// envoy.config.route.v3 messages; a field that is not understood is an error with its path.
#pragma once

#include "formatter/header_ops.h"
#include "proxy/matcher.h"

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace postern::proxy {

/// A cluster of a TCP proxy.
struct WeightedCluster {
  std::string name;
  std::uint32_t weight = 1;
};

struct RouteMatch {
  enum class Kind : unsigned char { kPrefix, kPath, kSeparatedPrefix, kRegex, kConnect };
  Kind kind = Kind::kPrefix;
  bool case_sensitive = true;
  bool grpc = false;
  std::string path;
  Regex regex;
  std::optional<Fraction> fraction;
  std::vector<HeaderMatcher> headers;
  std::vector<QueryMatcher> query;
};

/// What is done when an upstream attempt fails; bits of `retry_on`.
struct RetryPolicy {
  enum On : std::uint32_t {
    k5xx = 1u << 0,
    kGatewayError = 1u << 1,
    kReset = 1u << 2,
    kResetBeforeRequest = 1u << 3,
    kConnectFailure = 1u << 4,
    kEnvoyRatelimited = 1u << 5,
    kRetriable4xx = 1u << 6,
    kRefusedStream = 1u << 7,
    kRetriableStatusCodes = 1u << 8,
    kRetriableHeaders = 1u << 9,
    kGrpcCancelled = 1u << 10,
    kGrpcDeadlineExceeded = 1u << 11,
    kGrpcInternal = 1u << 12,
    kGrpcResourceExhausted = 1u << 13,
    kGrpcUnavailable = 1u << 14,
  };
  std::uint32_t on = 0;
  std::uint32_t retries_max = 1;
  std::chrono::milliseconds per_try_timeout{0};
  std::chrono::milliseconds per_try_idle_timeout{0};
  std::chrono::milliseconds backoff_base{25};
  std::chrono::milliseconds backoff_max{250};
  std::vector<std::uint32_t> status_codes;
  std::vector<HeaderMatcher> response_headers;
  std::vector<HeaderMatcher> request_headers;
  bool avoid_previous_hosts = false;
  std::uint32_t host_attempts_max = 1;
};
/// The bits of a comma-separated list; unknown words are ignored, as Envoy does.
std::uint32_t parseRetryOn(std::string_view list);

/// Delays and aborts (envoy.filters.http.fault).
struct FaultPolicy {
  std::optional<Fraction> delay_share;
  std::chrono::milliseconds delay{0};
  bool delay_by_header = false;
  std::optional<Fraction> abort_share;
  int abort_status = 0;
  int abort_grpc_status = -1;
  bool abort_by_header = false;
  std::string upstream_cluster;  // empty: any
  std::vector<HeaderMatcher> headers;
  std::uint32_t active_max = std::numeric_limits<std::uint32_t>::max();
};

/// A field that says nothing leaves it to the policy of a wider place.
struct CorsPolicy {
  std::vector<StringMatcher> origins;
  std::string methods;
  std::string headers;
  std::string exposed;
  std::string max_age;
  std::optional<bool> credentials;
  std::optional<bool> forward_not_matching_preflights;
  Fraction enabled{100, 100};  // of the most specific policy
};

/// Configuration of filters at a route, virtual host, table or weighted cluster, by the name a
/// filter has in its chain; the most specific one that is there counts, of CORS the most specific
/// that says something of a field.
struct PerFilter {
  template <class T>
  using Named = std::vector<std::pair<std::string, std::shared_ptr<const T>>>;
  Named<FaultPolicy> fault;
  Named<CorsPolicy> cors;
};

/// One target of a route.
struct RouteCluster {
  std::string name;
  std::string name_header;  // when set: the header that holds the cluster's name
  std::uint32_t weight = 1;
  std::string host_rewrite;
  formatter::HeaderOps request;
  formatter::HeaderOps response;
  PerFilter filters;
};

struct DirectResponse {
  int status = 200;
  std::string body;
  formatter::Format body_format;
  bool formatted = false;
  bool omit_empty = false;  // what the format finds no value for
  std::string content_type = "text/plain";
};

struct Redirect {
  std::string scheme;  // empty: as it came
  std::string host;
  std::uint16_t port = 0;  // 0: as it came
  std::string path;        // may hold a query
  std::string prefix;
  Regex regex;
  std::string substitution;
  int status = 301;
  bool strip_query = false;
};

struct ForwardAction {
  std::vector<RouteCluster> clusters;  // one or more
  std::uint64_t weight_total = 0;
  int cluster_not_found_status = 503;
  std::string prefix_rewrite;
  Regex path_regex;
  std::string path_substitution;
  std::string host_rewrite;
  std::string host_rewrite_header;
  Regex host_path_regex;
  std::string host_path_substitution;
  bool auto_host_rewrite = false;
  bool append_forwarded_host = false;
  std::chrono::milliseconds timeout{15000};  // 0: none
  std::optional<std::chrono::milliseconds> idle_timeout;
  std::optional<std::chrono::milliseconds> stream_duration_max;
  std::optional<std::chrono::milliseconds> grpc_timeout_max;  // 0: what the header says
  std::chrono::milliseconds grpc_timeout_offset{0};
  std::optional<RetryPolicy> retry;
  bool high_priority = false;
  bool ends_connect = false;  // CONNECT becomes a TCP connection of the cluster
  std::vector<std::pair<std::string, bool>> upgrades;  // lower case; what the manager says else
};

struct Route {
  std::string name;
  RouteMatch match;
  std::variant<ForwardAction, DirectResponse, Redirect> action;
  formatter::HeaderOps request;
  formatter::HeaderOps response;
  PerFilter filters;
};

struct VirtualHost {
  enum class Tls : unsigned char { kNone, kExternalOnly, kAll };
  std::string name;
  std::vector<std::string> domains;  // lower case
  std::vector<Route> routes;
  Tls require_tls = Tls::kNone;
  formatter::HeaderOps request;
  formatter::HeaderOps response;
  PerFilter filters;
  bool attempt_count_in_request = false;
  bool attempt_count_in_response = false;
  bool timeout_retry_header = false;

  /// Which routes can match a path, so that a thousand routes cost as much as a few: lists of route
  /// indices, ascending, by exact path and by prefix; `scanned` are those no key can find.
  struct Index {
    std::vector<std::uint32_t> lengths;  // of the prefixes, ascending
    std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> by_prefix;
    std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> by_path;
    std::vector<std::uint32_t> scanned;
    bool used = false;
  } index;
};

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>()(text);
  }
};

struct RouteTable {
  std::string name;
  std::vector<VirtualHost> hosts;
  formatter::HeaderOps request;
  formatter::HeaderOps response;
  PerFilter filters;
  std::vector<std::string> internal_only_headers;
  std::string host_header;  // read instead of :authority
  bool ignore_port = false;
  bool ignore_path_parameters = false;
  bool most_specific_wins = false;

  /// Domains to indices of `hosts`.
  using Domains = std::unordered_map<std::string, std::uint32_t, TextHash, std::equal_to<>>;
  Domains exact;
  Domains suffixes;                       // "*.x" as ".x"
  Domains prefixes;                       // "x.*" as "x."
  std::vector<std::size_t> suffix_sizes;  // descending
  std::vector<std::size_t> prefix_sizes;  // descending
  std::optional<std::uint32_t> any;       // "*"
};

}  // namespace postern::proxy
