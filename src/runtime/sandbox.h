// The namespaces of one pod, held by a process of ours that is pid 1 in them, and processes started
// inside. Killing the sandbox ends everything in it; it survives whoever made it. Blocking calls of
// some milliseconds; any thread, one at a time per sandbox. Knows nothing of Kubernetes.
#pragma once

#include "base/error.h"
#include "base/fd.h"

#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace postern::runtime {

struct BindMount {
  std::string source;
  std::string target;  // must exist
  bool read_only = false;
};

struct ProcessSpec {
  std::vector<std::string> argv;  // argv[0] is a path, or a name looked up in PATH of `env`
  std::map<std::string, std::string> env;
  std::string cwd = "/";
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<BindMount> mounts;
  int stdin_fd = -1;  // -1: /dev/null
  int stdout_fd = -1;
  int stderr_fd = -1;
};

class Sandbox {
 public:
  /// New network, mount, host name, IPC and pid namespaces; ports below 1024 are open to every uid.
  static base::Result<Sandbox> start(const std::string& hostname);
  Sandbox(Sandbox&&) = default;
  Sandbox& operator=(Sandbox&&) = default;

  /// Starts a process with its own mounts. The result is a child of the caller that ends with the
  /// process's exit code (127: not found, 126: could not be started, 128 + n: killed by signal n).
  base::Result<pid_t> run(const ProcessSpec& spec) const;
  /// The network namespace, for netlink and setns.
  base::Result<base::Fd> networkNamespace() const;
  /// Ends every process in it.
  void kill();
  pid_t pid() const { return pid_; }

 private:
  Sandbox(pid_t pid, base::Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_;
  base::Fd pidfd_;
};

}  // namespace postern::runtime
