// What the listener filters read from the first bytes of a connection, shown again from the start
// each time more of them arrived. No I/O.
#pragma once

#include "proxy/config.h"
#include "proxy/connection_facts.h"

#include <cstddef>
#include <string_view>

namespace postern::proxy {

/// Bytes the HTTP inspector looks at before it gives up.
inline constexpr std::size_t kInspectedBytesMax = 64 * 1024;

enum class Detection : unsigned char {
  kMore,      // show more bytes
  kFound,     // `facts` tell it
  kNotFound,  // something else
  kTooLarge,  // longer than the limit
};

/// Fills server name, application protocols and transport protocol "tls".
Detection detectTls(std::string_view bytes, std::size_t bytes_max, ConnectionFacts& facts);
/// Fills application protocol "http/1.0", "http/1.1" or "h2c".
Detection detectHttp(std::string_view bytes, ConnectionFacts& facts);

}  // namespace postern::proxy
