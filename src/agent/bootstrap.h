// The proxy's bootstrap (envoy.config.bootstrap.v3.Bootstrap as JSON) for a pod: admin port,
// metrics listener, and ADS through the agent's Unix socket. Pure.
#pragma once

#include "agent/environment.h"
#include "json/json.h"

#include <string>

namespace postern::agent {

/// The socket on which the agent serves ADS to its proxy.
std::string xdsSocketPath(const AgentOptions& options);
json::Json makeBootstrap(const AgentOptions& options);

}  // namespace postern::agent
