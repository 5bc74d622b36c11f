// The process "relay": joins the pod network and the machine's. Its outer half stays in the host's
// namespaces, its inner half joins the node's. Call from main, before any thread exists.
#pragma once

#include "cluster/data_folder.h"
#include "network/external.h"

#include <vector>

#include <sys/types.h>

namespace postern::cluster {

/// Public names with the host addresses that stand for them, stand-ins resolved.
using Externals = std::vector<network::External>;

/// `node_pid`: pid 1 of the node, as seen from here. Runs until SIGTERM.
int runRelayProcess(const DataFolder& folder, Externals externals, pid_t node_pid);

}  // namespace postern::cluster
