// The HTTP/2 server side of a connection. Internal to http/: callers use ServerConnection::start.
#pragma once

#include "base/buffer.h"
#include "http/server.h"

#include <memory>

namespace postern::http {

/// `initial`: bytes already read from the transport.
ServerConnection* startH2Server(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                base::Buffer initial, const ServerLimits& limits,
                                ServerObserver& observer);

}  // namespace postern::http
