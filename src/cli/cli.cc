#include "cli/cli.h"

#include "base/log.h"
#include "cli/context.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace postern::cli {

void Context::print(const json::Json& value) const {
  const std::string text =
      output == "yaml" ? json::dumpYaml(value) : json::dumpPretty(value, 2) + "\n";
  fmt::print("{}{}", text, text.ends_with('\n') ? "" : "\n");
}

int Context::fail(const std::string& text) const {
  terminal.error(text);
  return kExitFailed;
}

namespace {

struct GlobalFlags {
  bool verbose = false;
  bool colour = true;
  bool force_colour = false;
  bool interactive = false;
  bool non_interactive = false;
  bool version = false;
};

void addGlobalFlags(CLI::App& app, Context& context, GlobalFlags& flags) {
  app.add_option("-c,--kubeconfig", context.kubeconfig,
                 "kubeconfig file (default: $KUBECONFIG or ~/.kube/config)");
  app.add_option("--context", context.kube_context, "context of the kubeconfig");
  app.add_option("-o,--output", context.output, "table, json or yaml")
      ->check(CLI::IsMember({"table", "json", "yaml"}))
      ->capture_default_str();
  app.add_flag("-v,--verbose", flags.verbose, "say what is done");
  app.add_flag("--color,!--no-color", flags.colour, "colours, where there is a terminal");
  app.add_flag("--formatting.force-color", flags.force_colour, "colours everywhere");
  app.add_flag("--interactive", flags.interactive, "ask, even without a terminal");
  app.add_flag("--non-interactive", flags.non_interactive, "never ask: take the defaults");
  app.add_flag("--version", flags.version, "print the version");
}

int versionCommand(const Context& context) {
  if (context.structured()) {
    context.print({{"version", POSTERN_VERSION}});
  } else {
    fmt::print("postern {}\n", POSTERN_VERSION);
  }
  return kExitOk;
}

}  // namespace

int run(int argc, char** argv) {
  CLI::App app{"Postern: a service mesh, and a local cluster to run it on", "postern"};
  app.fallthrough();
  app.require_subcommand(0, 1);
  app.footer(
      "Examples:\n"
      "  postern up                         start the local cluster\n"
      "  postern install -a --run-demo      install the mesh and the demo application\n"
      "  postern status                     see what runs\n"
      "  postern down                       stop everything, keep the data");
  Context context;
  GlobalFlags flags;
  addGlobalFlags(app, context, flags);
  addLifeCommands(app, context);
  addInstallCommands(app, context);
  addDemoCommands(app, context);
  app.add_subcommand("version", "print the version")->callback([&context] {
    context.action = [&context] { return versionCommand(context); };
  });
  addCompletionCommand(app, context);
  addDaemonCommands(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    context.terminal.error(error.what());
    fmt::print(stderr, "See `postern --help`.\n");
    return kExitUsage;
  }
  context.terminal.setColour(flags.force_colour ? Colour::kAlways
                             : flags.colour     ? Colour::kAuto
                                                : Colour::kNever);
  context.terminal.setVerbose(flags.verbose);
  context.terminal.setInteractive(!flags.non_interactive &&
                                  (flags.interactive || Terminal::bothAreTerminals()));
  if (flags.version) return versionCommand(context);
  if (!context.action) {
    fmt::print("{}", app.help());
    return argc > 1 ? kExitUsage : kExitOk;
  }
  return context.action();
}

}  // namespace postern::cli
