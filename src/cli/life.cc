// up, down, status: the local cluster.
#include "base/strings.h"
#include "cli/context.h"
#include "cli/mesh_status.h"
#include "cluster/lifecycle.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>

namespace postern::cli {
namespace {

using json::Json;

struct UpArguments {
  int api_port = -1;
  std::vector<std::string> externals;
  std::string image_map;
  bool image_map_given = false;
};

/// How the parts are called when a person reads of them.
std::string partName(const std::string& process) {
  if (process == "api") return "API server, controllers";
  if (process == "node-ns") return "node namespaces";
  if (process == "node") return "node agent";
  if (process == "relay") return "relay to the host";
  constexpr std::string_view kStandIn = "standin-";
  if (process.starts_with(kStandIn)) return "stand-in " + process.substr(kStandIn.size());
  return process;
}

base::ConfigResult<cluster::UpRequest> requestFrom(const UpArguments& arguments,
                                                   const Context& context) {
  cluster::UpRequest request;
  request.kubeconfig = context.kubeconfig;
  if (arguments.api_port >= 0) {
    request.api_port = static_cast<std::uint16_t>(arguments.api_port);
  }
  if (!arguments.externals.empty()) {
    std::vector<cluster::External> externals;
    for (const std::string& text : arguments.externals) {
      if (text == "none") continue;  // forget those of the last time
      POSTERN_TRY(cluster::External external, cluster::External::parse(text));
      for (const cluster::External& other : externals) {
        if (other.host == external.host && other.port == external.port)
          return base::failConfig("--external " + text, "that name and port are given twice");
      }
      externals.push_back(std::move(external));
    }
    request.externals = std::move(externals);
  }
  if (arguments.image_map_given) {
    request.image_map =
        arguments.image_map.empty() ? "" : std::filesystem::absolute(arguments.image_map).string();
    if (!request.image_map->empty() && !std::filesystem::exists(*request.image_map)) {
      return base::failConfig("--image-map", *request.image_map + " does not exist");
    }
  }
  return request;
}

/// The cluster's status with the mesh's, if the API answers.
Json fullStatus(const cluster::DataFolder& folder) {
  Json out = cluster::status(folder);
  if (json::stringAt(out, "state") != "stopped") addMeshStatus(folder, out);
  return out;
}

void printList(const Json& status, const char* key, const char* title) {
  const Json* list = json::find(status, key);
  if (list == nullptr || !list->is_array()) return;
  for (const Json& each : *list) {
    fmt::print("{:<14} {}\n", title, each.is_string() ? each.get<std::string>() : json::dump(each));
  }
}

void printTable(const Context& context, const Json& status) {
  const std::string state = json::stringAt(status, "state");
  const Tone tone = state == "running"   ? Tone::kGood
                    : state == "stopped" ? Tone::kDim
                                         : Tone::kWarning;
  fmt::print("{:<14} {}\n", "cluster", context.terminal.paint(tone, state, true));
  fmt::print("{:<14} {}\n", "data", json::stringAt(status, "dataDir"));
  if (state == "stopped") return;
  fmt::print("{:<14} {} ({})\n", "API server", json::stringAt(status, "apiServer"),
             json::stringAt(status, "mode"));
  fmt::print("{:<14} {} in {}\n", "context", json::stringAt(status, "context"),
             json::stringAt(status, "kubeconfig"));
  fmt::print("{:<14} pods {}, services {}, load balancers {}\n", "addresses",
             json::stringAt(status, "addresses.pods"), json::stringAt(status, "addresses.services"),
             json::stringAt(status, "addresses.loadBalancers"));
  printList(status, "external", "external");
  printMeshStatus(status);
  fmt::print("\n{:<26} {:<12} {:>8} {:>9}\n", "PROCESS", "STATE", "PID", "RESTARTS");
  for (const Json& each : status["processes"]) {
    fmt::print("{:<26} {:<12} {:>8} {:>9}\n", json::stringAt(each, "name"),
               json::stringAt(each, "state"), json::integerAt(each, "pid"),
               json::integerAt(each, "restarts"));
  }
}

int upCommand(const Context& context, const UpArguments& arguments) {
  auto folder = cluster::DataFolder::at(context.data_dir);
  if (!folder) return context.fail(folder.error().message());
  auto request = requestFrom(arguments, context);
  if (!request) return context.fail(request.error().message());
  const Terminal& terminal = context.terminal;
  terminal.detail("data folder " + folder->root);
  auto result = cluster::up(*folder, *request,
                            [&](const std::string& part) { terminal.done(partName(part)); });
  if (!result) return context.fail(result.error().message());
  for (const std::string& option : result->ignored) {
    terminal.warning(option +
                     " differs from the running cluster's and was not taken; run "
                     "`postern down` first");
  }
  const Json status = fullStatus(*folder);
  if (context.structured()) {
    context.print(status);
  } else if (result->outcome == cluster::UpOutcome::kAlreadyRunning) {
    printTable(context, status);
  } else {
    terminal.note(fmt::format("{} at {}; kubectl context \"{}\" in {}",
                              result->outcome == cluster::UpOutcome::kTookOver
                                  ? "The cluster that still ran was taken over"
                                  : "The cluster runs",
                              result->server, "postern", result->kubeconfig));
    terminal.note("Next: postern install -a --run-demo");
  }
  return kExitOk;
}

int downCommand(const Context& context, bool purge) {
  auto folder = cluster::DataFolder::at(context.data_dir);
  if (!folder) return context.fail(folder.error().message());
  if (purge && !context.terminal.confirm("Remove all data in " + folder->root + "?", true)) {
    return kExitFailed;
  }
  auto result =
      cluster::down(*folder, purge ? cluster::Purge::kRemoveData : cluster::Purge::kKeepData);
  if (!result) return context.fail(result.error().message());
  if (context.structured()) {
    context.print({{"wasRunning", result->was_running}, {"dataRemoved", result->data_removed}});
    return kExitOk;
  }
  context.terminal.note(result->was_running ? "The cluster is stopped."
                                            : "No cluster was running.");
  context.terminal.note(result->data_removed ? "Its data is removed."
                                             : "Its data stays in " + folder->root + ".");
  return kExitOk;
}

int statusCommand(const Context& context) {
  auto folder = cluster::DataFolder::at(context.data_dir);
  if (!folder) return context.fail(folder.error().message());
  const Json status = fullStatus(*folder);
  if (context.structured()) {
    context.print(status);
  } else {
    printTable(context, status);
  }
  return json::stringAt(status, "state") == "running" ? kExitOk : kExitNotRunning;
}

}  // namespace

void addLifeCommands(CLI::App& app, Context& context) {
  auto data_dir = [&context](CLI::App* command) {
    command->add_option("--data-dir", context.data_dir,
                        "folder of the cluster (default: ~/.local/share/postern)");
  };
  auto arguments = std::make_shared<UpArguments>();
  CLI::App* up = app.add_subcommand("up", "start the local cluster, or show it if it runs");
  data_dir(up);
  up->add_option("--api-port", arguments->api_port, "port of the API server on 127.0.0.1 (6443)")
      ->check(CLI::Range(0, 65535));
  up->add_option("--external", arguments->externals,
                 "HOST:PORT=ADDRESS:PORT: a local server stands for a public name; demo:httpbin "
                 "instead of an address starts one; \"none\" forgets earlier ones; repeatable");
  CLI::Option* image_map =
      up->add_option("--image-map", arguments->image_map, "YAML file: programs for image names");
  up->footer(
      "Options are remembered in the data folder for the next `up`.\n"
      "Examples:\n"
      "  postern up\n"
      "  postern up --external httpbin.org:80=127.0.0.1:8080 --kubeconfig ./kubeconfig");
  up->callback([&context, arguments, image_map] {
    arguments->image_map_given = image_map->count() > 0;
    context.action = [&context, arguments] { return upCommand(context, *arguments); };
  });

  auto purge = std::make_shared<bool>(false);
  CLI::App* down = app.add_subcommand("down", "stop the local cluster; its data stays");
  data_dir(down);
  down->add_flag("--purge", *purge, "remove its data too");
  down->footer("Examples:\n  postern down\n  postern down --purge");
  down->callback([&context, purge] {
    context.action = [&context, purge] { return downCommand(context, *purge); };
  });

  CLI::App* status = app.add_subcommand("status", "show the cluster and the mesh");
  data_dir(status);
  status->footer(
      "Exit status 3: the cluster does not run, or not all of it.\n"
      "Examples:\n  postern status\n  postern status -o json");
  status->callback([&context] { context.action = [&context] { return statusCommand(context); }; });
}

}  // namespace postern::cli
