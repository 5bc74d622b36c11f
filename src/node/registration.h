// The Node object of this node: made at start, kept Ready. Runs a thread of its own, so that an
// absent API server holds nothing up.
#pragma once

#include "kube/client.h"

#include <memory>
#include <string>

namespace postern::node {

class Registration {
 public:
  virtual ~Registration() = default;
  static std::unique_ptr<Registration> start(kube::Client& client, std::string node_name,
                                             std::string node_ip, int pods_max);
};

}  // namespace postern::node
