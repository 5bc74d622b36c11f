// Writes into the status of Istio resources what is wrong with them in this cluster: an absent
// gateway or host, a rule no request reaches, a field without effect. Findings are looked for on
// the loop, at most every few hundred milliseconds; writes happen on a worker of their own and are
// tried again.
#pragma once

#include "discovery/snapshot.h"
#include "event/loop.h"
#include "kube/client.h"

#include <memory>

namespace postern::control {

class StatusWriter {
 public:
  virtual ~StatusWriter() = default;
  static std::unique_ptr<StatusWriter> start(event::Loop& loop, kube::Client& client);
  /// Loop thread.
  virtual void update(std::shared_ptr<const discovery::Snapshot> snapshot,
                      discovery::Sources sources) = 0;
};

}  // namespace postern::control
