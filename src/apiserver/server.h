// The API server: TLS, authentication, authorization, the REST core, reviews, tokens, and the pod
// subresources that are forwarded to the node agent. Everything on the loop it is started on.
#pragma once

#include "apiserver/webhooks.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"
#include "net/address.h"
#include "net/transport.h"

#include <memory>
#include <string>
#include <vector>

namespace postern::apiserver {

/// Gives a raw HTTP/1.1 connection to the node's local streaming server, fresh from
/// net::connectTransport: its onConnected is still to come.
class NodeConnector {
 public:
  virtual ~NodeConnector() = default;
  virtual void connect(
      base::Function<void(base::Result<std::unique_ptr<net::Transport>>)> callback) = 0;
};

struct Options {
  std::string data_dir;             // made when absent; keys below data_dir/pki
  std::vector<base::Fd> listeners;  // listening sockets, served with TLS
  std::vector<std::string> server_ips{"127.0.0.1", "10.96.0.1"};  // in the server certificate
  std::string server_url;  // for the kubeconfig: "https://127.0.0.1:6443"
  std::string service_cidr = "10.96.0.0/16";
  bool in_memory = false;         // tests: keep no objects on disk
  bool json_arrays = false;       // printer columns: ["a","b"] instead of [a b]
  ConnectHook connect;            // how webhooks are reached; empty: from this process
  NodeConnector* node = nullptr;  // borrowed; null: pods have no logs and no exec
};

class Server {
 public:
  virtual ~Server() = default;
  static base::ConfigResult<std::unique_ptr<Server>> start(event::Loop& loop, Options options);

  /// A kubeconfig with the admin's client certificate, as YAML (JSON text).
  virtual std::string adminKubeconfig() const = 0;
  virtual const std::string& caPem() const = 0;
  /// Another listening socket, or one accepted connection (from another network namespace).
  virtual void listen(base::Fd listener) = 0;
  virtual void serve(base::Fd connection) = 0;
  virtual void setNode(NodeConnector* node) = 0;
};

}  // namespace postern::apiserver
