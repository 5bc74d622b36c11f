// What two processes of a hot restart say to each other: packets of a kind, a text and perhaps a
// descriptor, over a Unix socket that keeps packets apart (SOCK_SEQPACKET). Both ends check that
// the other belongs to the same user. Bytes in, bytes out; no state.
#pragma once

#include "base/error.h"
#include "base/fd.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postern::proxy {

enum class PacketKind : char {
  // from the new process
  kHello = 'h',       // its version
  kAdminTaken = 'a',  // it serves the admin port from now on
  kServing = 'd',     // it accepts: drain
  kEnd = 't',         // time is over: end
  // from the old process
  kRefused = 'E',  // why; nothing follows
  kWelcome = 'W',  // when the first process of all started, seconds since 1970
  kSocket = 'L',   // a listening socket; the text is its key (BoundSockets::keyOf)
  kAdminSocket = 'A',
  kReady = 'R',     // no more sockets follow
  kStats = 'S',     // part of the statistics (stats/carry.h)
  kStatsDone = 's'  // the last part was sent
};

struct Packet {
  PacketKind kind{};
  std::string text;
  base::Fd fd;
};

/// Of one packet's text; longer ones are malformed.
inline constexpr std::size_t kPacketBytesMax = 32 * 1024;

/// "<path>_<base id>_<epoch>"; a leading '@' is the abstract name space.
std::string hotRestartName(std::string_view path, std::uint32_t base_id, std::uint32_t epoch);
/// A listening socket; EADDRINUSE when a process has the name.
base::Result<base::Fd> listenPackets(const std::string& name, std::uint32_t mode);
base::Result<base::Fd> connectPackets(const std::string& name);
/// The next process that connects; an empty Fd when there is none, or it is another user's.
base::Fd acceptPackets(int listener);
/// Of the peer.
bool isSameUser(int socket);

/// False: the socket takes no more now.
base::Result<bool> sendPacket(int socket, const Packet& packet);
/// None: nothing is there now. The end, and nonsense, are errors.
base::Result<std::optional<Packet>> receivePacket(int socket);

}  // namespace postern::proxy
