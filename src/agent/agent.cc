#include "agent/agent.h"

#include "agent/bootstrap.h"
#include "agent/capture.h"
#include "agent/environment.h"
#include "agent/proxy_process.h"
#include "agent/status_server.h"
#include "agent/xds_relay.h"
#include "base/log.h"
#include "base/strings.h"
#include "http/client.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

extern char** environ;

namespace postern::agent {
namespace {

base::LogComponent kAgentLog("agent");

constexpr std::chrono::milliseconds kDrainPoll{100};
constexpr std::chrono::seconds kProxyGrace{2};
constexpr int kProxyDrainSeconds = 45;

std::string ownProgram() {
  char path[4096];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof(path) - 1);
  return size > 0 ? std::string(path, static_cast<std::size_t>(size)) : "postern-proxy";
}

std::vector<std::string> proxyArguments(const AgentOptions& options, const std::string& bootstrap) {
  std::vector<std::string> out = {
      options.proxy_program.empty() ? ownProgram() : options.proxy_program,
      "-c",
      bootstrap,
      "--drain-time-s",
      std::to_string(kProxyDrainSeconds),
      "--drain-strategy",
      "immediate",
      "--local-address-ip-version",
      "v4",
      "--file-flush-interval-msec",
      "100",
      "--disable-hot-restart",
      "--concurrency",
      std::to_string(options.concurrency),
      "-l",
      options.proxy_log_level};
  // Envoy, which may be run instead, does not know this flag.
  if (options.proxy_program.empty()) {
    // The folder of the pod's volume itself: a folder of the proxy's own in it could not be removed
    // by an ordinary user whose cluster this is.
    out.push_back("--saved-config-path");
    out.push_back(options.paths.config_dir);
  }
  if (!options.proxy_component_log_level.empty()) {
    out.push_back("--component-log-level");
    out.push_back(options.proxy_component_log_level);
  }
  return out;
}

/// Writes the bootstrap beside its place and moves it there, so that no reader sees half of it.
base::ConfigResult<std::string> writeBootstrap(const AgentOptions& options) {
  const std::string path = options.paths.config_dir + "/envoy-rev.json";
  const std::string temporary = path + ".new";
  std::ofstream file(temporary, std::ios::trunc);
  file << json::dumpPretty(makeBootstrap(options)) << '\n';
  file.close();
  if (!file || ::rename(temporary.c_str(), path.c_str()) != 0)
    return base::failConfig(path, std::string("cannot be written: ") + std::strerror(errno));
  return path;
}

class Agent {
 public:
  Agent(event::Loop& loop, const AgentOptions& options)
      : loop_(loop), options_(options), poll_(loop, [this] { askActive(); }) {}

  base::ConfigResult<void> start() {
    POSTERN_TRY(std::string bootstrap, writeBootstrap(options_));
    resolver_ = net::makeResolver(loop_);
    POSTERN_TRY(xds_, XdsRelay::start(loop_, *resolver_, options_));
    auto proxy = ProxyProcess::start(loop_, proxyArguments(options_, bootstrap));
    if (!proxy) return base::failConfig("proxy", proxy.error().message());
    proxy_ = std::move(*proxy);
    POSTERN_TRY(status_, StatusServer::start(loop_, options_, *proxy_, [this] { drain(); }));
    kAgentLog.info("{} runs, configuration from {}:{}", options_.nodeId(), options_.discovery_host,
                   options_.discovery_port);
    return {};
  }

  /// First call: stop being ready, let the proxy finish what it has, end. Second: end now.
  void drain() {
    if (draining_) return stopProxy();
    draining_ = true;
    status_->drain();
    drain_until_ = loop_.now() + options_.drain_max;
    drain_at_least_ = loop_.now() + options_.drain_min;
    http::Client::Options client;
    client.address = net::Address::loopback(options_.admin_port);
    client.host = "localhost";
    admin_ = http::Client::make(loop_, std::move(client));
    http::ClientRequest request;
    request.method = "POST";
    request.path = "/drain_listeners?graceful&skip_exit";
    call_ = admin_->fetch(std::move(request), [](base::Result<http::ClientResponse>) {});
    poll_.arm(kDrainPoll);
  }

 private:
  void askActive() {
    if (stopping_) return;
    if (loop_.now() >= drain_until_) return stopProxy();
    if (!options_.exit_when_idle || loop_.now() < drain_at_least_) return poll_.arm(kDrainPoll);
    http::ClientRequest request;
    request.path = "/stats?usedonly&filter=downstream_cx_active$";
    call_ = admin_->fetch(std::move(request), [this](base::Result<http::ClientResponse> response) {
      if (!response || activeConnections(response->body) == 0) return stopProxy();
      poll_.arm(kDrainPoll);
    });
  }

  /// The sum over the listeners that serve others; not those of admin and metrics.
  unsigned long long activeConnections(const std::string& stats) const {
    unsigned long long sum = 0;
    const std::string metrics = fmt::format("_{}.", options_.prometheus_port);
    for (std::string_view line : base::split(stats, '\n')) {
      if (!line.starts_with("listener.") || line.starts_with("listener.admin.") ||
          line.find(".worker_") != std::string_view::npos ||
          line.find(metrics) != std::string_view::npos) {
        continue;
      }
      const std::size_t colon = line.rfind(": ");
      if (colon == std::string_view::npos) continue;
      sum += base::parseInteger<unsigned long long>(base::trim(line.substr(colon + 2))).value_or(0);
    }
    return sum;
  }

  void stopProxy() {
    if (std::exchange(stopping_, true)) return;
    poll_.cancel();
    proxy_->stop(kProxyGrace, [this] { loop_.stop(); });
  }

  event::Loop& loop_;
  const AgentOptions& options_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<XdsRelay> xds_;
  std::unique_ptr<ProxyProcess> proxy_;
  std::unique_ptr<StatusServer> status_;
  std::unique_ptr<http::Client> admin_;
  std::unique_ptr<http::Client::Call> call_;
  event::Timer poll_;
  base::MonotonicTime drain_until_{};
  base::MonotonicTime drain_at_least_{};
  bool draining_ = false;
  bool stopping_ = false;
};

int runAgent(std::span<const std::string_view> arguments) {
  std::vector<std::string> variables;
  for (char** each = environ; *each != nullptr; ++each) variables.emplace_back(*each);
  auto options = readEnvironment(arguments, variables);
  if (!options) {
    std::fprintf(stderr, "error: %s\n", options.error().message().c_str());
    return 2;
  }
  base::LogLevel level{};
  if (!base::parseLogLevel(options->log_level, level)) {
    std::fprintf(stderr, "error: --log_output_level: unknown level \"%s\"\n",
                 options->log_level.c_str());
    return 2;
  }
  base::setLogLevel(level);
  event::Loop::blockSignals({SIGTERM, SIGINT});
  event::Loop loop;
  Agent agent(loop, *options);
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT}, [&agent](int) { agent.drain(); });
  if (auto started = agent.start(); !started) {
    std::fprintf(stderr, "error: %s\n", started.error().message().c_str());
    return 1;
  }
  loop.run();
  return 0;
}

}  // namespace

bool isAgentCommand(std::string_view word) {
  return word == "sidecar" || word == "gateway" || word == "proxy" || word == "capture";
}

int run(std::span<const std::string_view> arguments) {
  if (!arguments.empty() && arguments.front() == "capture") return runCapture(arguments.subspan(1));
  return runAgent(arguments);
}

}  // namespace postern::agent
