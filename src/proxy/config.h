// What the proxy serves, as plain immutable values: listeners, clusters, endpoints, and the
// snapshot of all of them that the main thread publishes to the workers. Built from Envoy's
// messages by config_*.h; a field that is not honoured never reaches these values, it is an error
// with its path.
#pragma once

#include "base/error.h"
#include "net/address.h"
#include "net/resolver.h"
#include "net/socket.h"
#include "proxy/connection_facts.h"
#include "proxy/http_config.h"
#include "proxy/tls_socket.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace postern::proxy {

// ---- listeners ----

/// When a TCP connection is passed on.
enum class ConnectMode : unsigned char { kImmediate, kOnData };

struct TcpProxy {
  std::string stat_prefix;
  std::vector<WeightedCluster> clusters;
  bool cluster_from_sni = false;  // the sni_cluster filter stands before
  std::chrono::milliseconds idle_timeout{std::chrono::hours(1)};  // 0: none
  std::chrono::milliseconds duration_max{0};                      // 0: none
  double duration_jitter_percent = 0;  // is added to duration_max, by chance, at most
  std::uint32_t connect_attempts_max = 1;
  std::chrono::milliseconds backoff_base{0};  // between attempts; 0: none
  std::chrono::milliseconds backoff_max{0};
  ConnectMode connect_mode = ConnectMode::kImmediate;
  std::size_t early_bytes_max = 0;  // read before the upstream connection is there
  std::vector<AccessLogConfig> logs;
};

/// What a UDP listener does with its datagrams.
struct UdpProxy {
  std::string stat_prefix;
  std::string cluster;
  std::chrono::milliseconds idle_timeout{std::chrono::minutes(1)};  // of a session
  std::size_t datagram_bytes_max = 1500;                            // of clients
  std::size_t upstream_datagram_bytes_max = 65535;                  // of hosts
  bool balances_datagrams = false;    // each goes to a host of its own choice
  std::vector<AccessLogConfig> logs;  // one line per session
};

enum class SourceType : unsigned char { kAny, kSameIpOrLoopback, kExternal };

struct FilterChainMatch {
  std::optional<std::uint16_t> destination_port;
  std::vector<net::Cidr> prefixes;
  std::vector<std::string> server_names;
  std::string transport_protocol;
  std::vector<std::string> application_protocols;
  std::vector<net::Cidr> direct_sources;
  SourceType source_type = SourceType::kAny;
  std::vector<net::Cidr> sources;
  std::vector<std::uint16_t> source_ports;
};

/// What bounds the connections of a filter chain (the connection_limit filter).
struct ConnectionLimitFilter {
  std::string stat_scope;  // "connection_limit.<prefix>."
  std::uint64_t max = 0;
  std::chrono::milliseconds delay{0};  // until one above the limit is closed
  /// Over all workers.
  std::shared_ptr<std::atomic<std::uint64_t>> open =
      std::make_shared<std::atomic<std::uint64_t>>(0);
};

struct FilterChain {
  std::string name;
  FilterChainMatch match;
  std::vector<ConnectionLimitFilter> limits;
  std::shared_ptr<TlsSocket> tls;                  // null: plain
  std::chrono::milliseconds handshake_timeout{0};  // 0: none
  std::variant<HttpManager, TcpProxy> filter;
  std::string match_key;    // equal for equal matches
  std::string fingerprint;  // equal for equal configuration
};

enum class ListenerFilter : unsigned char {
  kOriginalDst,
  kTlsInspector,
  kHttpInspector,
  kProxyProtocol,
};

/// Connections, by the port they are addressed to, that a listener filter leaves alone.
struct ConnectionPredicate {
  enum class Kind : unsigned char { kAny, kAnd, kOr, kNot, kPorts };
  Kind kind = Kind::kAny;
  std::vector<ConnectionPredicate> rules;  // of kAnd, kOr and (one) kNot
  std::int64_t first_port = 0;             // of kPorts
  std::int64_t after_port = 0;
  bool matches(const net::Address& destination) const;
};

struct ListenerFilterEntry {
  ListenerFilter filter;
  std::optional<ConnectionPredicate> disabled;
};

/// The TLVs of a PROXY header that go on to the next proxy.
struct ProxyTlvChoice {
  bool all = false;
  std::vector<std::uint8_t> types;
  bool passes(std::uint8_t type) const {
    return all || std::find(types.begin(), types.end(), type) != types.end();
  }
};

