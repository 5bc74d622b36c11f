// The client side of a CONNECT that ends here: the bytes of its one stream are the connection
// itself, without HTTP. Internal to http/: callers use ClientConnection::start with
// Protocol::kTunnel.
#pragma once

#include "http/client.h"

#include <memory>

namespace postern::http {

ClientConnection* startTunnelClient(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                    ClientObserver& observer);

}  // namespace postern::http
