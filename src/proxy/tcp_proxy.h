// Pipes one accepted connection to a host of a cluster and back. Owns itself until both
// directions end; loop thread.
#pragma once

#include "proxy/worker.h"

namespace postern::proxy {

void startTcpProxy(Worker& worker, const TcpProxy& config, std::unique_ptr<net::Transport> client,
                   ConnectionFacts facts);

/// Makes the statistics of the filter.
void showTcpStats(Worker& worker, const TcpProxy& config);

}  // namespace postern::proxy
