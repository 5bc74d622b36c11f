// The log of a listener has a line for each connection at its end, whatever took it: an HTTP
// connection manager, a TCP proxy, or nothing at all. Loop thread.
#pragma once

#include "formatter/access_record.h"
#include "proxy/connection_facts.h"
#include "proxy/worker.h"

namespace postern::proxy {

/// What is known of a connection that ends now. Views into `facts`.
formatter::AccessRecord connectionRecord(Worker& worker, const ConnectionFacts& facts,
                                         base::MonotonicTime started);
/// Adds what its transport tells: TLS, and why the handshake failed. A view of the transport.
void describeEnd(const net::Transport& client, formatter::AccessRecord& record);
/// Writes the line of a connection that no filter took.
void logUntaken(Worker& worker, const ConnectionFacts& facts, base::MonotonicTime started);

}  // namespace postern::proxy
