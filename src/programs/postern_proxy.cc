// postern-proxy: serves the static resources of an Envoy bootstrap.
#include "agent/agent.h"
#include "base/log.h"
#include "event/loop.h"
#include "http/server.h"
#include "json/json.h"
#include "proxy/config.h"
#include "proxy/worker.h"

#include <nlohmann/json.hpp>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace postern;

struct Arguments {
  std::string file;
  std::string yaml;
  bool validate = false;
};

bool parseArguments(int argc, char** argv, Arguments& out) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (i + 1 >= argc) return false;
    const std::string value = argv[++i];
    base::LogLevel level{};
    if (word == "-c" || word == "--config-path") {
      out.file = value;
    } else if (word == "--config-yaml") {
      out.yaml = value;
    } else if (word == "--mode" && (value == "validate" || value == "serve")) {
      out.validate = value == "validate";
    } else if ((word == "-l" || word == "--log-level") && base::parseLogLevel(value, level)) {
      base::setLogLevel(level);
    } else {
      return false;
    }
  }
  return out.file.empty() != out.yaml.empty();
}

base::ConfigResult<std::unique_ptr<http::Server>> startAdmin(event::Loop& loop,
                                                             const net::Address& address) {
  auto socket = net::listenSocket(address);
  if (!socket) return base::failConfig("admin.address", socket.error().message());
  auto server = http::Server::make(
      loop, {}, [](http::Request request, std::unique_ptr<http::Responder> responder) {
        if (request.path == "/ready") return responder->respond(200, {}, "LIVE\n");
        responder->respond(404, {}, "not found\n");
      });
  server->listen(std::move(*socket));
  return server;
}

int serve(std::shared_ptr<const proxy::Config> config) {
  event::Loop::blockSignals({SIGTERM, SIGINT});
  event::Loop loop;
  proxy::Worker worker(loop, config);
  if (auto started = worker.start(); !started) {
    std::fprintf(stderr, "postern-proxy: %s\n", started.error().message().c_str());
    return 1;
  }
  std::unique_ptr<http::Server> admin;
  if (config->admin) {
    auto server = startAdmin(loop, *config->admin);
    if (!server) {
      std::fprintf(stderr, "postern-proxy: %s\n", server.error().message().c_str());
      return 1;
    }
    admin = std::move(*server);
  }
  event::Timer drained(loop, [&] { loop.stop(); });
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT}, [&](int) {
    worker.stopListening();
    drained.arm(std::chrono::seconds(worker.connections() == 0 ? 0 : 5));
  });
  loop.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && agent::isAgentCommand(argv[1])) {
    const std::vector<std::string_view> words(argv + 1, argv + argc);
    return agent::run(words);
  }
  Arguments arguments;
  if (!parseArguments(argc, argv, arguments)) {
    std::fprintf(stderr,
                 "usage: postern-proxy (-c FILE | --config-yaml TEXT) [--mode serve|validate] "
                 "[-l LEVEL]\n");
    return 1;
  }
  std::string text = arguments.yaml;
  if (!arguments.file.empty()) {
    std::ifstream in(arguments.file);
    if (!in) {
      std::fprintf(stderr, "postern-proxy: cannot read %s\n", arguments.file.c_str());
      return 1;
    }
    std::stringstream all;
    all << in.rdbuf();
    text = all.str();
  }
  auto parsed = json::parseYaml(text);
  if (!parsed) {
    std::fprintf(stderr, "postern-proxy: %s\n", parsed.error().message().c_str());
    return 1;
  }
  auto config = proxy::buildConfig(*parsed);
  if (!config) {
    std::fprintf(stderr, "postern-proxy: %s\n", config.error().message().c_str());
    return 1;
  }
  if (arguments.validate) {
    std::printf("configuration OK\n");
    return 0;
  }
  return serve(std::move(*config));
}
