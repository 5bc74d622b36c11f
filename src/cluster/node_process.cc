#include "cluster/node_process.h"

#include "base/log.h"
#include "event/loop.h"
#include "kube/client.h"
#include "network/network.h"
#include "node/node.h"

#include <csignal>

#include <unistd.h>

namespace postern::cluster {
namespace {

base::LogComponent& nodeLog() {
  static base::LogComponent component("cluster");
  return component;
}

void tell(int fd, const std::string& line) {
  if (fd < 0) return;
  const std::string text = line + "\n";
  [[maybe_unused]] ssize_t n = ::write(fd, text.data(), text.size());
  ::close(fd);
}

int failNode(int fd, const std::string& text) {
  nodeLog().error("{}", text);
  tell(fd, "error " + text);
  return 1;
}

/// The admin's, over the way that pods take too.
base::ConfigResult<kube::ClientConfig> clientConfig(const DataFolder& folder) {
  POSTERN_TRY(kube::ClientConfig config,
              kube::ClientConfig::fromKubeconfig(folder.adminKubeconfig()));
  config.server = std::string("https://") + network::kApiServiceAddress + ":443";
  config.user_agent = "postern-node";
  return config;
}

std::string hostname() {
  char name[256] = "postern-node";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace

int runNodeProcess(const DataFolder& folder, Externals externals, int ready_fd) {
  event::Loop::blockSignals({SIGTERM, SIGINT});
  event::Loop loop;
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT}, [&loop](int) { loop.stop(); });
  auto options = ClusterOptions::load(folder);
  if (!options) return failNode(ready_fd, options.error().message());
  auto config = clientConfig(folder);
  if (!config) return failNode(ready_fd, config.error().message());
  auto net =
      network::Network::start({.run_folder = folder.run(), .externals = std::move(externals)});
  if (!net) return failNode(ready_fd, "network: " + net.error().message());
  auto client = kube::Client::make(*config);
  if (!client) return failNode(ready_fd, client.error().message());
  (*net)->follow(**client);
  node::NodeOptions node_options;
  node_options.data_dir = folder.node();
  node_options.run_dir = folder.run();
  node_options.hidden_dirs = {folder.root};  // keys, admin's credentials, sockets into the host
  node_options.client = *config;
  node_options.programs_dir = options->programs_dir;
  node_options.image_map_file = options->image_map;
  node_options.node_name = hostname();
  node_options.network = net->get();
  auto node = node::Node::start(loop, std::move(node_options));
  if (!node) return failNode(ready_fd, node.error().message());
  tell(ready_fd, "ready");
  loop.run();
  node->reset();
  net->reset();
  return 0;
}

}  // namespace postern::cluster
