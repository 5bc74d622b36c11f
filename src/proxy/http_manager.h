// The HTTP connection manager and router: one object per downstream connection, one exchange per
// request. Owns itself until the connection closes; loop thread.
#pragma once

#include "proxy/worker.h"

namespace postern::proxy {

void startHttpManager(Worker& worker, const HttpManager& config,
                      std::unique_ptr<net::Transport> client, ConnectionFacts facts);

}  // namespace postern::proxy
