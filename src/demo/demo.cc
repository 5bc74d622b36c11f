#include "demo/demo.h"

#include "base/strings.h"
#include "demo/allspark.h"
#include "demo/echo.h"
#include "demo/httpbin.h"
#include "demo/load.h"
#include "net/resolver.h"
#include "net/socket.h"
#include "tls/tls.h"
#include "tls/x509.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fcntl.h>
#include <signal.h>

namespace postern::demo {
namespace {

using Arguments = std::span<const std::string_view>;

constexpr std::string_view kUsage =
    "usage: postern-demo echo [PORT] [tls=NAME] [http2]\n"
    "       postern-demo httpbin [PORT] [tls=NAME] [http2]\n"
    "           fd:N instead of PORT: an inherited socket; tls: with a certificate of its own "
    "making;\n"
    "           http2: offered over TLS, nothing else without\n"
    "       postern-demo allspark\n"
    "       postern-demo load [--rps N] [--duration SECONDS] [--connections N]\n"
    "                         [--host NAME] [--header 'NAME: VALUE']... URL\n";

int usage(std::string_view problem = {}) {
  if (!problem.empty()) fmt::print(stderr, "postern-demo: {}\n", problem);
  fmt::print(stderr, "{}", kUsage);
  return 2;
}

int fail(std::string_view problem) {
  fmt::print(stderr, "postern-demo: {}\n", problem);
  return 1;
}

/// Ends the loop on SIGINT and SIGTERM: as process 1 of a container there is no default action.
event::Loop::SignalWatch stopOnSignals(event::Loop& loop) {
  return {loop, {SIGINT, SIGTERM}, [&loop](int) { loop.stop(); }};
}

/// The socket that PORT or fd:N names; a text is a problem.
std::expected<base::Fd, std::string> listenerFrom(std::string_view text) {
  if (text.starts_with("fd:")) {
    auto fd = base::parseInteger<int>(text.substr(3));
    if (!fd || ::fcntl(*fd, F_SETFL, O_NONBLOCK) != 0) {
      return std::unexpected(fmt::format("'{}' is not an open socket", text));
    }
    return base::Fd(*fd);
  }
  auto port = base::parseInteger<std::uint16_t>(text);
  if (!port) return std::unexpected(fmt::format("'{}' is not a port", text));
  auto listener = net::listenSocket(*net::Address::fromIp("0.0.0.0", *port));
  if (!listener) {
    return std::unexpected(fmt::format("port {}: {}", *port, listener.error().message()));
  }
  return std::move(*listener);
}

/// A certificate for `name`, signed by a root that nobody knows and that is forgotten at once.
base::ConfigResult<std::shared_ptr<const tls::ServerContext>> selfMadeTls(std::string_view name,
                                                                          bool http2) {
  constexpr std::chrono::hours kLifetime{24 * 365};
  auto root = tls::makeRoot("postern-demo", kLifetime);
  if (!root) return base::failConfig("", root.error().message());
  auto key = tls::issue(*root, {.common_name = std::string(name),
                                .dns_names = {std::string(name)},
                                .lifetime = kLifetime,
                                .client = false});
  if (!key) return base::failConfig("", key.error().message());
  tls::ServerOptions options;
  options.certificate_chain_pem = key->certificate_pem + root->certificate_pem;
  options.private_key_pem = key->private_key_pem;
  options.alpn = {"http/1.1"};
  if (http2) options.alpn.insert(options.alpn.begin(), "h2");
  return tls::ServerContext::make(options);
}

int serve(event::Loop& loop, Arguments arguments, std::string_view default_port,
          http::Handler handler) {
  http::Server::Options options;
  std::string_view where = default_port;
  const bool http2 = std::find(arguments.begin(), arguments.end(), "http2") != arguments.end();
  bool tls = false;
  for (const std::string_view argument : arguments) {
    if (argument == "http2") continue;
    if (!argument.starts_with("tls=")) {
      where = argument;
      continue;
    }
    tls = true;
    auto context = selfMadeTls(argument.substr(4), http2);
    if (!context) return fail(context.error().message());
    options.tls = std::move(*context);
  }
  if (http2 && !tls) options.protocol = http::Protocol::kHttp2;
  auto listener = listenerFrom(where);
  if (!listener) return usage(listener.error());
  auto server = http::Server::make(loop, options, std::move(handler));
  fmt::print(stderr, "listening on {}\n", net::localAddress(listener->get()).toString());
  server->listen(std::move(*listener));
  auto signals = stopOnSignals(loop);
  loop.run();
  return 0;
}

int runAllspark(event::Loop& loop) {
  auto options = allsparkOptions([](const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
  });
  if (!options) return fail(options.error().message());
  net::Resolver::Options resolving;
  resolving.no_search = false;
  auto resolver = net::makeResolver(loop, resolving);
  auto allspark = Allspark::make(loop, *resolver, std::move(*options));
  if (!allspark) return fail(allspark.error().message());
  fmt::print(stderr, "http on {}, grpc on {}, tcp on {}, health on {}\n",
             (*allspark)->httpAddress().toString(), (*allspark)->grpcAddress().toString(),
             (*allspark)->tcpAddress().toString(), (*allspark)->healthAddress().toString());
  auto signals = stopOnSignals(loop);
  loop.run();
  return 0;
}

/// The command line of "load" as options and the host to look up; a text is a problem.
struct LoadCommand {
  LoadOptions options;
  Target target;
  std::string problem;
};

LoadCommand parseLoad(Arguments arguments) {
  LoadCommand out;
  std::optional<Target> target;
  std::string host;
  auto number = [&](std::string_view name, std::string_view text, unsigned max) {
    auto value = base::parseInteger<unsigned>(text);
    if (!value || *value > max)
      out.problem = fmt::format("{} must be a number up to {}", name, max);
    return value.value_or(0);
  };
  for (std::size_t i = 0; i < arguments.size() && out.problem.empty(); ++i) {
    std::string_view name = arguments[i];
    if (!name.starts_with("--")) {
      auto parsed = parseUrl(name);
      if (!parsed || parsed->scheme != "http") {
        out.problem = fmt::format("'{}' is not an http URL", name);
      } else {
        target = *parsed;
      }
      continue;
    }
    if (++i == arguments.size()) {
      out.problem = fmt::format("{} needs a value", name);
    } else if (name == "--rps") {
      out.options.requests_per_second = number(name, arguments[i], kLoadRateMax);
    } else if (name == "--connections") {
      out.options.connections = std::max(1u, number(name, arguments[i], kLoadConnectionsMax));
    } else if (name == "--duration") {
      out.options.duration = std::chrono::seconds(number(name, arguments[i], 1'000'000));
    } else if (name == "--host") {
      host = arguments[i];
    } else if (std::size_t colon = arguments[i].find(':');
               name == "--header" && colon != std::string_view::npos && colon > 0) {
      out.options.headers.add(arguments[i].substr(0, colon),
                              base::trim(arguments[i].substr(colon + 1)));
    } else {
      out.problem = fmt::format("unknown option {} {}", name, arguments[i]);
    }
  }
  if (!out.problem.empty()) return out;
  if (!target) {
    out.problem = "the URL is missing";
    return out;
  }
  out.target = *target;
  out.options.path = target->path;
  out.options.host = !host.empty()        ? host
                     : target->port == 80 ? target->host
                                          : fmt::format("{}:{}", target->host, target->port);
  return out;
}

int runLoad(event::Loop& loop, Arguments arguments) {
  LoadCommand command = parseLoad(arguments);
  if (!command.problem.empty()) return usage(command.problem);
  net::Resolver::Options resolving;
  resolving.no_search = false;
  auto resolver = net::makeResolver(loop, resolving);
  std::unique_ptr<Load> load;
  int status = 1;
  auto query = resolver->resolve(
      command.target.host, net::DnsFamily::kV4Preferred, [&](base::Result<net::DnsAnswer> answer) {
        if (!answer || answer->addresses.empty()) {
          fail(fmt::format("{}: {}", command.target.host,
                           answer ? "no address" : answer.error().message()));
          return loop.stop();
        }
        command.options.address = answer->addresses.front();
        command.options.address.setPort(command.target.port);
        load = Load::start(loop, std::move(command.options), [&](const LoadReport& report) {
          fmt::print("{}", report.toString());
          status = report.answers > 0 ? 0 : 1;
          loop.stop();
        });
      });
  auto signals = stopOnSignals(loop);
  loop.run();
  return status;
}

}  // namespace

int run(Arguments arguments) {
  if (arguments.empty()) return usage();
  std::string_view command = arguments[0];
  Arguments rest = arguments.subspan(1);
  event::Loop::blockSignals({SIGINT, SIGTERM});
  event::Loop loop;
  if (command == "echo") return serve(loop, rest, "8080", makeEcho(echoIdentityFromEnvironment()));
  if (command == "httpbin") return serve(loop, rest, "80", makeHttpbin(loop));
  if (command == "allspark") return rest.empty() ? runAllspark(loop) : usage("too many arguments");
  if (command == "load") return runLoad(loop, rest);
  return usage(fmt::format("unknown command '{}'", command));
}

}  // namespace postern::demo