/// What connections to a cluster begin with.
struct UpstreamProxyProtocol {
  codec::ProxyVersion version = codec::ProxyVersion::kV1;
  ProxyTlvChoice passed_on;            // of what the client's own header said
  std::vector<codec::ProxyTlv> added;  // before those; each type once
};

struct ProxyProtocolFilter {
  bool required = true;  // else connections without a header are taken as they are
  bool refuses_v1 = false;
  bool refuses_v2 = false;
  ProxyTlvChoice passed_on;
  std::string stat_scope;  // "proxy_proto." or "proxy_proto.<prefix>."
};

enum class TrafficDirection : unsigned char { kUnspecified, kInbound, kOutbound };

/// One more address of a listener.
struct AdditionalAddress {
  net::Address address;
  std::uint32_t unix_mode = 0;
  std::vector<net::SocketOption> socket_options;  // instead of the listener's
};

struct Listener {
  std::string name;
  std::string stat_name;  // the address with ':' → '_', or stat_prefix
  net::Address address;
  std::uint32_t unix_mode = 0;
  std::vector<net::SocketOption> socket_options;
  std::vector<AdditionalAddress> additional;
  std::uint32_t accepts_per_turn = net::Acceptor::kAcceptsPerTurn;
  std::optional<UdpProxy> udp;  // datagrams, else connections
  bool bind = true;
  bool use_original_dst = false;
  bool reuse_port = true;
  bool transparent = false;
  bool freebind = false;
  bool ignore_connection_limit = false;
  bool bypass_overload = false;  // no action against overload concerns it
  int backlog = 1024;
  TrafficDirection direction = TrafficDirection::kUnspecified;
  std::vector<ListenerFilterEntry> filters;
  std::optional<ProxyProtocolFilter> proxy_protocol;  // of kProxyProtocol
  std::chrono::milliseconds filters_timeout{15000};   // 0: none
  bool continue_on_timeout = false;
  std::size_t client_hello_bytes_max = 16 * 1024;
  bool close_on_bad_hello = false;             // else it is taken for something other than TLS
  std::size_t buffer_bytes_max = 1024 * 1024;  // of each connection
  std::vector<std::shared_ptr<const FilterChain>> chains;
  std::shared_ptr<const FilterChain> fallback;
  std::vector<AccessLogConfig> logs;
  std::vector<std::string> route_names;  // asked for by RDS
  /// How long they are waited for; without them requests are answered 404.
  std::chrono::milliseconds routes_timeout{0};
  std::string fingerprint;  // of everything but the filter chains

  /// With the default chain.
  std::vector<std::shared_ptr<const FilterChain>> allChains() const {
    auto out = chains;
    if (fallback != nullptr) out.push_back(fallback);
    return out;
  }
};

// ---- clusters ----

struct Locality {
  std::string region;
  std::string zone;
  std::string sub_zone;
  bool operator==(const Locality&) const = default;
};

enum class Health : unsigned char { kHealthy, kDegraded, kUnhealthy };

/// Keys and values (in a canonical form) of an endpoint's metadata "envoy.transport_socket_match",
/// or what they must be.
using SocketCriteria = std::map<std::string, std::string>;

/// How connections to some hosts of a cluster are secured.
struct ClusterSocket {
  std::string name;
  SocketCriteria criteria;         // empty: any host
  std::shared_ptr<TlsSocket> tls;  // null: plain
  std::string fingerprint;         // equal for equal configuration
  bool greets = false;             // connections begin with the cluster's PROXY header
};

struct Endpoint {
  std::optional<net::Address> address;  // none: `name` is looked up
  std::string name;
  std::uint16_t port = 0;  // of a name
  std::string hostname;
  std::uint32_t weight = 1;
  Health health = Health::kHealthy;
  SocketCriteria socket_criteria;
};

struct LocalityEndpoints {
  Locality locality;
  std::uint32_t weight = 0;  // 0: not given
  std::uint32_t priority = 0;
  std::vector<Endpoint> endpoints;
};

struct LoadAssignment {
  std::vector<LocalityEndpoints> localities;
  std::uint32_t overprovisioning_percent = 140;
};

/// Retries allowed at once, as a share of the requests that run or wait.
struct RetryBudget {
  double percent = 20;
  std::uint32_t concurrency_min = 3;
};

struct CircuitBreaker {
  std::uint32_t connections_max = 1024;
  std::uint32_t pending_max = 1024;
  std::uint32_t requests_max = 1024;
  std::uint32_t retries_max = 3;
  std::optional<RetryBudget> retry_budget;  // instead of retries_max
  bool track_remaining = false;
};

