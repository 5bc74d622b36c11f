// postern-proxy: serves the static resources of an Envoy bootstrap.
#include "agent/agent.h"
#include "api/message.h"
#include "base/log.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "event/loop.h"
#include "http/server.h"
#include "json/json.h"
#include "proxy/config_build.h"
#include "proxy/config_store.h"
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

int fail(const base::ConfigError& error) {
  std::fprintf(stderr, "postern-proxy: %s\n", error.message().c_str());
  return 1;
}

int serve(const envoy::config::bootstrap::v3::Bootstrap& bootstrap, bool validate) {
  event::Loop::blockSignals({SIGTERM, SIGINT});
  proxy::Stats stats;
  event::Loop loop;
  proxy::Worker worker(loop, stats.makeStore());
  proxy::ConfigStore::Options options;
  options.bind = !validate;
  proxy::ConfigStore store(
      loop, stats.makeStore(), options,
      [&](std::shared_ptr<const proxy::Snapshot> snapshot) { worker.update(std::move(snapshot)); },
      nullptr);
  if (auto added = store.addStatic(bootstrap); !added) return fail(added.error());
  if (validate) {
    std::printf("configuration OK\n");
    return 0;
  }
  store.expect({}, {});
  std::unique_ptr<http::Server> admin;
  if (bootstrap.admin().has_address()) {
    auto address = proxy::readAddress(bootstrap.admin().address(), "admin.address");
    if (!address) return fail(address.error());
    auto server = startAdmin(loop, *address);
    if (!server) return fail(server.error());
    admin = std::move(*server);
  }
  event::Timer drained(loop, [&] { loop.stop(); });
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT}, [&](int) {
    worker.stopListening(proxy::Worker::Drain::kYes);
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
  envoy::config::bootstrap::v3::Bootstrap bootstrap;
  if (auto read = api::fromJson(*parsed, bootstrap); !read) return fail(read.error());
  return serve(bootstrap, arguments.validate);
}
