// The neutral routing model: what generators see of Kubernetes Services, Istio kinds and mesh
// settings. Plain immutable values, parsed once per object (parse.h), shared between snapshots.
// Every element carries its origin, so that status, the explainer and the dashboard can name who
// caused what.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::model {

using Labels = std::map<std::string, std::string>;

/// Where an element comes from; `path` is the field inside the object ("spec.http[0].match[1]").
struct Origin {
  std::string kind;
  std::string ns;
  std::string name;
  std::string path;
  /// "VirtualService/ns/name": the key of dependencies.
  std::string key() const { return kind + "/" + ns + "/" + name; }
  Origin at(std::string field) const { return {kind, ns, name, std::move(field)}; }
  bool operator==(const Origin&) const = default;
};

/// Origin and age, common to all objects.
struct Meta {
  Origin origin;
  std::string created;  // RFC 3339, sorts by age
  Labels labels;
};

enum class Protocol : std::uint8_t { kUnknown, kTcp, kUdp, kHttp, kHttp2, kGrpc, kHttps, kTls };
constexpr bool isHttp(Protocol p) {
  return p == Protocol::kHttp || p == Protocol::kHttp2 || p == Protocol::kGrpc;
}
constexpr bool isTls(Protocol p) { return p == Protocol::kHttps || p == Protocol::kTls; }
/// What may share a port of a gateway: HTTP with HTTP, TLS with TLS, nothing with TCP of another
/// owner.
enum class Family : unsigned char { kHttp, kTls, kTcp };
constexpr Family familyOf(Protocol p) {
  if (isHttp(p)) return Family::kHttp;
  return isTls(p) ? Family::kTls : Family::kTcp;
}

struct Port {
  std::uint32_t number = 0;
  std::string name;
  Protocol protocol = Protocol::kUnknown;
  std::uint32_t target = 0;  // numeric target port; 0 when it is a name
  std::string target_name;   // a container port's name
};

/// One address that serves one port of a service.
struct Endpoint {
  std::string address;
  std::uint32_t port = 0;
  std::string port_name;
  Labels labels;
  std::string pod;  // "ns/name", empty outside the cluster
  std::string workload;
  std::string ns;
  std::uint32_t weight = 1;
  bool operator==(const Endpoint&) const = default;
};

enum class Resolution : std::uint8_t { kEds, kDns, kDnsRoundRobin, kPassthrough };

struct Service {
  Meta meta;
  std::string host;
  std::string short_name;  // Kubernetes Services only
  std::vector<std::string> addresses;
  std::vector<Port> ports;
  Resolution resolution = Resolution::kEds;
  Labels selector;
  std::vector<std::string> export_to;
  std::vector<Endpoint> endpoints;  // ServiceEntry: as written, port_name set per port
  std::string external_name;        // ExternalName
  bool kubernetes = false;
  bool headless = false;
  bool external = false;

  const Port* port(std::uint32_t number) const;
};

/// A pod: what maps endpoints and proxies to labels.
struct Workload {
  Meta meta;
  std::string ip;
  std::string node;
  std::string owner;  // the Deployment's (or other controller's) name
  std::string service_account;
  Labels port_names;  // container port name → number
};

/// The endpoints of one slice, before they are joined with pods.
struct Slice {
  Meta meta;
  std::string service;  // label kubernetes.io/service-name
  std::vector<Endpoint> endpoints;
};

struct StringMatch {
  enum class Kind : std::uint8_t { kPresent, kExact, kPrefix, kRegex } kind = Kind::kPresent;
  std::string value;
};

struct Server {
  std::string path;
  std::uint32_t port = 0;
  std::string port_name;
  Protocol protocol = Protocol::kUnknown;
  std::string bind;
  std::vector<std::string> hosts;
  bool has_tls = false;
  bool https_redirect = false;
};

struct Gateway {
  Meta meta;
  std::optional<Labels> selector;
  std::vector<Server> servers;
};

struct Destination {
  std::string host;  // completed with the namespace of its object
  std::string subset;
  std::uint32_t port = 0;
};

