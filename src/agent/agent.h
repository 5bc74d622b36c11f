// The agent of a pod: `postern-proxy sidecar|gateway` starts and guards the proxy proper, serves it
// ADS, and answers for it; `postern-proxy capture` sets the redirect. Call from main, before any
// thread exists.
#pragma once

#include <span>
#include <string_view>

namespace postern::agent {

/// Whether the first argument is one of ours (sidecar, gateway, proxy, capture).
bool isAgentCommand(std::string_view word);
/// Runs until it is told to end; returns the exit status.
int run(std::span<const std::string_view> arguments);

}  // namespace postern::agent
