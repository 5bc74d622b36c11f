#include "cluster/api_process.h"

#include "apiserver/server.h"
#include "base/log.h"
#include "base/strings.h"
#include "cluster/files.h"
#include "controllers/manager.h"
#include "net/socket.h"
#include "network/network.h"
#include "network/socket_provider.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <thread>

#include <unistd.h>

namespace postern::cluster {
namespace {

using json::Json;

/// Every LoadBalancer Service gets its addresses from here, as root and as an ordinary user.
constexpr const char* kLoadBalancerPool = "127.77.0.0/24";

base::LogComponent& apiLog() {
  static base::LogComponent component("cluster");
  return component;
}

int failApi(int ready_fd, const std::string& text) {
  apiLog().error("{}", text);
  if (ready_fd >= 0) {
    const std::string line = "error " + text + "\n";
    [[maybe_unused]] ssize_t n = ::write(ready_fd, line.data(), line.size());
  }
  return 1;
}

base::ConfigResult<kube::ClientConfig> adminClient(const apiserver::Server& server) {
  POSTERN_TRY(Json config, json::parseYaml(server.adminKubeconfig()));
  kube::ClientConfig out;
  const Json user = config["users"][0]["user"];
  out.server = config["clusters"][0]["cluster"]["server"].get<std::string>();
  out.ca_pem = server.caPem();
  out.client_certificate_pem =
      base::base64Decode(json::stringAt(user, "client-certificate-data")).value_or("");
  out.client_key_pem = base::base64Decode(json::stringAt(user, "client-key-data")).value_or("");
  out.user_agent = "postern-controllers";
  return out;
}

/// The pod subresources go to the node agent's socket.
class NodeSocket final : public apiserver::NodeConnector {
 public:
  NodeSocket(event::Loop& loop, std::string path) : loop_(loop), path_(std::move(path)) {}
  void connect(
      base::Function<void(base::Result<std::unique_ptr<net::Transport>>)> callback) override {
    callback(net::connectTransport(loop_, net::Address::unixPath(path_)));
  }

 private:
  event::Loop& loop_;
  std::string path_;
};

/// What makes this API server a postern cluster: the mark that `postern install` looks for, and,
/// the first time only, the label that the article takes for granted on `default`.
void markCluster(kube::Client& client) {
  const Json mark = {{"metadata", {{"name", "postern-cluster"}, {"namespace", "kube-system"}}},
                     {"data", {{"version", POSTERN_VERSION}}}};
  auto present = client.get(kube::types::kConfigMap, "kube-system", "postern-cluster");
  if (!present && present.error().notFound()) {
    const Json label = {{"metadata", {{"labels", {{"istio-injection", "enabled"}}}}}};
    auto labelled =
        client.patch(kube::types::kNamespace, "", "default", kube::PatchType::kMerge, label);
    if (!labelled) apiLog().error("namespace default: {}", labelled.error().message);
  } else if (present && json::stringAt(*present, "data.version") == POSTERN_VERSION) {
    return;
  }
  auto applied = client.apply(kube::types::kConfigMap, mark, {.force = true});
  if (!applied) apiLog().error("ConfigMap postern-cluster: {}", applied.error().message);
}

}  // namespace

int runApiProcess(ApiProcessOptions options) {
  event::Loop::blockSignals({SIGTERM, SIGINT});
  event::Loop loop;
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT}, [&loop](int) { loop.stop(); });
  apiserver::Options server_options;
  server_options.data_dir = options.data_dir;
  const net::Address address = net::localAddress(options.listener.get());
  server_options.server_url = "https://" + address.toString();
  server_options.listeners.push_back(std::move(options.listener));
  const bool whole_cluster = !options.run_dir.empty();
  NodeSocket node(loop, options.run_dir + "/node.sock");
  if (whole_cluster) {
    server_options.node = &node;
    server_options.connect =
        network::socketConnectHook(loop, options.run_dir + "/" + network::kClusterSocketsFile);
  }
  auto server = apiserver::Server::start(loop, std::move(server_options));
  if (!server) return failApi(options.ready_fd, server.error().message());
  if (!options.kubeconfig.empty()) {
    auto written = writeFile(options.kubeconfig, (*server)->adminKubeconfig());
    if (!written) return failApi(options.ready_fd, written.error().message());
  }
  // The controllers speak to the API like anyone else: over its socket, on threads of their own.
  auto config = adminClient(**server);
  if (!config) return failApi(options.ready_fd, config.error().message());
  auto client = kube::Client::make(std::move(*config));
  if (!client) return failApi(options.ready_fd, client.error().message());
  controllers::Options controller_options;
  controller_options.root_ca_pem = (*server)->caPem();
  if (whole_cluster) {
    controller_options.load_balancer_pool = kLoadBalancerPool;
    // Pods and their proxies reach the API server at its service address, through the relay; so
    // that is also the endpoint a proxy may dial.
    controller_options.api_address = network::kApiServiceAddress;
    controller_options.api_port = 443;
  }
  auto manager = controllers::Manager::start(**client, controller_options);
  std::thread marker;
  if (whole_cluster) {
    // "ready" is said when the API has answered: the socket alone accepts much earlier.
    marker = std::thread([&client, ready_fd = options.ready_fd] {
      markCluster(**client);
      [[maybe_unused]] ssize_t n = ::write(ready_fd, "ready\n", 6);
      ::close(ready_fd);
    });
  }
  loop.run();
  // They may wait for an answer while they stop: the loop goes on until they have.
  std::thread stopper([&] {
    if (marker.joinable()) marker.join();
    manager.reset();
    client->reset();
    loop.stop();
  });
  loop.run();
  stopper.join();
  return 0;
}

}  // namespace postern::cluster