struct HeaderOps {
  Labels set;
  Labels add;
  std::vector<std::string> remove;
};
struct Headers {
  HeaderOps request;
  HeaderOps response;
};

struct WeightedDestination {
  Destination destination;
  std::uint32_t weight = 0;
  Headers headers;
};

struct HttpMatch {
  std::string path;
  std::string name;
  std::optional<StringMatch> uri, scheme, method, authority;
  std::map<std::string, StringMatch> headers, without_headers, query;
  std::uint32_t port = 0;
  Labels source_labels;
  std::string source_namespace;
  std::vector<std::string> gateways;
  bool ignore_case = false;
};

struct Redirect {
  std::string uri, prefix_rewrite, authority, scheme;
  std::uint32_t port = 0;
  std::uint32_t code = 301;
};
struct Rewrite {
  std::string uri, authority, regex, regex_substitution;
};
struct DirectResponse {
  std::uint32_t status = 0;
  std::optional<std::string> text;   // body.string
  std::optional<std::string> bytes;  // body.bytes, base64
};
struct Retries {
  std::int64_t attempts = 0;
  std::string per_try_timeout, retry_on, backoff;
  std::vector<std::uint32_t> status_codes;
};
struct Fault {
  double delay_percent = 0;
  std::string fixed_delay;
  double abort_percent = 0;
  std::uint32_t abort_status = 0;
  std::string abort_grpc_status;
};

struct HttpRule {
  std::string path;
  std::string name;
  std::vector<HttpMatch> matches;
  std::vector<WeightedDestination> destinations;
  std::optional<Redirect> redirect;
  std::optional<Rewrite> rewrite;
  std::optional<DirectResponse> direct_response;
  std::optional<Retries> retries;
  std::optional<Fault> fault;
  Headers headers;
  std::string timeout;  // proto JSON duration, "" = none
};

/// A tls or tcp match.
struct L4Match {
  std::vector<std::string> sni_hosts;
  std::vector<std::string> subnets;
  std::uint32_t port = 0;
  Labels source_labels;
  std::string source_namespace;
  std::vector<std::string> gateways;
};
struct L4Rule {
  std::string path;
  std::vector<L4Match> matches;
  std::vector<WeightedDestination> destinations;
};

struct VirtualService {
  Meta meta;
  std::vector<std::string> hosts;     // completed
  std::vector<std::string> gateways;  // "mesh" or "ns/name"
  std::vector<std::string> export_to;
  std::vector<HttpRule> http;
  std::vector<L4Rule> tls;
  std::vector<L4Rule> tcp;
};

struct TrafficPolicy {
  std::optional<std::string> balancer;  // Envoy's lb_policy name
  std::optional<std::string> connect_timeout;
  std::optional<std::uint32_t> max_connections, max_pending, max_requests, max_retries;
  std::optional<std::uint32_t> max_requests_per_connection;
  std::optional<std::string> tcp_idle_timeout, http_idle_timeout;
  bool upgrade_h2 = false;
  bool has_pool = false;
};
struct PortPolicy {
  std::uint32_t port = 0;
  TrafficPolicy policy;
};
struct PolicySet {
  TrafficPolicy top;
  std::vector<PortPolicy> ports;
};
struct Subset {
  std::string path;
  std::string name;
  Labels labels;
  PolicySet policy;
};
struct DestinationRule {
  Meta meta;
  std::string host;  // completed
  PolicySet policy;
  std::vector<Subset> subsets;
  std::vector<std::string> export_to;
  std::optional<Labels> workload_selector;
};

struct EgressListener {
  std::uint32_t port = 0;
  std::vector<std::string> hosts;
};
struct Sidecar {
  Meta meta;
  std::optional<Labels> selector;
  std::vector<EgressListener> egress;
  std::optional<bool> allow_any;
};

struct MeshSettings {
  Origin origin;
  bool allow_any = true;
  std::string access_log_file = "/dev/stdout";
  std::string access_log_format;  // empty: Istio's default
  std::string connect_timeout = "10s";
  std::string root_namespace = "istio-system";
  std::string domain = "cluster.local";
};

}  // namespace postern::model
