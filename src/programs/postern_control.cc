// postern-control: the control plane's program. Options in, one Control object on one loop, until
// SIGTERM or SIGINT.
#include "base/log.h"
#include "control/control.h"

#include <CLI/CLI.hpp>

#include <cstdio>

#include <signal.h>

int main(int argc, char** argv) {
  using namespace postern;
  CLI::App app{"Postern's control plane: operator, admission webhooks, validation",
               "postern-control"};
  std::string kubeconfig;
  std::string context;
  std::string log_level = "info";
  std::string webhook = "0.0.0.0:15017";
  control::Control::Options options;
  app.add_option("--kubeconfig", kubeconfig,
                 "kubeconfig file; without it and outside a pod $KUBECONFIG or ~/.kube/config");
  app.add_option("--context", context, "context of the kubeconfig (default: the current one)");
  app.add_option("--namespace", options.mesh_namespace, "namespace of the mesh")
      ->capture_default_str();
  app.add_option("--webhook-address", webhook, "IP:PORT of the admission webhooks (TLS)")
      ->capture_default_str();
  app.add_option("--log-level", log_level, "trace, debug, info, warning, error, critical or off")
      ->capture_default_str();
  app.set_version_flag("--version", "postern-control " POSTERN_VERSION);
  CLI11_PARSE(app, argc, argv);

  base::LogLevel level{};
  if (!base::parseLogLevel(log_level, level)) {
    std::fprintf(stderr, "error: --log-level: unknown level \"%s\"\n", log_level.c_str());
    return 2;
  }
  base::setLogLevel(level);
  auto address = net::Address::parse(webhook);
  if (!address) {
    std::fprintf(stderr, "error: --webhook-address: \"%s\" is no IP:PORT\n", webhook.c_str());
    return 2;
  }
  options.webhook_address = *address;

  event::Loop::blockSignals({SIGTERM, SIGINT});
  const bool in_cluster =
      kubeconfig.empty() && context.empty() && std::getenv("KUBERNETES_SERVICE_HOST") != nullptr;
  auto config = in_cluster ? kube::ClientConfig::inCluster()
                           : kube::ClientConfig::fromKubeconfig(kubeconfig, context);
  if (!config) {
    std::fprintf(stderr, "error: %s\n", config.error().message().c_str());
    return 1;
  }
  options.kubernetes = std::move(*config);

  event::Loop loop;
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT}, [&loop](int) { loop.stop(); });
  auto control = control::Control::start(loop, std::move(options));
  if (!control) {
    std::fprintf(stderr, "error: %s\n", control.error().message().c_str());
    return 1;
  }
  loop.run();
  control->reset();
  return 0;
}
