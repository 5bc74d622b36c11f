// postern-control: the control plane's program. Options in, one Control object on one loop, until
// SIGTERM or SIGINT.
#include "base/log.h"
#include "control/control.h"

#include <CLI/CLI.hpp>

#include <cstdio>

#include <signal.h>

int main(int argc, char** argv) {
  using namespace postern;
  CLI::App app{"Postern's control plane: operator, discovery, admission webhooks",
               "postern-control"};
  std::string kubeconfig;
  std::string context;
  std::string log_level = "info";
  std::string webhook = "0.0.0.0:15017";
  std::string discovery = "0.0.0.0:15012";
  std::string local = "127.0.0.1:15010";
  std::string monitoring = "0.0.0.0:15014";
  control::Control::Options options;
  app.add_option("--kubeconfig", kubeconfig,
                 "kubeconfig file; without it and outside a pod $KUBECONFIG or ~/.kube/config");
  app.add_option("--context", context, "context of the kubeconfig (default: the current one)");
  app.add_option("--namespace", options.mesh_namespace, "namespace of the mesh")
      ->capture_default_str();
  app.add_option("--webhook-address", webhook, "IP:PORT of the admission webhooks (TLS)")
      ->capture_default_str();
  app.add_option("--discovery-address", discovery,
                 "IP:PORT of discovery for proxies (ADS; TLS, token)")
      ->capture_default_str();
  app.add_option("--local-discovery-address", local,
                 "loopback IP:PORT of discovery in cleartext, without credentials")
      ->capture_default_str();
  app.add_option("--monitoring-address", monitoring, "IP:PORT of /ready, /metrics and /debug")
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
  struct {
    const char* option;
    const std::string& text;
    net::Address& address;
  } const addresses[] = {{"--webhook-address", webhook, options.webhook_address},
                         {"--discovery-address", discovery, options.discovery_address},
                         {"--local-discovery-address", local, options.local_address},
                         {"--monitoring-address", monitoring, options.monitoring_address}};
  for (const auto& each : addresses) {
    auto address = net::Address::parse(each.text);
    if (!address || !address->isIp()) {
      std::fprintf(stderr, "error: %s: \"%s\" is no IP:PORT\n", each.option, each.text.c_str());
      return 2;
    }
    each.address = *address;
  }

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
