// The HTTP/1 server side: one exchange at a time on a connection, pipelined requests wait in the
// input. Internal to http/: callers use ServerConnection::start.
#pragma once

#include "base/buffer.h"
#include "http/server.h"

#include <memory>

namespace postern::http {

/// `initial`: bytes already read from the transport; `more`: it may have more now.
ServerConnection* startH1Server(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                base::Buffer initial, const SharedLimits& limits,
                                ServerObserver& observer, bool more = false);

}  // namespace postern::http
