#include "proxy/listener_state.h"

#include "proxy/filter_chain_match.h"
#include "proxy/http_manager.h"
#include "proxy/protocol_detection.h"
#include "proxy/tcp_proxy.h"
#include "proxy/worker.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <sys/socket.h>

namespace postern::proxy {

// ---- BoundSockets ----

base::ConfigResult<std::shared_ptr<const BoundSockets>> BoundSockets::bind(const Listener& listener,
                                                                           std::uint32_t workers) {
  auto out = std::make_shared<BoundSockets>();
  out->requested_ = listener.address;
  out->address_ = listener.address;
  net::ListenOptions options;
  options.backlog = listener.backlog;
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

base::Result<void> BoundSockets::listen(int backlog) const {
  if (stopped_) return {};
  net::ListenOptions options;
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

// ---- Pending: a connection in the listener filters ----

class ListenerState::Pending final : public event::Deferred {
 public:
  Pending(ListenerState& owner, base::Fd fd, ConnectionFacts facts, Handed handed)
      : owner_(owner),
        fd_(std::move(fd)),
        facts_(std::move(facts)),
        handed_(handed),
        timer_(owner.worker_.loop(), [this] { timedOut(); }) {
    owner_.pending_.insert(this);
    owner_.stats_.downstream_pre_cx_active.add();
  }

  void start() {
    if (!run()) return;
    const auto timeout = facts_.listener->filters_timeout;
    if (timeout.count() != 0) timer_.arm(timeout);
    watch_ = event::FdWatch(owner_.worker_.loop(), fd_.get(), [this](std::uint32_t ready) {
      if (run() && (ready & event::kHangup) != 0) {
        owner_.stats_.downstream_listener_filter_remote_close.add();
        drop();
      }
    });
  }
  void drop() {
    fd_.reset();
    finish();
  }

 private:
  enum class Step : unsigned char { kDone, kWait, kDrop };

  /// True while it has to wait for bytes.
  bool run() {
    const auto& filters = facts_.listener->filters;
    for (; next_ < filters.size(); ++next_) {
      const Step step = apply(filters[next_]);
      if (step == Step::kWait) return true;
      if (step == Step::kDone) continue;
      owner_.stats_.downstream_listener_filter_error.add();
      drop();
      return false;
    }
    proceed();
    return false;
  }

  Step apply(ListenerFilter filter) {
    switch (filter) {
      case ListenerFilter::kOriginalDst:
        if (auto original = net::originalDestination(fd_.get())) {
          facts_.restored = !(*original == facts_.destination);
          facts_.destination = *original;
        }
        return Step::kDone;
      case ListenerFilter::kTlsInspector:
        return inspectTls();
      case ListenerFilter::kHttpInspector:
        return inspectHttp();
    }
    return Step::kDone;
  }

  Step inspectTls() {
    StatsScope& stats = owner_.worker_.stats().scope("tls_inspector.");
    switch (peek(facts_.listener->client_hello_bytes_max)) {
      case Detection::kMore:
        return Step::kWait;
      case Detection::kNotFound:
        return Step::kDrop;
      default:
        break;
    }
    switch (detectTls(bytes_, facts_.listener->client_hello_bytes_max, facts_)) {
      case Detection::kMore:
        return Step::kWait;
      case Detection::kTooLarge:
        stats.counter("client_hello_too_large").add();
        return Step::kDrop;
      case Detection::kNotFound:
        stats.counter("tls_not_found").add();
        return Step::kDone;
      case Detection::kFound:
        break;
    }
    stats.counter("tls_found").add();
    stats.counter(facts_.server_name.empty() ? "sni_not_found" : "sni_found").add();
    stats.counter(facts_.application_protocols.empty() ? "alpn_not_found" : "alpn_found").add();
    return Step::kDone;
  }

  Step inspectHttp() {
    if (facts_.transport_protocol == "tls") return Step::kDone;
    StatsScope& stats = owner_.worker_.stats().scope("http_inspector.");
    switch (peek(kInspectedBytesMax)) {
      case Detection::kMore:
        return Step::kWait;
      case Detection::kNotFound:
        stats.counter("read_error").add();
        return Step::kDrop;
      default:
        break;
    }
    switch (detectHttp(bytes_, facts_)) {
      case Detection::kMore:
        return Step::kWait;
      case Detection::kFound: {
        const std::string& found = facts_.application_protocols.front();
        stats
            .counter(found == "h2c"        ? "http2_found"
                     : found == "http/1.1" ? "http11_found"
                                           : "http10_found")
            .add();
        return Step::kDone;
      }
      default:
        stats.counter("http_not_found").add();
        return Step::kDone;
    }
  }

  /// Looks at what has arrived without taking it. kFound: there are bytes; kNotFound: the
  /// connection broke.
  Detection peek(std::size_t bytes_max) {
    std::size_t size = std::max<std::size_t>(bytes_.size() * 2, 512);
    for (;;) {
      size = std::min(size, bytes_max);
      bytes_.resize(size);
      const ssize_t got = ::recv(fd_.get(), bytes_.data(), bytes_.size(), MSG_PEEK);
      if (got < 0 && errno == EINTR) continue;
      bytes_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
      if (got < 0) return errno == EAGAIN ? Detection::kMore : Detection::kNotFound;
      if (got == 0) return Detection::kNotFound;
      if (bytes_.size() < size || size == bytes_max) return Detection::kFound;
      size *= 2;
    }
  }

  void timedOut() {
    owner_.stats_.downstream_pre_cx_timeout.add();
    if (!facts_.listener->continue_on_timeout) return drop();
    proceed();
  }

  void proceed() {
    ListenerState& owner = owner_;
    const Handed handed = handed_;
    base::Fd fd = std::move(fd_);
    ConnectionFacts facts = std::move(facts_);
    finish();
    owner.proceed(std::move(fd), std::move(facts), handed);
  }

  void finish() {
    watch_.reset();
    timer_.cancel();
    owner_.pending_.erase(this);
    owner_.stats_.downstream_pre_cx_active.sub();
    owner_.worker_.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  ListenerState& owner_;
  base::Fd fd_;
  ConnectionFacts facts_;
  const Handed handed_;
  std::size_t next_ = 0;
  std::string bytes_;
  event::Timer timer_;
  event::FdWatch watch_;
};

// ---- ListenerState ----

ListenerState::ListenerState(Worker& worker, ListenerEntry entry)
    : worker_(worker),
      entry_(std::move(entry)),
      stats_(worker.stats().scope("listener." + entry_.config->stat_name + ".")) {
  open();
}

ListenerState::~ListenerState() {
  while (!pending_.empty()) (*pending_.begin())->drop();
}

void ListenerState::open() {
  if (entry_.sockets == nullptr) return acceptor_.reset();
  auto socket = entry_.sockets->take(worker_.options().index);
  if (!socket) return;  // out of descriptors: the next version tries again
  acceptor_ = std::make_unique<net::Acceptor>(
      worker_.loop(), std::move(*socket), [this](base::Fd fd, const net::Address& peer) {
        ConnectionFacts facts;
        facts.source = peer;
        facts.destination = net::localAddress(fd.get());
        accept(std::move(fd), std::move(facts), Handed::kNo);
      });
}

void ListenerState::update(ListenerEntry entry) {
  const bool same_sockets = entry.sockets == entry_.sockets && accepting();
  entry_ = std::move(entry);
  if (!same_sockets) open();
}

void ListenerState::accept(base::Fd fd, ConnectionFacts facts, Handed handed) {
  if (!entry_.config->ignore_connection_limit && !worker_.admits()) {
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
  (new Pending(*this, std::move(fd), std::move(facts), handed))->start();  // destroys itself
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
    record.server_name = facts.server_name;
    return worker_.log(facts.listener->logs, record);
  }
  auto transport = net::makeSocketTransport(worker_.loop(), std::move(fd));
  const auto chain = facts.chain;  // the facts move into the connection
  if (const auto* tcp = std::get_if<TcpProxy>(&chain->filter)) {
    return startTcpProxy(worker_, *tcp, std::move(transport), std::move(facts));
  }
  startHttpManager(worker_, std::get<HttpManager>(chain->filter), std::move(transport),
                   std::move(facts));
}

}  // namespace postern::proxy
