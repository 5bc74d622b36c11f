// The node side of kubectl's exec, attach and port-forward: takes such requests from the node's
// HTTP/1.1 server, upgrades them (SPDY/3.1 or WebSocket) and runs them against an ExecBackend.
// Paths are the kubelet's: /exec/{ns}/{pod}[/{uid}]/{container}, /attach/… the same,
// /portForward/{ns}/{pod}[/{uid}]. One loop. Knows nothing of how pods are run.
#pragma once

#include "event/loop.h"
#include "http/server.h"
#include "streaming/backend.h"

#include <memory>

namespace postern::streaming {

class Server {
 public:
  virtual ~Server() = default;  // ends every session
  /// `loop` and `backend` must outlive it.
  static std::unique_ptr<Server> make(event::Loop& loop, ExecBackend& backend);
  /// True: the path is one of ours and is (or will be) answered; both arguments are taken. False:
  /// nothing was touched.
  virtual bool handle(http::Request& request, std::unique_ptr<http::Responder>& responder) = 0;
  virtual std::size_t sessions() const = 0;
};

}  // namespace postern::streaming
