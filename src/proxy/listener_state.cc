#include "proxy/listener_state.h"

#include "proxy/connection_log.h"
#include "proxy/filter_chain_match.h"
#include "proxy/http_manager.h"
#include "proxy/listener_filters.h"
#include "proxy/tcp_proxy.h"
#include "proxy/worker.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <sys/socket.h>

namespace postern::proxy {

ListenerStats::ListenerStats(stats::Scope& scope)
    : downstream_cx_total(scope.counter("downstream_cx_total")),
      downstream_cx_destroy(scope.counter("downstream_cx_destroy")),
      downstream_cx_overflow(scope.counter("downstream_cx_overflow")),
      downstream_cx_overload_reject(scope.counter("downstream_cx_overload_reject")),
      downstream_global_cx_overflow(scope.counter("downstream_global_cx_overflow")),
      downstream_pre_cx_timeout(scope.counter("downstream_pre_cx_timeout")),
      downstream_listener_filter_remote_close(
          scope.counter("downstream_listener_filter_remote_close")),
      downstream_listener_filter_error(scope.counter("downstream_listener_filter_error")),
      no_filter_chain_match(scope.counter("no_filter_chain_match")),
      downstream_cx_active(scope.gauge("downstream_cx_active")),
      downstream_pre_cx_active(scope.gauge("downstream_pre_cx_active")),
      downstream_cx_length_ms(scope.histogram("downstream_cx_length_ms")) {}

// ---- ListenerState ----

ListenerState::ListenerState(Worker& worker, ListenerEntry entry)
    : worker_(worker),
      entry_(std::move(entry)),
      stats_(worker.stats().scope("listener." + entry_.config->stat_name + ".")) {
  open();
  showStats();
}

/// The statistics of its filters are there from the beginning, as zeros.
void ListenerState::showStats() {
  const auto show = [this](const FilterChain& chain) {
    if (const auto* http = std::get_if<HttpManager>(&chain.filter)) {
      (void)worker_.httpStats(http->stat_prefix);
    } else {
      showTcpStats(worker_, std::get<TcpProxy>(chain.filter));
    }
  };
  for (const auto& chain : entry_.config->chains) show(*chain);
  if (entry_.config->fallback != nullptr) show(*entry_.config->fallback);
}

ListenerState::~ListenerState() {
  while (!pending_.empty()) (*pending_.begin())->drop();
}

void ListenerState::open() {
  acceptors_.clear();
  datagrams_.clear();
  if (entry_.sockets == nullptr) return;
  // None when out of descriptors: the next version tries again.
  for (base::Fd& socket : entry_.sockets->take(worker_.options().index)) {
    if (entry_.config->udp) {
      datagrams_.push_back(
          std::make_unique<UdpListener>(worker_, std::move(socket), entry_.config));
      continue;
    }
    acceptors_.push_back(std::make_unique<net::Acceptor>(
        worker_.loop(), std::move(socket),
        [this, only = net::onlyAddress(socket.get())](base::Fd fd, const net::Address& peer) {
          ConnectionFacts facts;
          facts.source = peer;
          facts.direct_source = peer;
          facts.destination = only ? *only : net::localAddress(fd.get());
          // A Unix client has no name of its own.
          if (peer.isUnix() && peer.ip().empty()) facts.source = facts.destination;
          accept(std::move(fd), std::move(facts), Handed::kNo);
        },
        entry_.config->accepts_per_turn));
  }
  if (worker_.acceptingPaused()) pauseAccepting(true);
}

void ListenerState::pauseAccepting(bool pause) {
  for (const auto& acceptor : acceptors_) {
    pause && !entry_.config->bypass_overload ? acceptor->pause() : acceptor->resume();
  }
}

void ListenerState::acceptQueued() {
  for (const auto& acceptor : acceptors_) acceptor->acceptQueued();
}

void ListenerState::update(ListenerEntry entry) {
  const bool same_sockets = entry.sockets == entry_.sockets && accepting() &&
                            entry.config->accepts_per_turn == entry_.config->accepts_per_turn &&
                            !entry.config->udp;
  // What waits in sockets that go would be reset with them.
  if (entry.sockets != entry_.sockets) acceptQueued();
  entry_ = std::move(entry);
  if (!same_sockets) open();
  showStats();
}

void ListenerState::accept(base::Fd fd, ConnectionFacts facts, Handed handed) {
  if (!entry_.config->bypass_overload &&
      worker_.overloaded(OverloadAction::kRejectIncomingConnections)) {
    stats_.downstream_cx_overload_reject.add();
    return;
  }
  if (fd.get() >= worker_.options().descriptor_max ||
      (!entry_.config->ignore_connection_limit && !worker_.admits())) {
    stats_.downstream_global_cx_overflow.add();
    return;
  }
  if (entry_.limit != nullptr &&
      entry_.limit->open.load(std::memory_order_relaxed) >= entry_.limit->max) {
    stats_.downstream_cx_overflow.add();
    return;
  }
  facts.listener = entry_.config;
  facts.state = this;
  if (entry_.config->filters.empty()) return proceed(std::move(fd), std::move(facts), handed);
  (new PendingConnection(worker_, *this, std::move(fd), std::move(facts), handed))
      ->start();  // destroys itself
}

/// Counts a connection against a limit until its facts are gone.
bool ListenerState::admit(const ConnectionLimitFilter& limit, ConnectionFacts& facts) {
  stats::Scope& stats = worker_.stats().scope(limit.stat_scope);
  if (limit.open->fetch_add(1, std::memory_order_relaxed) >= limit.max) {
    limit.open->fetch_sub(1, std::memory_order_relaxed);
    stats.counter("limited_connections").add();
    return false;
  }
  stats::Gauge& active = stats.gauge("active_connections");
  active.add();
  facts.counted.emplace_back(static_cast<const void*>(limit.open.get()),
                             [open = limit.open, &active](const void*) {
                               open->fetch_sub(1, std::memory_order_relaxed);
                               active.sub();
                             });
  return true;
}

/// Closes a connection, after a delay where one is set, so that a client that comes back at once
/// does not do so as often as it can.
void ListenerState::refuse(const ConnectionLimitFilter& limit, base::Fd fd, ConnectionFacts facts) {
  constexpr std::size_t kDelayedMax = 1024;
  const base::MonotonicTime now = worker_.loop().now();
  if (limit.delay.count() == 0 || delayed_.size() >= kDelayedMax)
    return logUntaken(worker_, facts, now);
  auto held = std::make_unique<Delayed>();
  held->fd = std::move(fd);
  held->timer = std::make_unique<event::Timer>(worker_.loop(), [this] { closeDelayed(); });
  held->timer->arm(limit.delay);
  held->facts = std::move(facts);
  held->since = now;
  held->until = now + limit.delay;
  delayed_.push_back(std::move(held));
}

void ListenerState::closeDelayed() {
  for (auto& held : delayed_) {
    if (held->until > worker_.loop().now()) continue;
    held->fd.reset();
    logUntaken(worker_, held->facts, held->since);
    worker_.loop().destroyLater(std::move(held));
  }
  std::erase(delayed_, nullptr);
}

std::unique_ptr<net::Transport> ListenerState::secure(std::unique_ptr<net::Transport> plain,
                                                      const FilterChain& chain) {
  const std::string prefix = "listener." + entry_.config->stat_name + ".";
  std::shared_ptr<const tls::ServerContext> context = chain.tls->server();
  if (context == nullptr) {
    worker_.stats()
        .scope(prefix + "server_ssl_socket_factory.")
        .counter("downstream_context_secrets_not_ready")
        .add();
    return nullptr;
  }
  tls::AcceptOptions options;
  options.observer = &worker_.tlsStats(prefix);
  options.handshake_timeout = chain.handshake_timeout;
  return tls::acceptTls(worker_.loop(), std::move(plain), std::move(context), options);
}

void ListenerState::proceed(base::Fd fd, ConnectionFacts facts, Handed handed) {
  if (facts.listener->use_original_dst && facts.restored && handed == Handed::kNo) {
    ListenerState* other = worker_.listenerFor(facts.destination);
    if (other != nullptr && other != this) {
      return other->accept(std::move(fd), std::move(facts), Handed::kYes);
    }
  }
  facts.chain = findChain(*facts.listener, facts);
  if (facts.chain == nullptr) {
    stats_.no_filter_chain_match.add();
    formatter::AccessRecord record = connectionRecord(worker_, facts, worker_.loop().now());
    record.flags.set(formatter::Flag::kNoRouteFound);
    record.details = "filter_chain_not_found";
    return worker_.log(facts.listener->logs, record);
  }
  for (const ConnectionLimitFilter& limit : facts.chain->limits) {
    if (!admit(limit, facts)) return refuse(limit, std::move(fd), std::move(facts));
  }
  auto local = facts.restored ? net::localAddress(fd.get()) : facts.destination;
  auto transport = net::makeAcceptedTransport(worker_.loop(), std::move(fd), std::move(local),
                                              facts.direct_source);
  const auto chain = facts.chain;  // the facts move into the connection
  if (chain->tls != nullptr) {
    transport = secure(std::move(transport), *chain);
    if (transport == nullptr) return logUntaken(worker_, facts, worker_.loop().now());
  }
  if (const auto* tcp = std::get_if<TcpProxy>(&chain->filter)) {
    return startTcpProxy(worker_, *tcp, std::move(transport), std::move(facts));
  }
  startHttpManager(worker_, std::get<HttpManager>(chain->filter), std::move(transport),
                   std::move(facts));
}

}  // namespace postern::proxy
