// The operator: reconciles `Istio` (mesh) and `MeshGateway` resources into Kubernetes objects,
// level-triggered. A pending address or a missing mesh never blocks: the status says the reason and
// the next event or timer tries again. Deletion needs no finalizer: every object is owned and
// namespaced, so garbage collection removes it.
#pragma once

#include "kube/client.h"

#include <memory>

namespace postern::op {

class Operator {
 public:
  virtual ~Operator() = default;
  /// Starts informers and workers; the client must outlive it.
  static std::unique_ptr<Operator> start(kube::Client& client);
};

}  // namespace postern::op
