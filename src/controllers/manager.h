// The controllers a Kubernetes control plane has of its own, for the local cluster: Deployments,
// ReplicaSets, Jobs, scheduling, Services' addresses and endpoints, namespaces, garbage collection,
// autoscalers and disruption budgets. They speak only to the API, run on threads of their own, and
// ride out restarts of the API.
#pragma once

#include "kube/client.h"

#include <chrono>
#include <memory>
#include <string>

namespace postern::controllers {

struct Options {
  std::string load_balancer_pool = "10.97.0.0/24";  // IPv4 CIDR; network and broadcast left out
  int load_balancer_addresses = 2;                  // per Service of type LoadBalancer
  std::string root_ca_pem;  // goes to ConfigMap kube-root-ca.crt; empty: none is written
  std::string api_address;  // endpoint of Service default/kubernetes; empty: not managed
  int api_port = 6443;
  std::string api_service_ip = "10.96.0.1";
  std::chrono::seconds event_ttl{3600};
};

class Manager {
 public:
  virtual ~Manager() = default;  // stops all controllers
  /// Returns at once; the client must outlive the manager.
  static std::unique_ptr<Manager> start(kube::Client& client, Options options);
};

}  // namespace postern::controllers
