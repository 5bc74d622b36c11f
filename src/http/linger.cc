#include "http/linger.h"

#include "base/buffer.h"

namespace postern::http {

bool discardInput(net::Transport& transport, std::size_t& discarded) {
  constexpr std::size_t kPieceBytes = 64 * 1024;
  base::Buffer dropped;
  while (discarded <= kLingerBytesMax) {
    dropped.clear();
    const net::IoResult result = transport.read(dropped, kPieceBytes);
    discarded += result.bytes;
    if (result.status == net::IoStatus::kAgain) return true;
    if (result.status != net::IoStatus::kOk) return false;
    if (result.bytes < kPieceBytes) return true;
  }
  return true;
}

}  // namespace postern::http
