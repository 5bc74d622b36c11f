// "The node": one process that is pid 1 of new pid, network, mount, IPC and host-name namespaces
// (and, for an ordinary user, of a new user namespace mapped by newuidmap and newgidmap). All that
// the cluster changes on the machine is in there, so killing that process removes all of it.
// Call from a process with one thread; blocking for some milliseconds.
#pragma once

#include "base/error.h"
#include "base/fd.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace postern::cluster {

/// The uid of the proxies must be mapped.
inline constexpr std::uint32_t kSubordinateIdsMin = 1338;
inline constexpr std::uint32_t kSubordinateIdsMax = 65535;

/// The largest range that /etc/subuid or /etc/subgid gives to this user.
struct IdRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};
IdRange subordinateIds(std::string_view file_text, std::string_view user, uid_t uid);

/// Why this user can have no node namespace, with the remedy; found without making one.
base::ConfigResult<void> checkNodeNamespace();

struct ForkedProcess {
  pid_t pid = -1;  // in the caller's pid namespace
  base::Fd pidfd;
};

/// A command's first word is a path, or any name for the running program itself.
///
/// Makes the namespaces and runs `argv` in them as pid 1 and uid 0. `keep` are descriptors that
/// stay open in it.
base::ConfigResult<ForkedProcess> startNodeNamespace(const std::vector<std::string>& argv,
                                                     const std::vector<int>& keep, int log_fd);

/// Runs `argv` as uid 0 inside the namespaces of `holder`. The process is a child of the caller
/// only if the caller is a subreaper.
base::ConfigResult<ForkedProcess> startInNode(const base::Fd& holder,
                                              const std::vector<std::string>& argv,
                                              const std::vector<int>& keep, int log_fd);
/// Runs `argv` in the namespaces of the caller, as its child in a session of its own.
base::ConfigResult<ForkedProcess> startProcess(const std::vector<std::string>& argv,
                                               const std::vector<int>& keep, int log_fd);

/// The life of pid 1: reports ready on `ready_fd`, then reaps until it is killed.
int runNodeHolder(int ready_fd);

}  // namespace postern::cluster
