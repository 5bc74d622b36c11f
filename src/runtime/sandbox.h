// A pod's sandbox as the node agent sees it: makes one, finds one again, and asks its pid 1
// (shim.h) to start, watch and signal containers. spawn() blocks for some milliseconds and may be
// called on any thread; everything else belongs to one loop and does not block.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"
#include "runtime/spec.h"

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

namespace postern::runtime {

/// Upward. The sandbox may be destroyed inside each call.
class SandboxObserver {
 public:
  virtual ~SandboxObserver() = default;
  /// It answers; these are the containers it has started so far.
  virtual void onReady(std::vector<ContainerRecord> containers) = 0;
  virtual void onContainerExit(const ContainerRecord& container) = 0;
  virtual void onExecExit(long long exec, int code) = 0;
  /// It is gone or could not be set up; calls that wait for an answer fail before.
  virtual void onLost(const std::string& why) = 0;
};

struct ExecSpec {
  std::string container;
  std::vector<std::string> argv;
  bool terminal = false;
  base::Fd streams[3];  // the process's ends, without a terminal; an empty one is /dev/null
};
struct ExecStarted {
  long long id = 0;
  base::Fd terminal;  // the master
};
struct AttachSpec {
  std::string container;
  bool input = false;
  base::Fd streams[3];  // [1], [2]: where output and errors are copied to
};
struct Attached {
  bool terminal = false;
  base::Fd input;  // pipe, or the terminal's master
};
struct OperationFailure {
  std::string text;
  int exit_code = 128;
};

template <class T>
using Callback = base::Function<void(std::expected<T, OperationFailure>)>;

class Sandbox {
 public:
  /// What tells one sandbox's pid 1 from a later process with the same number.
  struct Identity {
    pid_t pid = 0;
    std::uint64_t start_ticks = 0;
  };
  /// New namespaces with pid 1 in them, which keeps setting up when this returns: its socket can be
  /// connected to. `shim_command` runs shimMain (shim.h).
  static std::expected<Identity, std::string> spawn(const SandboxSpec& spec,
                                                    const std::vector<std::string>& shim_command);
  /// Ends a sandbox that may not answer any more; false when there was none.
  static bool kill(const Identity& identity);
  static bool alive(const Identity& identity);
  static base::Result<base::Fd> networkNamespace(const Identity& identity);

  /// The sandbox of this folder. Null when there is none any more; else onReady or onLost follows.
  static std::unique_ptr<Sandbox> connect(event::Loop& loop, const std::string& folder,
                                          SandboxObserver& observer);
  virtual ~Sandbox() = default;  // the sandbox goes on
  virtual void start(const ContainerSpec& spec, Callback<ContainerRecord> callback) = 0;
  virtual void exec(ExecSpec spec, Callback<ExecStarted> callback) = 0;
  virtual void attach(AttachSpec spec, Callback<Attached> callback) = 0;
  virtual void signal(const std::string& container, int number) = 0;
  virtual void signalExec(long long exec, int number) = 0;
  /// Drops the record of a container that ended.
  virtual void forget(const std::string& container) = 0;
  /// Ends everything in it; onLost follows.
  virtual void stop() = 0;
};

}  // namespace postern::runtime
