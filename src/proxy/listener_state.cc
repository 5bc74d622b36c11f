#include "proxy/listener_state.h"

#include "proxy/filter_chain_match.h"
#include "proxy/http_manager.h"
#include "proxy/listener_filters.h"
#include "proxy/tcp_proxy.h"
#include "proxy/worker.h"

#include <fcntl.h>
#include <sys/socket.h>

namespace postern::proxy {

// ---- BoundSockets ----

base::ConfigResult<std::shared_ptr<const BoundSockets>> BoundSockets::bind(const Listener& listener,
                                                                           std::uint32_t workers) {
  auto out = std::make_shared<BoundSockets>();
  out->requested_ = listener.address;
  out->address_ = listener.address;
  out->reuse_port_ = listener.reuse_port;
  out->datagrams_ = listener.udp.has_value();
  out->options_ = listener.socket_options;
  net::ListenOptions options;
  options.socket_options = listener.socket_options;
  options.backlog = listener.backlog;
  options.datagrams = listener.udp.has_value();
  options.transparent = listener.transparent;
  options.freebind = listener.freebind;
  options.reuse_port = listener.reuse_port && listener.address.isIp();
  if (listener.unix_mode != 0) options.unix_mode = listener.unix_mode;
  const std::uint32_t count = options.reuse_port ? workers : 1;
  for (std::uint32_t i = 0; i < count; ++i) {
    auto socket = net::bindSocket(out->address_, options);
    if (!socket) {
      return base::failConfig(
          "listener " + listener.name,
          "cannot bind " + out->address_.toString() + ": " + socket.error().message());
    }
    if (listener.address.isIp()) out->address_ = net::localAddress(socket->get());
    out->sockets_.push_back(std::move(*socket));
  }
  return std::shared_ptr<const BoundSockets>(std::move(out));
}

bool BoundSockets::fit(const Listener& listener) const {
  return requested_ == listener.address && datagrams_ == listener.udp.has_value() &&
         reuse_port_ == listener.reuse_port && options_ == listener.socket_options;
}

base::Result<void> BoundSockets::listen(int backlog) const {
  if (stopped_ || datagrams_) return {};
  net::ListenOptions options;
  options.socket_options = options_;
  options.backlog = backlog;
  for (const base::Fd& socket : sockets_)
    POSTERN_TRY_VOID(net::startListening(socket.get(), options));
  return {};
}

void BoundSockets::stop() const {
  stopped_ = true;
  for (const base::Fd& socket : sockets_) (void)::shutdown(socket.get(), SHUT_RDWR);
}

base::Result<base::Fd> BoundSockets::take(std::uint32_t worker) const {
  const int own = ::fcntl(sockets_[worker % sockets_.size()].get(), F_DUPFD_CLOEXEC, 0);
  if (own < 0) return base::failErrno("dup");
  return base::Fd(own);
}

ListenerStats::ListenerStats(StatsScope& scope)
    : downstream_cx_total(scope.counter("downstream_cx_total")),
      downstream_cx_destroy(scope.counter("downstream_cx_destroy")),
      downstream_cx_overflow(scope.counter("downstream_cx_overflow")),
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
  acceptor_.reset();
  datagrams_.reset();
  if (entry_.sockets == nullptr) return;
  auto socket = entry_.sockets->take(worker_.options().index);
  if (!socket) return;  // out of descriptors: the next version tries again
  if (entry_.config->udp) {
    datagrams_ = std::make_unique<UdpListener>(worker_, std::move(*socket), entry_.config);
    return;
  }
  acceptor_ = std::make_unique<net::Acceptor>(
      worker_.loop(), std::move(*socket),
      [this](base::Fd fd, const net::Address& peer) {
        ConnectionFacts facts;
        facts.source = peer;
        facts.direct_source = peer;
        facts.destination = net::localAddress(fd.get());
        // A Unix client has no name of its own.
        if (peer.isUnix() && peer.ip().empty()) facts.source = facts.destination;
        accept(std::move(fd), std::move(facts), Handed::kNo);
      },
      entry_.config->accepts_per_turn);
}

void ListenerState::update(ListenerEntry entry) {
  const bool same_sockets = entry.sockets == entry_.sockets && accepting() &&
                            entry.config->accepts_per_turn == entry_.config->accepts_per_turn &&
                            !entry.config->udp;
  entry_ = std::move(entry);
  if (!same_sockets) open();
  showStats();
}

void ListenerState::accept(base::Fd fd, ConnectionFacts facts, Handed handed) {
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
  if (entry_.config->filters.empty()) return proceed(std::move(fd), std::move(facts), handed);
  (new PendingConnection(worker_, *this, std::move(fd), std::move(facts), handed))
      ->start();  // destroys itself
}

/// Counts a connection against a limit until its facts are gone.
bool ListenerState::admit(const ConnectionLimitFilter& limit, ConnectionFacts& facts) {
  StatsScope& stats = worker_.stats().scope(limit.stat_scope);
  if (limit.open->fetch_add(1, std::memory_order_relaxed) >= limit.max) {
    limit.open->fetch_sub(1, std::memory_order_relaxed);
    stats.counter("limited_connections").add();
    return false;
  }
  Gauge& active = stats.gauge("active_connections");
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
void ListenerState::refuse(const ConnectionLimitFilter& limit, base::Fd fd) {
  constexpr std::size_t kDelayedMax = 1024;
  if (limit.delay.count() == 0 || delayed_.size() >= kDelayedMax) return;
  auto held = std::make_unique<Delayed>();
  held->fd = std::move(fd);
  held->timer = std::make_unique<event::Timer>(worker_.loop(), [this] { closeDelayed(); });
  held->timer->arm(limit.delay);
  held->until = worker_.loop().now() + limit.delay;
  delayed_.push_back(std::move(held));
}

void ListenerState::closeDelayed() {
  for (auto& held : delayed_) {
    if (held->until > worker_.loop().now()) continue;
    held->fd.reset();
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
    AccessRecord record;
    record.start = worker_.loop().clock().wall();
    record.flags.set(Flag::kNoRouteFound);
    record.details = "filter_chain_not_found";
    record.downstream_local = facts.destination.toString();
    record.downstream_remote = facts.source.toString();
    record.downstream_direct_remote = facts.direct_source.toString();
    record.server_name = facts.server_name;
    return worker_.log(facts.listener->logs, record);
  }
  for (const ConnectionLimitFilter& limit : facts.chain->limits) {
    if (!admit(limit, facts)) return refuse(limit, std::move(fd));
  }
  auto transport = net::makeSocketTransport(worker_.loop(), std::move(fd));
  const auto chain = facts.chain;  // the facts move into the connection
  if (chain->tls != nullptr) {
    transport = secure(std::move(transport), *chain);
    if (transport == nullptr) return;
  }
  if (const auto* tcp = std::get_if<TcpProxy>(&chain->filter)) {
    return startTcpProxy(worker_, *tcp, std::move(transport), std::move(facts));
  }
  startHttpManager(worker_, std::get<HttpManager>(chain->filter), std::move(transport),
                   std::move(facts));
}

}  // namespace postern::proxy
