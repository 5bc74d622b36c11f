// The first bytes of a TLS connection: server name and application protocols of the ClientHello
// (RFC 8446 4.1.2, RFC 6066 3, RFC 7301 3.1), read from what was peeked so far. Decides nothing,
// stores nothing, trusts no length.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace postern::codec {

struct ClientHello {
  std::string server_name;             // lower case; empty: not sent
  std::vector<std::string> protocols;  // ALPN, in the client's order
};

enum class HelloResult : unsigned char {
  kMore,    // a ClientHello may still come: show more bytes, from the start again
  kTls,     // `out` is filled
  kNotTls,  // something else
};

/// `bytes` is everything received so far; the hello may be split over records and reads.
HelloResult readClientHello(std::string_view bytes, ClientHello& out);

}  // namespace postern::codec
