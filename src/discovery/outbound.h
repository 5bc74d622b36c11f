// Decisions shared by the sidecar's listeners and routes. Internal to this folder.
#pragma once

#include "model/types.h"

namespace postern::discovery {

/// Ports of unknown protocol on an address of their own: HTTP or not is found out from the bytes.
inline bool isSniffed(const model::Service& service, const model::Port& port) {
  return port.protocol == model::Protocol::kUnknown && !service.addresses.empty();
}

}  // namespace postern::discovery
