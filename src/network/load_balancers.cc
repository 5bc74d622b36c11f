#include "network/load_balancers.h"

#include "base/log.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstring>

namespace postern::network {
namespace {

base::LogComponent balancers_log("relay");

constexpr std::chrono::milliseconds kGatherStatus{5};
constexpr std::uint16_t kFirstOpenPort = 1024;

}  // namespace

std::string listenMessage(const RelayListener& listener, std::uint16_t port, int error) {
  const std::string tried = fmt::format("{}:{}", listener.address, port);
  if (error == EADDRINUSE) {
    return fmt::format(
        "{} is taken by another program of this machine; it is tried again every {} seconds", tried,
        kListenAgain.count());
  }
  if (error != 0) return fmt::format("{} cannot be opened: {}", tried, std::strerror(error));
  if (port == listener.port) return "";
  return fmt::format(
      "{}:{} is served at {}, because this user may not open ports below 1024; to have the port "
      "itself run: sudo sysctl -w net.ipv4.ip_unprivileged_port_start={}",
      listener.address, listener.port, tried, listener.port);
}

struct LoadBalancers::Listener {
  Listener(event::Loop& loop, base::Function<void()> try_again)
      : again(loop, std::move(try_again)) {}
  RelayListener wanted;
  std::uint16_t tried = 0;  // the port of the last attempt
  int error = 0;            // of it
  bool answered = false;
  std::unique_ptr<net::Acceptor> acceptor;
  event::Timer again;
  std::uint64_t attempt = 0;
};

LoadBalancers::LoadBalancers(event::Loop& loop, std::string run_folder, SocketProvider& host,
                             SpliceJoin& join)
    : loop_(loop),
      run_folder_(std::move(run_folder)),
      host_(host),
      join_(join),
      status_timer_(loop, [this] { writeStatus(); }) {
  auto watch = FileWatch::start(loop, run_folder_, kRelayTableFile, [this] { readTable(); });
  if (watch) {
    watch_ = std::move(*watch);
  } else {
    balancers_log.error("{}: {}", run_folder_, watch.error().message());
  }
}

LoadBalancers::~LoadBalancers() = default;

void LoadBalancers::readTable() {
  const auto text = readWholeFile(run_folder_ + "/" + kRelayTableFile);
  if (!text) return;  // no node agent yet
  const auto table = parseRelayTable(*text);
  if (!table) {  // what is in force stays
    balancers_log.error("{}: {}", kRelayTableFile, table.error().message());
    return;
  }
  std::map<std::string, const RelayListener*> wanted;
  for (const RelayListener& entry : *table) {
    wanted.emplace(fmt::format("{}:{}", entry.address, entry.port), &entry);
  }
  std::erase_if(listeners_, [&](const auto& each) { return !wanted.contains(each.first); });
  for (const auto& [key, entry] : wanted) {
    auto& listener = listeners_[key];
    const bool fresh = !listener;
    if (fresh) {
      listener = std::make_unique<Listener>(loop_, [this, name = key] {
        const auto at = listeners_.find(name);
        if (at != listeners_.end()) listen(*at->second, at->second->wanted.port);
      });
    }
    listener->wanted = *entry;
    if (fresh) listen(*listener, entry->port);
  }
  status_timer_.arm(kGatherStatus);
}

void LoadBalancers::listen(Listener& listener, std::uint16_t port) {
  const std::string key = fmt::format("{}:{}", listener.wanted.address, listener.wanted.port);
  const std::uint64_t attempt = ++listener.attempt;
  host_.listen(
      *net::Address::fromIp(listener.wanted.address, port),
      [this, key, port, attempt, asked = &listener](base::Result<base::Fd> socket) {
        const auto at = listeners_.find(key);
        if (at == listeners_.end() || at->second.get() != asked || asked->attempt != attempt) {
          return;
        }
        opened(*asked, port, std::move(socket));
      });
}

void LoadBalancers::opened(Listener& listener, std::uint16_t port, base::Result<base::Fd> socket) {
  const bool high = port != listener.wanted.port;
  if (!socket && !high && port < kFirstOpenPort &&
      (socket.error().sys == EACCES || socket.error().sys == EPERM)) {
    return listen(listener, static_cast<std::uint16_t>(port + kHighPortOffset));
  }
  listener.answered = true;
  listener.tried = port;
  listener.error = socket ? 0 : (socket.error().sys != 0 ? socket.error().sys : EIO);
  if (socket) {
    listener.acceptor = std::make_unique<net::Acceptor>(
        loop_, std::move(*socket), [this, to = &listener](base::Fd fd, const net::Address&) {
          join_.connect(std::move(fd),
                        *net::Address::fromIp(to->wanted.cluster_ip, to->wanted.port));
        });
  } else {
    listener.again.arm(kListenAgain);
  }
  status_timer_.arm(kGatherStatus);
}

void LoadBalancers::writeStatus() {
  std::vector<RelayOutcome> outcomes;
  for (const auto& [key, listener] : listeners_) {
    if (!listener->answered) continue;
    const RelayListener& wanted = listener->wanted;
    const std::uint16_t host_port = listener->error == 0 ? listener->tried : std::uint16_t{0};
    outcomes.push_back({wanted.service, wanted.address, wanted.port, host_port,
                        listenMessage(wanted, listener->tried, listener->error)});
  }
  std::string status = relayStatus(outcomes);
  if (status == status_) return;
  const auto written = writeFileAtomically(run_folder_ + "/" + kRelayStatusFile, status);
  if (!written) {
    balancers_log.error("{}: {}", kRelayStatusFile, written.error().message());
    return;
  }
  status_ = std::move(status);
}

}  // namespace postern::network
