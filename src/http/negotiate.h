// Connections whose protocol is found out first: by ALPN, on a cleartext server by the client's
// first bytes. A server hands over to the connection that is then started
// (ServerObserver::onProtocol), a client wraps it and stays its public face. Internal to http/.
#pragma once

#include "http/client.h"
#include "http/server.h"

#include <memory>

namespace postern::http {

ServerConnection* startNegotiatedServer(event::Loop& loop,
                                        std::unique_ptr<net::Transport> transport,
                                        const SharedLimits& limits, ServerObserver& observer);
ClientConnection* startNegotiatedClient(event::Loop& loop,
                                        std::unique_ptr<net::Transport> transport,
                                        const ClientLimits& limits, ClientObserver& observer);

}  // namespace postern::http
