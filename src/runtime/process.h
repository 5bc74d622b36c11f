// Starts one process inside a pod, from its pid 1: a container's first process with mounts of its
// own, or one more inside a running container. Only for pid 1 of a sandbox, which has one thread.
#pragma once

#include "base/fd.h"
#include "runtime/spec.h"

#include <expected>
#include <optional>
#include <string>

#include <sys/types.h>

namespace postern::runtime {

struct StartFailure {
  std::string text;
  int exit_code = 128;  // what a shell would say: 127 not found, 126 not executable, 128 set-up
};

struct Stdio {
  int input = -1;  // -1: /dev/null
  int output = -1;
  int error = -1;
  bool terminal = false;  // `input` is a pty's slave: becomes the controlling terminal
};

/// Returns the pid when the program runs (exec succeeded). With `inside`, the process joins that
/// process's mounts instead of making its own.
std::expected<pid_t, StartFailure> launch(const ContainerSpec& spec, const Stdio& stdio,
                                          std::optional<pid_t> inside = {});

/// Kills what else lives in the mounts of a container whose first process ended: as the end of its
/// pid namespace would.
void killMountNamespace(ino_t mount_namespace);
/// 0 when the process is gone.
ino_t mountNamespaceOf(pid_t pid);

}  // namespace postern::runtime
