// Serves ADS (delta and state of the world) to the pod's proxy on a Unix socket and passes every
// message on to the control plane over TLS with the pod's token, so that the proxy itself needs
// neither. Each stream of the proxy has its own connection upstream; when that breaks, the proxy's
// stream ends UNAVAILABLE and the proxy tries again. Loop thread. Knows nothing of what the
// messages say.
#pragma once

#include "agent/environment.h"
#include "base/error.h"
#include "event/loop.h"
#include "net/resolver.h"

#include <memory>

namespace postern::agent {

/// What may wait for a slow side before the stream is given up.
inline constexpr std::size_t kXdsUnsentBytesMax = 64 * 1024 * 1024;

class XdsRelay {
 public:
  virtual ~XdsRelay() = default;
  /// Replaces the socket file. `options` and `resolver` must outlive the relay.
  static base::ConfigResult<std::unique_ptr<XdsRelay>> start(event::Loop& loop,
                                                             net::Resolver& resolver,
                                                             const AgentOptions& options);
};

}  // namespace postern::agent
