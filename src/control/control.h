// The control plane as one object: Kubernetes client, operator, discovery over ADS, admission
// webhooks, mesh root, monitoring. Made by the program's main on its loop; destroying it stops
// everything.
#pragma once

#include "event/loop.h"
#include "kube/client.h"
#include "net/address.h"

#include <memory>
#include <string>

namespace postern::control {

class Control {
 public:
  struct Options {
    kube::ClientConfig kubernetes;
    std::string mesh_namespace = "istio-system";
    net::Address webhook_address;     // where /inject and /validate are served, with TLS
    net::Address discovery_address;   // ADS with TLS; proxies show a service-account token
    net::Address local_address;       // ADS in cleartext for the own host; refused elsewhere
    net::Address monitoring_address;  // /ready, /metrics, /debug
  };
  virtual ~Control() = default;
  /// Blocks until the root certificate is there and the webhooks are registered. `loop` is the
  /// caller's, not yet running.
  static base::ConfigResult<std::unique_ptr<Control>> start(event::Loop& loop, Options options);
};

}  // namespace postern::control
