// Datagrams with the address they were sent to, so that an answer leaves from there. Non-blocking.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "net/address.h"
#include "net/transport.h"

#include <cstddef>
#include <string_view>

namespace postern::net {

/// The largest a UDP socket delivers.
inline constexpr std::size_t kDatagramBytesMax = 65535;

struct Datagram {
  Address peer;
  Address local;  // with the socket's port; of the datagram's destination where it is told
  std::size_t bytes = 0;
};

/// Lets the kernel tell each datagram's destination (IP_PKTINFO).
void tellDestinations(int fd);
/// kOk, kAgain or kError. `bound` is the socket's own address. Reads at most `size` bytes, which
/// should be kDatagramBytesMax: what does not fit is lost.
IoStatus receiveDatagram(int fd, char* into, std::size_t size, const Address& bound, Datagram& out);
/// Sends from address `from` where the socket is bound to any. False: it was not sent.
bool sendDatagram(int fd, std::string_view bytes, const Address& to, const Address& from);
/// A socket that talks to one address only.
base::Result<base::Fd> connectDatagrams(const Address& to);

}  // namespace postern::net
