// The ports of a sidecar's own pod that Services declare. Internal to this folder.
#pragma once

#include "discovery/view.h"

#include <vector>

namespace postern::discovery {

struct InboundPort {
  const model::Service* service;
  const model::Port* port;
  std::uint32_t target = 0;
};
/// Each target port once.
std::vector<InboundPort> inboundPorts(View& view);

}  // namespace postern::discovery
