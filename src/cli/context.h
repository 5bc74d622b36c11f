// What every command gets: the global options, the terminal, and the place where parsing puts the
// command that was chosen. Internal to cli/.
#pragma once

#include "cli/cli.h"
#include "cli/terminal.h"
#include "cluster/data_folder.h"
#include "json/json.h"

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace postern::cli {

struct Context {
  std::string kubeconfig;
  std::string kube_context;
  std::string output = "table";
  std::string data_dir;
  Terminal terminal;
  std::function<int()> action;

  bool structured() const { return output != "table"; }
  /// Prints a value as --output asks; only for json and yaml.
  void print(const json::Json& value) const;
  /// The error as the person sees it; kExitFailed.
  int fail(const std::string& text) const;
};

/// Each adds its commands to the application.
void addLifeCommands(CLI::App& app, Context& context);
void addInstallCommands(CLI::App& app, Context& context);
void addDemoCommands(CLI::App& app, Context& context);
void addCompletionCommand(CLI::App& app, Context& context);
void addDaemonCommands(CLI::App& app, Context& context);

}  // namespace postern::cli
