// What the agent knows of its pod: flags of the container's arguments, environment and mounted
// files as the injector and the gateways' Deployments give them (names of Istio's agent), and the
// Envoy node made of them. Read once at start; values.
#pragma once

#include "base/error.h"
#include "json/json.h"

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace postern::agent {

/// Where the pod's files are; tests choose others.
struct Paths {
  std::string config_dir = "/etc/istio/proxy";
  std::string pod_info_dir = "/etc/istio/pod";
  std::string token_file = "/var/run/secrets/tokens/istio-token";
  std::string root_cert_file = "/var/run/secrets/istio/root-cert.pem";
};

struct AgentOptions {
  std::string type = "sidecar";  // or "router"
  std::string domain;            // "default.svc.cluster.local"
  std::string service_cluster;
  std::string proxy_program;  // empty: this program
  std::string proxy_log_level = "warning";
  std::string proxy_component_log_level;
  std::string log_level = "info";
  int concurrency = 2;
  Paths paths;

  std::string pod_name;
  std::string pod_namespace;
  std::string instance_ip;
  std::string discovery_host;  // "istiod.istio-system.svc"
  std::uint16_t discovery_port = 15012;
  std::uint16_t admin_port = 15000;
  std::uint16_t agent_port = 15020;
  std::uint16_t ready_port = 15021;
  std::uint16_t prometheus_port = 15090;
  std::chrono::seconds drain_max{5};  // TERMINATION_DRAIN_DURATION_SECONDS
  std::chrono::seconds drain_min{1};  // MINIMUM_DRAIN_DURATION
  bool exit_when_idle = true;         // EXIT_ON_ZERO_ACTIVE_CONNECTIONS
  std::string probers_json;           // ISTIO_KUBE_APP_PROBERS
  std::string metadata_json = "{}";   // node metadata

  std::string nodeId() const;
};

/// `arguments` begin with "sidecar", "gateway" (or Istio's "proxy sidecar", "proxy router").
/// `variables` are all of the environment as "NAME=value".
base::ConfigResult<AgentOptions> readEnvironment(std::span<const std::string_view> arguments,
                                                 const std::vector<std::string>& variables,
                                                 const Paths& paths = {});

/// The downward API's file of labels or annotations (key="escaped value" a line) as an object;
/// empty if absent.
json::Json readPodInfo(const std::string& file);

}  // namespace postern::agent
