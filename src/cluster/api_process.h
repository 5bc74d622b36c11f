// The process "api": the API server and the built-in controllers. Runs in the host's namespaces as
// the user. Owns its loop; returns when it is told to end.
#pragma once

#include "base/error.h"
#include "base/fd.h"

#include <cstdint>
#include <string>

namespace postern::cluster {

struct ApiProcessOptions {
  std::string data_dir;    // of the store and the keys
  base::Fd listener;       // a listening loopback socket
  std::string kubeconfig;  // the admin's is written here (0600); empty: nowhere
  std::string run_dir;     // of a whole cluster: reach node and pod network through its sockets
  int ready_fd = -1;       // "ready", or "error TEXT"
};

/// Call from main, before any thread exists. Returns the exit status; problems go to stderr and to
/// the ready descriptor.
int runApiProcess(ApiProcessOptions options);

}  // namespace postern::cluster
