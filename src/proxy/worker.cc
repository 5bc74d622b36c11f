#include "proxy/worker.h"

#include "proxy/http_manager.h"
#include "proxy/tcp_proxy.h"

namespace postern::proxy {

Worker::Worker(event::Loop& loop, std::shared_ptr<const Config> config)
    : loop_(loop),
      config_(std::move(config)),
      clusters_(loop, *config_),
      pool_(loop),
      log_writer_(loop) {}

Worker::~Worker() {
  stopListening();
  while (!connections_.empty()) (*connections_.begin())->close();
}

base::ConfigResult<void> Worker::start() {
  for (const Listener& listener : config_->listeners) {
    if (!listener.bind) continue;
    net::ListenOptions options;
    options.reuse_port = true;
    auto socket = net::listenSocket(listener.address, options);
    if (!socket) return base::failConfig("listener " + listener.name, socket.error().message());
    acceptors_.push_back(std::make_unique<net::Acceptor>(
        loop_, std::move(*socket), [this, &listener](base::Fd fd, const net::Address& peer) {
          accept(listener, std::move(fd), peer);
        }));
  }
  return {};
}

std::vector<net::Address> Worker::addresses() const {
  std::vector<net::Address> out;
  for (const auto& each : acceptors_) out.push_back(each->local());
  return out;
}

const Listener& Worker::redirect(const Listener& listener, const net::Address& destination) const {
  if (!listener.use_original_dst) return listener;
  const Listener* wildcard = nullptr;
  for (const Listener& each : config_->listeners) {
    if (each.bind || each.address.port() != destination.port()) continue;
    if (each.address == destination) return each;
    if (each.address.ip() == "0.0.0.0" || each.address.ip() == "::") wildcard = &each;
  }
  return wildcard != nullptr ? *wildcard : listener;
}

void Worker::accept(const Listener& bound, base::Fd fd, const net::Address&) {
  ConnectionFacts facts;
  facts.destination = net::localAddress(fd.get());
  if (bound.use_original_dst) {
    if (auto original = net::originalDestination(fd.get())) facts.destination = *original;
  }
  const Listener& listener = redirect(bound, facts.destination);
  const FilterChain* chain = findChain(listener, facts);
  if (chain == nullptr) return;  // Closes: no chain wants this connection.
  auto transport = net::makeSocketTransport(loop_, std::move(fd));
  if (const auto* tcp = std::get_if<TcpProxy>(&chain->filter))
    return startTcpProxy(*this, *tcp, std::move(transport), std::move(facts));
  startHttpManager(*this, std::get<HttpManager>(chain->filter), std::move(transport),
                   std::move(facts));
}

}  // namespace postern::proxy
