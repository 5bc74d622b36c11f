// The file system a pod sees: the node's, read-only, under a new root of its own, with its own
// /proc, /dev, /tmp, /run and the files of the pod laid over. Nothing is ever written to the node's
// file system. Runs in the pod's own mount namespace, one thread, in processes made for it; texts
// of errors name the step.
#pragma once

#include "runtime/spec.h"

#include <expected>
#include <string>
#include <vector>

namespace postern::runtime {

using TextResult = std::expected<void, std::string>;

/// Where pid 1 keeps the node's file system, out of the containers' sight.
inline constexpr const char* kHostRoot = "/.postern/host";

/// Builds the pod's root and moves into it. In a new mount namespace; afterwards the node's files
/// are below kHostRoot.
TextResult enterPodRoot(const SandboxSpec& spec);

/// What one container has of its own: fresh /tmp and /run, its volumes; then takes kHostRoot away.
/// In a mount namespace copied from pid 1's.
TextResult enterContainerRoot(const std::vector<Mount>& mounts, bool privileged);

}  // namespace postern::runtime
