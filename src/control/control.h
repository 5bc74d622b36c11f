// The control plane as one object: Kubernetes client, operator, admission webhooks, mesh root, and
// the snapshot that validation asks. Made by the program's main on its loop; destroying it stops
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
    net::Address webhook_address;  // where /inject and /validate are served, with TLS
  };
  virtual ~Control() = default;
  /// Blocks until the root certificate is there and the webhooks are registered. `loop` is the
  /// caller's, not yet running.
  static base::ConfigResult<std::unique_ptr<Control>> start(event::Loop& loop, Options options);
};

}  // namespace postern::control
