// demoapp install, load, uninstall.
#include "base/strings.h"
#include "cli/components.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <memory>

namespace postern::cli {
namespace {

using json::Json;

struct DemoArguments {
  std::string ns = kDemoNamespace;
  std::vector<std::string> services;
  bool dump = false;
  int rps = 10;
  int duration = 30;
};

struct Session {
  std::unique_ptr<kube::Client> client;
  std::unique_ptr<Installer> installer;
};

base::ConfigResult<Session> open(const Context& context) {
  Session out;
  POSTERN_TRY(out.client, connect(context));
  out.installer = std::make_unique<Installer>(*out.client, context.terminal);
  POSTERN_TRY_VOID(out.installer->requireLocalCluster());
  return out;
}

int installDemo(const Context& context, const DemoArguments& arguments) {
  auto objects = demoObjects(arguments.ns, arguments.services);
  if (!objects) return context.fail(objects.error().message());
  if (arguments.dump) {
    fmt::print("{}", dumpObjects(*objects));
    return kExitOk;
  }
  auto session = open(context);
  if (!session) return context.fail(session.error().message());
  auto mesh = session->client->get(kube::types::kIstio, "istio-system", "mesh");
  if (!mesh) return context.fail("there is no mesh yet; run `postern install` first");
  auto done = installDemo(*session->installer, arguments.ns, *objects);
  if (!done) return context.fail(done.error().message());
  return kExitOk;
}

int uninstallDemo(const Context& context, const DemoArguments& arguments) {
  auto session = open(context);
  if (!session) return context.fail(session.error().message());
  auto done = uninstallDemo(*session->installer, arguments.ns);
  if (!done) return context.fail(done.error().message());
  if (*done) {
    context.terminal.done("demo application", "removed");
  } else {
    context.terminal.note("There is no demo application.");
  }
  return kExitOk;
}

/// The generator's report ("200       300") as JSON, beside the text.
Json parseReport(const std::string& text) {
  Json codes = Json::object();
  for (const auto line : base::split(text, '\n')) {
    if (line.size() < 5 || line[3] != ' ') continue;
    const auto status = base::parseInteger<int>(line.substr(0, 3));
    const auto count = base::parseInteger<long long>(base::trim(line.substr(3)));
    if (status && count) codes[std::to_string(*status)] = *count;
  }
  return codes;
}

int loadCommand(const Context& context, const DemoArguments& arguments) {
  auto session = open(context);
  if (!session) return context.fail(session.error().message());
  kube::Client& client = *session->client;
  auto started = startLoad(*session->installer, arguments.ns, arguments.rps, arguments.duration);
  if (!started) return context.fail(started.error().message());
  bool succeeded = false;
  auto ended = session->installer->await(
      "load",
      [&](std::string& detail) {
        detail = fmt::format("{} requests/s for {} s", arguments.rps, arguments.duration);
        auto job = client.get(kube::types::kJob, arguments.ns, "load");
        if (!job) return false;
        succeeded = json::integerAt(*job, "status.succeeded") > 0;
        return succeeded || json::integerAt(*job, "status.failed") > 0;
      },
      std::chrono::seconds(arguments.duration) + kComponentPatience);
  if (!ended) return context.fail(ended.error().message());
  auto pods = client.list(kube::types::kPod, arguments.ns, {.label_selector = "app=load"});
  if (!pods || (*pods)["items"].empty()) return context.fail("the load's pod is gone");
  const std::string pod = json::stringAt((*pods)["items"][0], "metadata.name");
  auto text = client.raw(
      "GET", fmt::format("/api/v1/namespaces/{}/pods/{}/log?container=load", arguments.ns, pod));
  if (!text) return context.fail("the load's report: " + text.error().message);
  const std::string report = text->is_string() ? text->get<std::string>() : json::dump(*text);
  if (context.structured()) {
    context.print({{"succeeded", succeeded}, {"responses", parseReport(report)}});
  } else {
    fmt::print("{}", report);
  }
  return succeeded ? kExitOk : kExitFailed;
}

}  // namespace

void addDemoCommands(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<DemoArguments>();
  CLI::App* demo = app.add_subcommand("demoapp", "the demo application: install, load, uninstall");
  demo->require_subcommand(1);
  auto add = [&](const char* name, const char* text,
                 int (*command)(const Context&, const DemoArguments&)) {
    CLI::App* out = demo->add_subcommand(name, text);
    out->add_option("--demo-namespace", arguments->ns, "its namespace")->capture_default_str();
    out->callback([&context, arguments, command] {
      context.action = [&context, arguments, command] { return command(context, *arguments); };
    });
    return out;
  };
  CLI::App* install = add("install", "install it into the mesh", installDemo);
  install->add_option("-s,--enabled-services", arguments->services, "only these services")
      ->delimiter(',');
  install->add_flag("-d,--dump-resources", arguments->dump, "print the resources, apply nothing");
  install->footer(
      "Examples:\n  postern demoapp install\n  postern demoapp install -s frontpage,catalog");
  CLI::App* load = add("load", "send requests to its front page, inside the cluster", loadCommand);
  load->add_option("--rps", arguments->rps, "requests per second")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  load->add_option("--duration", arguments->duration, "seconds")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  load->footer("Examples:\n  postern demoapp load\n  postern demoapp load --rps 100 --duration 10");
  add("uninstall", "remove it with its namespace", uninstallDemo)
      ->footer(
          "Examples:\n  postern demoapp uninstall\n  postern demoapp uninstall --non-interactive");
}

}  // namespace postern::cli
