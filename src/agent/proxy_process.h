// The proxy proper as a child of the agent: started, started again after a crash with back-off,
// told to end, killed when it does not. Loop thread; its callback runs on the loop. Knows nothing
// of configuration.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "event/loop.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

namespace postern::agent {

/// Waits between crashes: 100 ms doubled up to this; a run longer than it starts from the
/// beginning.
inline constexpr std::chrono::seconds kRestartBackoffMax{10};

class ProxyProcess {
 public:
  virtual ~ProxyProcess() = default;  // kills the proxy
  /// `argv[0]` is a path. Starts at once; an error only when the program cannot be started at all.
  static base::Result<std::unique_ptr<ProxyProcess>> start(event::Loop& loop,
                                                           std::vector<std::string> argv);
  /// No restarts any more; SIGTERM now, SIGKILL after `grace`; calls back when it has ended.
  virtual void stop(std::chrono::milliseconds grace, base::Function<void()> ended) = 0;
  virtual bool running() const = 0;
  virtual pid_t pid() const = 0;
  virtual unsigned restarts() const = 0;
};

}  // namespace postern::agent
