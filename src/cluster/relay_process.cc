#include "cluster/relay_process.h"

#include "base/log.h"
#include "network/relay.h"

namespace postern::cluster {

int runRelayProcess(const DataFolder& folder, Externals externals, pid_t node_pid) {
  auto options = ClusterOptions::load(folder);
  if (!options) {
    base::LogComponent("cluster").error("{}", options.error().message());
    return 1;
  }
  network::RelayOptions relay;
  relay.run_folder = folder.run();
  relay.api_server = net::Address::loopback(options->api_port);
  relay.externals = std::move(externals);
  return network::runRelay(relay, [node_pid] { return network::enterNodeOf(node_pid); });
}

}  // namespace postern::cluster
