// Sockets of another network namespace. The server side (SocketServer, in the relay's halves) makes
// them; the client asks over a Unix socket, one request per connection:
//   "connect IP:PORT\n"  a connected stream socket
//   "listen IP:PORT\n"   a listening one (port 0: the kernel chooses)
//   "udp IP:PORT\n"      a datagram socket connected to that address
// and is answered "ok LOCAL-ADDRESS\n" with the descriptor (SCM_RIGHTS), or "error ERRNO TEXT\n".
// One loop.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"
#include "net/address.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::network {

inline constexpr const char* kHostSocketsFile = "host-sockets.sock";
inline constexpr const char* kClusterSocketsFile = "cluster-sockets.sock";
inline constexpr std::size_t kSocketRequestBytesMax = 128;
inline constexpr std::size_t kSocketRequestsMax = 1024;  // at once, per server and per client

class SocketProvider {
 public:
  /// Sockets arrive non-blocking and close-on-exec. Never called inside the asking call's frame.
  using Callback = base::Function<void(base::Result<base::Fd>)>;

  SocketProvider(event::Loop& loop, std::string path);
  ~SocketProvider();  // open requests are forgotten without a callback
  void connect(const net::Address& address, Callback callback);
  void listen(const net::Address& address, Callback callback);
  void udp(const net::Address& address, Callback callback);

 private:
  struct Request;
  void ask(const char* verb, const net::Address& address, Callback callback);
  void finish(Request* request, base::Result<base::Fd> result);

  event::Loop& loop_;
  std::string path_;
  std::vector<std::unique_ptr<Request>> requests_;
};

/// The API server's way into the pod network (its ConnectHook): `path` is cluster-sockets.sock.
base::Function<void(net::Address, base::Function<void(base::Result<base::Fd>)>)> socketConnectHook(
    event::Loop& loop, const std::string& path);

}  // namespace postern::network
