// The node agent of the local cluster (the kubelet's role): registers its Node, runs the pods that
// name it as processes in namespaces, reports their status, and serves their logs, exec, attach and
// port-forward on the streaming socket. Everything it must remember lies in the data folder, so
// that it may be killed at any time: pods go on, and the next agent adopts them.
#pragma once

#include "base/error.h"
#include "event/loop.h"
#include "kube/client.h"

#include <memory>
#include <string>
#include <vector>

namespace postern::network {
class Network;
}

namespace postern::node {

struct NodeOptions {
  std::string data_dir;        // pods' volumes, logs and records: data_dir/pods
  std::string run_dir;         // short-lived sockets; node.sock is made here
  kube::ClientConfig client;   // reaches the API server from where the agent runs
  std::string programs_dir;    // bound into every pod, where it is runtime::kProgramsPath
  std::string image_map_file;  // may be absent; read again when it changes
  std::string node_name;
  std::string node_ip;  // InternalIP of the Node and hostIP of its pods; empty: the network's
  network::Network* network = nullptr;  // borrowed; null: pods have only their loopback
  std::string cluster_domain = "cluster.local";
  /// Command that runs runtime::shimMain; empty: this program with the argument "pod-shim".
  std::vector<std::string> shim_command;
  std::vector<std::string> hidden_dirs;  // that pods must not see, besides data_dir
  int pods_max = 250;
};

/// Everything runs on the loop and on threads of its own; calls only from the loop's thread.
class Node {
 public:
  virtual ~Node() = default;  // stops the agent, not the pods
  /// Takes up the pods of an earlier agent and serves run_dir/node.sock. The API server may come
  /// later.
  static base::ConfigResult<std::unique_ptr<Node>> start(event::Loop& loop, NodeOptions options);
  /// Ends every pod of this node (cluster shut-down): their processes and namespaces are gone when
  /// this returns. The objects stay in the API.
  virtual void stopPods() = 0;
};

}  // namespace postern::node
