// postern-proxy: an Envoy-xDS data plane. With a first word of the agent's (sidecar, gateway,
// capture) it is the agent of a pod; otherwise the plain proxy, which takes Envoy's flags.
#include "agent/agent.h"
#include "api/message.h"
#include "base/log.h"
#include "base/strings.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "event/loop.h"
#include "json/json.h"
#include "proxy/options.h"
#include "proxy/server.h"

#include <nlohmann/json.hpp>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <malloc.h>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace postern;
using envoy::config::bootstrap::v3::Bootstrap;

int fail(const base::ConfigError& error) {
  std::fprintf(stderr, "postern-proxy: %s\n", error.message().c_str());
  return 1;
}

base::ConfigResult<void> applyLogLevels(const proxy::Options& options) {
  base::LogLevel level{};
  if (base::parseLogLevel(options.log_level, level)) base::setLogLevel(level);
  if (options.component_log_level.empty()) return {};
  for (const std::string_view pair : base::split(options.component_log_level, ',')) {
    const std::size_t colon = pair.find(':');
    if (colon == std::string_view::npos || !base::parseLogLevel(pair.substr(colon + 1), level))
      return base::failConfig("--component-log-level", "must be NAME:LEVEL,...");
    // Envoy's components that do not exist here have no lines to show.
    (void)base::setLogLevel(pair.substr(0, colon), level);
  }
  return {};
}

base::ConfigResult<Bootstrap> parse(std::string_view text, const proxy::Options& options) {
  POSTERN_TRY(const json::Json value, json::parseYaml(text));
  Bootstrap out;
  const auto unknown = options.allow_unknown_static_fields ? api::UnknownFields::kIgnored
                                                           : api::UnknownFields::kRefused;
  POSTERN_TRY_VOID(api::fromJson(value, out, unknown));
  return out;
}

base::ConfigResult<std::shared_ptr<const Bootstrap>> readBootstrap(const proxy::Options& options) {
  auto out = std::make_shared<Bootstrap>();
  if (!options.config_path.empty()) {
    std::ifstream in(options.config_path);
    if (!in) return base::failConfig(options.config_path, "cannot be read");
    std::stringstream all;
    all << in.rdbuf();
    POSTERN_TRY(*out, parse(all.str(), options));
  }
  if (!options.config_yaml.empty()) {
    POSTERN_TRY(const Bootstrap over, parse(options.config_yaml, options));
    out->MergeFrom(over);
  }
  return std::shared_ptr<const Bootstrap>(std::move(out));
}

base::ConfigResult<void> writeAdminAddress(const proxy::Server& server, const std::string& path) {
  if (path.empty() || server.adminAddress() == nullptr) return {};
  std::ofstream out(path);
  out << server.adminAddress()->toString();
  if (!out.flush()) return base::failConfig(path, "cannot be written");
  return {};
}

int run(const proxy::Options& options) {
  event::Loop::blockSignals({SIGTERM, SIGINT, SIGHUP, SIGUSR1});
  auto bootstrap = readBootstrap(options);
  if (!bootstrap) return fail(bootstrap.error());
  event::Loop loop;
  if (options.mode == proxy::Options::Mode::kValidate) {
    if (auto valid = proxy::Server::validate(loop, **bootstrap); !valid) return fail(valid.error());
    const std::string& from = options.config_path.empty() ? "--config-yaml" : options.config_path;
    std::printf("configuration '%s' OK\n", from.c_str());
    return 0;
  }
  auto server = proxy::Server::make(loop, std::move(*bootstrap), options);
  if (!server) return fail(server.error());
  if (auto written = writeAdminAddress(**server, options.admin_address_path); !written)
    return fail(written.error());
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT, SIGUSR1}, [&](int signal) {
    signal == SIGUSR1 ? (*server)->reopenLogs() : (*server)->shutDown();
  });
  // Reading the configuration took memory that serving does not need: 2.5 MB for 1,000 routes.
  loop.post([] { ::malloc_trim(0); });
  loop.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  if (!words.empty() && agent::isAgentCommand(words[0])) return agent::run(words);
  auto options = proxy::parseOptions(words);
  if (!options) return fail(options.error());
  options->version = "postern-proxy/" POSTERN_VERSION;
  switch (options->action) {
    case proxy::Options::Action::kHelp:
      std::fputs(proxy::optionsHelp().c_str(), stdout);
      return 0;
    case proxy::Options::Action::kVersion:
      std::printf("postern-proxy version: %s\n", POSTERN_VERSION);
      return 0;
    case proxy::Options::Action::kRun:
      break;
  }
  if (auto levels = applyLogLevels(*options); !levels) return fail(levels.error());
  return run(*options);
}
