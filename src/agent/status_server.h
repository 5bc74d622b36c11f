// What the agent answers on 15020 and 15021, which capture exempts: readiness of the proxy, the
// application's probes that the injector moved here, metrics of proxy and agent together, and the
// way to end the pod
// (/quitquitquit, loopback only). Loop thread.
#pragma once

#include "agent/environment.h"
#include "agent/proxy_process.h"
#include "base/error.h"
#include "base/function.h"
#include "event/loop.h"
#include "net/address.h"

#include <memory>
#include <vector>

namespace postern::agent {

inline constexpr std::size_t kProbersMax = 1000;

class StatusServer {
 public:
  virtual ~StatusServer() = default;
  /// `on_quit`: somebody in the pod asks the agent to end. The references must outlive the server.
  static base::ConfigResult<std::unique_ptr<StatusServer>> start(event::Loop& loop,
                                                                 const AgentOptions& options,
                                                                 const ProxyProcess& proxy,
                                                                 base::Function<void()> on_quit);
  /// Not ready from now on.
  virtual void drain() = 0;
  /// The addresses it listens on (tests use port 0).
  virtual std::vector<net::Address> addresses() const = 0;
};

}  // namespace postern::agent
