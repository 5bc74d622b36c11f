// The HTTP/1 client side: one exchange at a time on a connection. Internal to http/: callers use
// ClientConnection::start.
#pragma once

#include "http/client.h"

#include <memory>

namespace postern::http {

/// kYes: the transport has told its connection already (it was negotiated), and will not again.
enum class Connected : bool { kNo, kYes };

ClientConnection* startH1Client(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                const ClientLimits& limits, ClientObserver& observer,
                                Connected connected = Connected::kNo);

}  // namespace postern::http
