// The HTTP/2 client side of a connection. Internal to http/: callers use ClientConnection::start.
#pragma once

#include "http/client.h"
#include "http/h1_client.h"

#include <memory>

namespace postern::http {

ClientConnection* startH2Client(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                const ClientLimits& limits, ClientObserver& observer,
                                Connected connected = Connected::kNo);

}  // namespace postern::http
