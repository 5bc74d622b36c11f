// postern: the command line and the local cluster. Today it holds the cluster's API server in the
// foreground.
#include "apiserver/server.h"
#include "base/log.h"
#include "base/strings.h"
#include "controllers/manager.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>
#include <thread>

#include <signal.h>
#include <sys/stat.h>

namespace {

using namespace postern;

struct ApiServerArguments {
  std::string data_dir;
  std::string listen = "127.0.0.1:6443";
  std::string kubeconfig;
};

int fail(const std::string& text) {
  std::fprintf(stderr, "error: %s\n", text.c_str());
  return 1;
}

/// The admin's credential: for its owner only.
bool writeKubeconfig(const std::string& path, const std::string& text) {
  mode_t before = ::umask(0077);
  std::ofstream file(path, std::ios::trunc);
  file << text;
  file.close();
  ::umask(before);
  ::chmod(path.c_str(), 0600);
  return static_cast<bool>(file);
}

base::ConfigResult<kube::ClientConfig> adminClient(const apiserver::Server& server) {
  POSTERN_TRY(json::Json config, json::parseYaml(server.adminKubeconfig()));
  kube::ClientConfig out;
  const json::Json user = config["users"][0]["user"];
  out.server = config["clusters"][0]["cluster"]["server"].get<std::string>();
  out.ca_pem = server.caPem();
  out.client_certificate_pem =
      base::base64Decode(json::stringAt(user, "client-certificate-data")).value_or("");
  out.client_key_pem = base::base64Decode(json::stringAt(user, "client-key-data")).value_or("");
  out.user_agent = "postern-controllers";
  return out;
}

int runApiServer(const ApiServerArguments& arguments) {
  auto address = net::Address::parse(arguments.listen);
  if (!address || !address->isLoopback())
    return fail("--listen: \"" + arguments.listen + "\" is no loopback IP:PORT");
  auto listener = net::listenSocket(*address);
  if (!listener)
    return fail("cannot listen on " + arguments.listen + ": " + listener.error().message());
  event::Loop::blockSignals({SIGTERM, SIGINT});
  event::Loop loop;
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT}, [&loop](int) { loop.stop(); });
  apiserver::Options options;
  options.data_dir = arguments.data_dir;
  options.server_url = "https://" + net::localAddress(listener->get()).toString();
  options.listeners.push_back(std::move(*listener));
  auto server = apiserver::Server::start(loop, std::move(options));
  if (!server) return fail(server.error().message());
  if (!arguments.kubeconfig.empty() &&
      !writeKubeconfig(arguments.kubeconfig, (*server)->adminKubeconfig())) {
    return fail(arguments.kubeconfig + " cannot be written");
  }
  // The controllers speak to the API like anyone else: over its socket, on threads of their own.
  auto config = adminClient(**server);
  if (!config) return fail(config.error().message());
  auto client = kube::Client::make(std::move(*config));
  if (!client) return fail(client.error().message());
  controllers::Options controller_options;
  controller_options.root_ca_pem = (*server)->caPem();
  auto manager = controllers::Manager::start(**client, controller_options);
  loop.run();
  // They may wait for an answer while they stop: the loop goes on until they have.
  std::thread stopper([&] {
    manager.reset();
    client->reset();
    loop.stop();
  });
  loop.run();
  stopper.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Postern: a service mesh and the local cluster to try it on", "postern"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "postern " POSTERN_VERSION);
  ApiServerArguments arguments;
  CLI::App* api = app.add_subcommand(
      "apiserver", "run the local cluster's API server and controllers in the foreground");
  api->add_option("--data-dir", arguments.data_dir, "folder of its state and keys")->required();
  api->add_option("--listen", arguments.listen, "loopback IP:PORT")->capture_default_str();
  api->add_option("--kubeconfig", arguments.kubeconfig,
                  "write the admin's kubeconfig to this file");
  CLI11_PARSE(app, argc, argv);
  return runApiServer(arguments);
}
