// The last phase of a server connection: our direction has ended, and what the client still sends
// is read and dropped until it ends too. Closing with unread input would make the kernel reset the
// connection, and the reset could overtake what the client was told last (RFC 9112 9.6).
// The owner bounds it in time.
#pragma once

#include "net/transport.h"

#include <cstddef>

namespace postern::http {

inline constexpr std::size_t kLingerBytesMax = 1024 * 1024;  // more is left to the kernel, unread

/// Drops what has arrived, up to kLingerBytesMax in all, counted in `discarded`. False: the client
/// has ended, or the connection broke.
bool discardInput(net::Transport& transport, std::size_t& discarded);

}  // namespace postern::http
