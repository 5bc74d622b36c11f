// The serving side of socket_provider.h's protocol: makes sockets in the network namespace of its
// process. One loop. Who may ask: whoever may open the Unix socket (mode 0600 in a folder of mode
// 0700), further narrowed by the asker's network namespace, because pods see the host's files and
// may run as the same user.
#pragma once

#include "event/loop.h"
#include "net/socket.h"
#include "network/socket_provider.h"

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <sys/types.h>

namespace postern::network {

class SocketServer {
 public:
  /// Decides by the asking process.
  using Allow = base::Function<bool(int pid)>;
  static base::Result<std::unique_ptr<SocketServer>> start(event::Loop& loop,
                                                           const std::string& path, Allow allow);
  ~SocketServer();

 private:
  struct Request;
  SocketServer(event::Loop& loop, std::string path, Allow allow);
  void accepted(base::Fd connection);
  void finish(Request* request);

  event::Loop& loop_;
  std::string path_;
  Allow allow_;
  std::unique_ptr<net::Acceptor> acceptor_;
  std::vector<std::unique_ptr<Request>> requests_;
};

/// The inode of a process's network namespace; 0 when it is gone or not ours to see.
ino_t networkNamespaceOf(int pid);
ino_t ownNetworkNamespace();
/// Allows processes in one of these network namespaces.
SocketServer::Allow allowNamespaces(std::set<ino_t> namespaces);

}  // namespace postern::network