/// The HTTP version spoken to a cluster. kByAlpn: what the server chooses in the TLS handshake.
enum class UpstreamCodec : unsigned char { kHttp1, kHttp2, kAsDownstream, kByAlpn };

enum class RoutingPriority : unsigned char { kDefault, kHigh };

struct Cluster {
  enum class Type : unsigned char { kStatic, kStrictDns, kLogicalDns, kEds, kOriginalDst };
  enum class Balancer : unsigned char { kRoundRobin, kLeastRequest, kRandom, kProvided };
  std::string name;
  std::string observed_name;  // alt_stat_name; "": the name
  std::string stat_name;
  Type type = Type::kStatic;
  Balancer balancer = Balancer::kRoundRobin;
  std::uint32_t choice_count = 2;  // of least request
  std::uint32_t panic_percent = 50;
  bool locality_weighted = false;
  UpstreamCodec codec = UpstreamCodec::kHttp1;
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds idle_timeout{std::chrono::hours(1)};  // HTTP connections; 0: none
  std::chrono::milliseconds connection_duration_max{0};           // 0: none
  std::chrono::milliseconds stream_duration_max{0};               // one attempt; 0: none
  std::uint32_t requests_per_connection_max = 0;                  // 0: no limit
  std::size_t response_header_bytes_max = 60 * 1024;              // HTTP/2
  std::size_t h1_response_header_bytes_max = 80 * 1024;           // HTTP/1
  std::size_t response_header_count_max = 100;
  http::H2Limits h2{.concurrent_streams_max = 1024, .invalid_message_ends_stream = false};
  http::HeaderCase h1_header_case = http::HeaderCase::kLower;
  bool h1_trailers = false;              // otherwise dropped
  bool h1_absolute_form = false;         // "GET http://host/path"
  bool h1_chunked_beats_length = false;  // otherwise both together are a protocol error
  std::size_t buffer_bytes_max = 1024 * 1024;
  std::chrono::milliseconds cleanup_interval{5000};  // kOriginalDst: unused hosts go
  CircuitBreaker breakers[2];                        // by RoutingPriority
  std::optional<net::Address> source;
  std::optional<UpstreamProxyProtocol> proxy_protocol;
  std::optional<std::uint32_t> keepalive_time_s;  // TCP keep-alive; 0: the kernel's
  std::uint32_t keepalive_interval_s = 0;
  std::uint32_t keepalive_probes = 0;
  std::optional<std::uint16_t> original_port_override;
  net::DnsFamily dns_family = net::DnsFamily::kAuto;
  std::chrono::milliseconds dns_refresh{5000};
  std::chrono::milliseconds dns_jitter{0};
  bool respect_dns_ttl = false;
  std::string eds_name;  // kEds: what to ask for
  std::chrono::milliseconds eds_timeout{15000};
  LoadAssignment assignment;  // kStatic and DNS
  /// The first whose criteria an endpoint has; the last one has none. Empty: plain.
  std::vector<ClusterSocket> sockets;
};

/// What is in use of a cluster's limits, over all workers. Outlives the snapshots.
struct ClusterUse {
  struct Priority {
    std::atomic<std::uint32_t> connections{0};
    std::atomic<std::uint32_t> pending{0};
    std::atomic<std::uint32_t> requests{0};
    std::atomic<std::uint32_t> retries{0};
    std::atomic<bool> open[4]{};  // by Resource: the gauge says "used up"
  };
  Priority priorities[2];
};

// ---- what the workers get ----

/// Connections open and allowed, over all workers.
struct ConnectionLimit {
  std::atomic<std::uint64_t> open{0};
  std::uint64_t max = 0;  // 0: no limit
};

/// The listening sockets of one address, one per worker (or one for all of them).
class BoundSockets;

struct ListenerEntry {
  std::shared_ptr<const Listener> config;
  std::shared_ptr<const BoundSockets> sockets;  // null: not bound
  std::shared_ptr<ConnectionLimit> limit;       // null: none
};

struct ClusterEntry {
  std::shared_ptr<const Cluster> config;
  std::shared_ptr<const LoadAssignment> assignment;  // null: Cluster::assignment
  std::shared_ptr<ClusterUse> use;
};

struct Snapshot {
  std::map<std::string, ListenerEntry, std::less<>> listeners;
  std::map<std::string, ClusterEntry, std::less<>> clusters;
  std::map<std::string, std::shared_ptr<const RouteTable>, std::less<>> routes;
};

}  // namespace postern::proxy
