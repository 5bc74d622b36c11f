// A line of text with at most one descriptor over a Unix socket. Non-blocking; any thread.
#pragma once

#include "base/error.h"
#include "base/fd.h"

#include <string>
#include <string_view>

namespace postern::network {

/// Sends all of `text` (short: it fits an empty socket buffer), with the descriptor unless it is
/// -1.
base::Result<void> sendWithFd(int socket, std::string_view text, int fd);

/// Appends what is there to `text` and keeps a descriptor that came with it. False at the end of
/// the stream; nothing appended when there is nothing yet.
base::Result<bool> receiveWithFd(int socket, std::string& text, base::Fd& fd);

}  // namespace postern::network
