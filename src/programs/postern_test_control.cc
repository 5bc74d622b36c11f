// postern-test-control ADDRESS FILE [UPDATES_PER_SECOND]: serves the resources of FILE by ADS, for
// tests of proxies. SIGHUP reads the file again; SIGUSR1 starts or stops the updates; SIGTERM ends.
// Prints one line "changes N sent N accepted N refused N proxies N" each second and at the end.
#include "base/strings.h"
#include "event/loop.h"
#include "http/grpc.h"
#include "xds/file_source.h"

#include <csignal>
#include <cstdio>
#include <string>

namespace {

using namespace postern;

void print(const xds::FileSource& source) {
  const auto& counts = source.counts();
  std::printf("changes %llu sent %llu accepted %llu refused %llu proxies %zu\n",
              static_cast<unsigned long long>(counts.changes),
              static_cast<unsigned long long>(counts.sent),
              static_cast<unsigned long long>(counts.accepted),
              static_cast<unsigned long long>(counts.refused), source.proxies());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  event::Loop::blockSignals({SIGTERM, SIGINT, SIGHUP, SIGUSR1});
  const auto address = argc < 3 ? std::nullopt : net::Address::parse(argv[1]);
  const unsigned rate = argc > 3 ? base::parseInteger<unsigned>(argv[3]).value_or(0) : 0;
  if (!address) {
    std::fprintf(stderr, "usage: postern-test-control ADDRESS FILE [UPDATES_PER_SECOND]\n");
    return 2;
  }
  event::Loop loop;
  xds::FileSource source;
  if (auto loaded = source.load(argv[2]); !loaded) {
    std::fprintf(stderr, "%s\n", loaded.error().message().c_str());
    return 1;
  }
  xds::Server server(source);
  const auto grpc = http::GrpcServer::make(loop, {});
  server.registerAt(*grpc);
  auto socket = net::listenSocket(*address);
  if (!socket) {
    std::fprintf(stderr, "%s: %s\n", argv[1], socket.error().message().c_str());
    return 1;
  }
  std::printf("listening %s\n",
              address->isIp() ? net::localAddress(socket->get()).toString().c_str() : argv[1]);
  std::fflush(stdout);
  grpc->listen(std::move(*socket));
  // One update a millisecond at most; each tick catches up with what the clock says is due.
  base::MonotonicTime begin{};
  std::uint64_t made = 0;
  bool running = false;
  std::unique_ptr<event::Timer> updates;
  updates = std::make_unique<event::Timer>(loop, [&] {
    const auto due = static_cast<std::uint64_t>(
        std::chrono::duration<double>(loop.now() - begin).count() * rate);
    if (made < due) {
      source.tick(server);
      ++made;
    }
    updates->arm(made < due ? base::Duration{} : std::chrono::milliseconds(1));
  });
  std::unique_ptr<event::Timer> report;
  report = std::make_unique<event::Timer>(loop, [&] {
    print(source);
    report->arm(std::chrono::seconds(1));
  });
  report->arm(std::chrono::seconds(1));
  event::Loop::SignalWatch signals(loop, {SIGTERM, SIGINT, SIGHUP, SIGUSR1}, [&](int signal) {
    if (signal == SIGHUP) {
      auto loaded = source.load(argv[2]);
      if (!loaded) std::fprintf(stderr, "%s\n", loaded.error().message().c_str());
      return source.tellAll(server);
    }
    if (signal != SIGUSR1) return loop.stop();
    running = !running;
    begin = loop.now();
    made = 0;
    running ? updates->arm({}) : updates->cancel();
  });
  loop.run();
  print(source);
  return 0;
}
