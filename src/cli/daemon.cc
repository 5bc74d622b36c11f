// Hidden commands: the cluster's own processes. A person never types them.
#include "cli/context.h"
#include "cluster/api_process.h"
#include "cluster/node_namespace.h"
#include "cluster/node_process.h"
#include "cluster/relay_process.h"
#include "cluster/supervisor.h"
#include "net/socket.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <memory>

namespace postern::cli {
namespace {

struct DaemonArguments {
  std::string data_dir;
  std::string listen = "127.0.0.1:6443";
  std::string kubeconfig;
  int listener_fd = -1;
  int ready_fd = -1;
  int report_fd = -1;
  int node_pid = -1;
  std::vector<std::string> externals;
};

base::ConfigResult<cluster::Externals> externalsFrom(const DaemonArguments& arguments) {
  cluster::Externals out;
  for (const std::string& text : arguments.externals) {
    POSTERN_TRY(auto external, network::External::parse(text));
    out.push_back(std::move(external));
  }
  return out;
}

int relayCommand(const Context& context, const DaemonArguments& arguments) {
  auto folder = cluster::DataFolder::at(arguments.data_dir);
  if (!folder) return context.fail(folder.error().message());
  auto externals = externalsFrom(arguments);
  if (!externals) return context.fail(externals.error().message());
  return cluster::runRelayProcess(*folder, std::move(*externals), arguments.node_pid);
}

int nodeCommand(const Context& context, const DaemonArguments& arguments) {
  auto folder = cluster::DataFolder::at(arguments.data_dir);
  if (!folder) return context.fail(folder.error().message());
  auto externals = externalsFrom(arguments);
  if (!externals) return context.fail(externals.error().message());
  return cluster::runNodeProcess(*folder, std::move(*externals), arguments.ready_fd);
}

int apiCommand(const Context& context, const DaemonArguments& arguments) {
  auto folder = cluster::DataFolder::at(arguments.data_dir);
  if (!folder) return context.fail(folder.error().message());
  cluster::ApiProcessOptions options;
  options.data_dir = folder->api();
  options.listener = base::Fd(arguments.listener_fd);
  options.kubeconfig = folder->adminKubeconfig();
  options.run_dir = folder->run();
  options.ready_fd = arguments.ready_fd;
  return cluster::runApiProcess(std::move(options));
}

/// The API server and controllers alone, in the foreground.
int apiServerCommand(const Context& context, const DaemonArguments& arguments) {
  auto address = net::Address::parse(arguments.listen);
  if (!address || !address->isLoopback())
    return context.fail("--listen: \"" + arguments.listen + "\" is no loopback IP:PORT");
  auto listener = net::listenSocket(*address);
  if (!listener)
    return context.fail("cannot listen on " + arguments.listen + ": " + listener.error().message());
  cluster::ApiProcessOptions options;
  options.data_dir = arguments.data_dir;
  options.listener = std::move(*listener);
  options.kubeconfig = context.kubeconfig;
  return cluster::runApiProcess(std::move(options));
}

int superviseCommand(const Context& context, const DaemonArguments& arguments) {
  auto folder = cluster::DataFolder::at(arguments.data_dir);
  if (!folder) return context.fail(folder.error().message());
  return cluster::runSupervisor(*folder, arguments.report_fd);
}

}  // namespace

void addDaemonCommands(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<DaemonArguments>();
  CLI::App* daemon = app.add_subcommand("daemon", "processes of the local cluster")->group("");
  daemon->require_subcommand(1);
  auto add = [&](const char* name, int (*command)(const Context&, const DaemonArguments&)) {
    CLI::App* out = daemon->add_subcommand(name);
    out->add_option("--data-dir", arguments->data_dir);
    out->add_option("--ready-fd", arguments->ready_fd);
    out->callback([&context, arguments, command] {
      context.action = [&context, arguments, command] { return command(context, *arguments); };
    });
    return out;
  };
  add("supervise", superviseCommand)->add_option("--report-fd", arguments->report_fd);
  add("api", apiCommand)->add_option("--listener-fd", arguments->listener_fd);
  CLI::App* relay = add("relay", relayCommand);
  relay->add_option("--external", arguments->externals);
  relay->add_option("--node-pid", arguments->node_pid);
  add("node", nodeCommand)->add_option("--external", arguments->externals);
  add("node-ns", [](const Context&, const DaemonArguments& given) {
    return cluster::runNodeHolder(given.ready_fd);
  });

  CLI::App* api = app.add_subcommand(
      "apiserver", "run the API server and its controllers alone, in the foreground");
  api->group("");
  api->add_option("--data-dir", arguments->data_dir, "folder of its state and keys")->required();
  api->add_option("--listen", arguments->listen, "loopback IP:PORT")->capture_default_str();
  api->callback([&context, arguments] {
    context.action = [&context, arguments] { return apiServerCommand(context, *arguments); };
  });
}

}  // namespace postern::cli
