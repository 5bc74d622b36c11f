// The HTTP/1 client side: one exchange at a time on a connection. Internal to http/: callers use
// ClientConnection::start.
#pragma once

#include "http/client.h"

#include <memory>

namespace postern::http {

ClientConnection* startH1Client(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                const ClientLimits& limits, ClientObserver& observer);

}  // namespace postern::http
