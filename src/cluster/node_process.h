// The process "node": network and node agent of the local cluster, inside the node's namespaces.
// May be killed at any time: pods go on, its successor adopts them. Call from main, before any
// thread exists.
#pragma once

#include "cluster/data_folder.h"
#include "cluster/relay_process.h"

namespace postern::cluster {

/// Says "ready" or "error TEXT" on `ready_fd`, then runs until SIGTERM.
int runNodeProcess(const DataFolder& folder, Externals externals, int ready_fd);

}  // namespace postern::cluster
