// postern-proxy: an Envoy-xDS data plane. With a first word of the agent's (sidecar, gateway,
// capture) it is the agent of a pod; otherwise the plain proxy, which takes Envoy's flags.
#include "agent/agent.h"
#include "base/log.h"
#include "event/loop.h"
#include "proxy/bootstrap_file.h"
#include "proxy/options.h"
#include "proxy/server.h"

#include <csignal>
#include <cstdio>
#include <fstream>
#include <malloc.h>
#include <string>
#include <string_view>
#include <vector>

#include <sys/prctl.h>

namespace {

using namespace postern;

int fail(const base::ConfigError& error) {
  std::fprintf(stderr, "postern-proxy: %s\n", error.message().c_str());
  return 1;
}

base::ConfigResult<void> applyLogging(const proxy::Options& options) {
  base::LogLevel level{};
  if (base::parseLogLevel(options.log_level, level)) base::setLogLevel(level);
  for (const auto& [name, of_component] : options.component_log_levels)
    (void)base::setLogLevel(name, of_component);
  (void)base::setLogFormat(options.log_format);
  base::setLogEscaped(options.log_format_escaped);
  if (!options.log_path.empty() && !base::setLogFile(options.log_path))
    return base::failConfig("--log-path", options.log_path + " cannot be opened");
  return {};
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
  auto bootstrap = proxy::readBootstrapFile(options);
  if (!bootstrap) return fail(bootstrap.error());
  event::Loop loop;
  if (options.mode == proxy::Options::Mode::kValidate) {
    auto valid = proxy::Server::validate(loop, *bootstrap->message, options);
    if (!valid) return fail(valid.error());
    const std::string& from = options.config_path.empty() ? "--config-yaml" : options.config_path;
    std::printf("configuration '%s' OK\n", from.c_str());
    return 0;
  }
  if (options.enable_core_dump) (void)::prctl(PR_SET_DUMPABLE, 1);
  auto server = proxy::Server::make(loop, std::move(*bootstrap), options);
  if (!server) return fail(server.error());
  if (auto written = writeAdminAddress(**server, options.admin_address_path); !written)
    return fail(written.error());
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT, SIGUSR1}, [&](int signal) {
    if (signal != SIGUSR1) return (*server)->shutDown();
    (void)base::setLogFile("");
    (*server)->reopenLogs();
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
    case proxy::Options::Action::kRestartVersion:
      std::puts(proxy::kHotRestartVersion.data());
      return 0;
    case proxy::Options::Action::kRun:
      break;
  }
  if (auto levels = applyLogging(*options); !levels) return fail(levels.error());
  return run(*options);
}
