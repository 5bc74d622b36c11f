// Pid 1 of a pod: holds its namespaces, is the parent of its containers, writes their logs, and
// does what the node agent asks over the sandbox's socket. It outlives the agent; a later one asks
// it what runs. A program of its own (started by Sandbox::spawn through exec), so that no memory of
// the agent with its credentials is in the pod. One loop, one thread.
#pragma once

namespace postern::runtime {

/// The word after the program's name by which main() knows that it is to be a shim.
inline constexpr const char* kShimArgument = "pod-shim";

/// `arguments`: what follows kShimArgument. Returns the exit status.
int shimMain(int count, char** arguments);

}  // namespace postern::runtime
