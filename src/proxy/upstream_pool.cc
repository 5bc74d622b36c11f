#include "proxy/upstream_pool.h"

#include "base/prefetch.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <sys/socket.h>

namespace postern::proxy {

namespace {

constexpr base::Error kOverflow{base::Errc::kLimitExceeded, "overflow"};

/// What a TLS handshake offers for a protocol.
std::vector<std::string> alpnOf(http::Protocol protocol) {
  switch (protocol) {
    case http::Protocol::kHttp1:
      return {"http/1.1"};
    case http::Protocol::kHttp2:
      return {"h2"};
    default:
      return {"h2", "http/1.1"};
  }
}

}  // namespace

/// One host, protocol and priority.
class UpstreamPool::HostPool {
 public:
  HostPool(UpstreamPool& owner, ClusterPtr cluster, HostPtr host, http::Protocol protocol,
           RoutingPriority priority, std::string greeting, const ConnectionFacts* downstream)
      : owner_(owner),
        cluster_(std::move(cluster)),
        host_(std::move(host)),
        protocol_(protocol),
        priority_(priority),
        multiplexes_(protocol != http::Protocol::kHttp1),
        greeting_(std::move(greeting)),
        downstream_(downstream) {}
  ~HostPool();

  void acquire(Waiter& waiter, Idle idle);
  void waiterGone();
  void drain();
  /// Nothing is left and nothing will come.
  bool over() const { return (host_->removed || retired_) && all_.empty() && waiting_.empty(); }
  const HostPtr& host() const { return host_; }
  /// Whom it serves alone; null: anybody.
  const ConnectionFacts* downstream() const { return downstream_; }
  /// What is there may finish; nothing is kept for later.
  void retire() {
    downstream_ = nullptr;
    retired_ = true;
    drain();
  }
  bool retired() const { return retired_; }
  const std::string& greeting() const { return greeting_; }

  // ---- from its connections ----
  void connected(Connection& connection);
  void available(Connection& connection);
  void unready(Connection& connection);
  void closed(Connection& connection, bool was_connecting, PoolFailure failure, base::Error error);

 private:
  friend class Connection;
  void give(Connection& connection, Waiter& waiter);
  void serveWaiting();
  void connectIfNeeded();
  void prefetchNext() const;
  Waiter* nextWaiter();

  UpstreamPool& owner_;
  const ClusterPtr cluster_;
  const HostPtr host_;
  const http::Protocol protocol_;
  const RoutingPriority priority_;
  bool multiplexes_;  // by ALPN: as the last connection did
  std::uint32_t peer_streams_ = std::numeric_limits<std::uint32_t>::max();  // as it said last
  const std::string greeting_;
  const ConnectionFacts* downstream_;
  bool retired_ = false;
  std::vector<Connection*> ready_;  // back: became free last
  std::vector<Connection*> all_;
  base::IntrusiveList<Waiter> waiting_;
  std::size_t waiting_count_ = 0;
  std::size_t connecting_ = 0;
};

class UpstreamPool::Connection final : public http::ClientObserver, public event::Deferred {
 public:
  explicit Connection(HostPool& pool)
      : pool_(&pool),
        timer_(pool.owner_.loop_, [this] { onTimer(); }),
        id_(++pool.owner_.last_id_) {
    ClusterState& cluster = *pool.cluster_;
    const Cluster& config = cluster.config();
    ticket_.emplace(pool.cluster_, pool.host_, pool.priority_);
    timer_.arm(config.connect_timeout);
    http::ClientLimits limits = clientLimits(config);
    limits.streams_before_settings = std::min(limits.streams_before_settings, pool.peer_streams_);
    client_ = http::ClientConnection::start(
        loop(), cluster.connect(*pool.host_, pool.greeting(), alpnOf(pool.protocol_)),
        pool.protocol_, limits, *this);
  }

  void onConnected(http::ClientConnection& connection) override {
    connecting_ = false;
    timer_.cancel();
    if (ticket_) {
      ticket_->connected();
      ClusterStats& stats = ticket_->cluster().stats();
      (connection.multiplexes() ? stats.upstream_cx_http2_total : stats.upstream_cx_http1_total)
          .add();
    }
    local_ = connection.transport().local().toString();
    const net::PeerInfo& peer = connection.transport().peer();
    if (peer.tls) tls_ = std::make_shared<const formatter::UpstreamTls>(peer);
    if (pool_ == nullptr) return client_->drain();
    const auto duration = pool_->cluster_->config().connection_duration_max;
    if (duration.count() > 0) {
      end_ = std::make_unique<event::Timer>(loop_, [this] { tooOld(); });
      end_->arm(duration);
    }
    pool_->connected(*this);
  }
  void onAvailable(http::ClientConnection&) override {
    if (pool_ != nullptr && !spent_) pool_->available(*this);
  }
  void onH2Event(http::H2Event event) override {
    if (!ticket_) return;
    ClusterStats& stats = ticket_->cluster().stats();
    if (event == http::H2Event::kProtocolError)
      return stats.scope.counter("upstream_cx_protocol_error").add();
    stats.http2.add(event);
  }
  void onDraining(http::ClientConnection&) override {
    if (pool_ != nullptr) pool_->unready(*this);
  }
  void onClosed(http::ClientConnection&, base::Error error) override {
    timer_.cancel();
    end_.reset();
    HostPool* pool = std::exchange(pool_, nullptr);
    event::Loop& loop = loop_;
    PoolFailure failure = PoolFailure::kConnectFailure;
    if (timed_out_) {
      failure = PoolFailure::kConnectTimeout;
      error = {base::Errc::kTimeout, "connection timeout"};
    }
    const bool was_connecting = connecting_;
    if (was_connecting && ticket_) {
      ticket_->failed(timed_out_ ? UpstreamTicket::Failure::kTimeout
                                 : UpstreamTicket::Failure::kRefused);
    }
    ticket_.reset();
    loop.destroyLater(std::unique_ptr<event::Deferred>(this));
    if (pool != nullptr) pool->closed(*this, was_connecting, failure, error);
  }

  /// Counts a request; false when the connection may take no further one.
  bool used() {
    ++requests_;
    if (pool_ == nullptr) return false;
    const std::uint32_t most = pool_->cluster_->config().requests_per_connection_max;
    if (most == 0 || requests_ < most) return true;
    pool_->cluster_->stats().scope.counter("upstream_cx_max_requests").add();
    spent_ = true;
    return false;
  }
  /// The peer ended an idle connection, or sent on it what nobody asked for.
  bool dead() {
    if (client_->activeStreams() > 0) return false;
    char byte = 0;
    const int fd = client_->transport().fd();
    if (fd < 0) return false;
    const ssize_t got = ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0) return errno != EAGAIN && errno != EINTR;
    // Bytes may be a TLS ticket or an HTTP/2 PING: only on plain HTTP/1 they are out of place.
    return got == 0 || (!client_->multiplexes() && !client_->transport().peer().tls);
  }
  /// Free now: the idle time begins. The timer follows lazily, so that a busy connection costs
  /// none.
  void parked() {
    idle_since_ = loop_.now();
    const auto idle = pool_->cluster_->config().idle_timeout;
    if (idle.count() > 0 && !timer_.armed()) timer_.arm(idle);
  }
  void forgetPool() { pool_ = nullptr; }
  http::ClientConnection& client() { return *client_; }
  PooledConnection facts() { return {*client_, local_, id_, client_->multiplexes(), tls_}; }
  bool connecting() const { return connecting_; }
  bool ready = false;  // listed as ready

 private:
  event::Loop& loop() { return loop_; }
  void tooOld() {
    if (pool_ == nullptr) return;
    pool_->cluster_->stats().scope.counter("upstream_cx_max_duration_reached").add();
    spent_ = true;
    pool_->unready(*this);
    client_->drain();
  }
  void onTimer() {
    if (connecting_) {
      timed_out_ = true;
      return client_->close();
    }
    if (pool_ == nullptr || client_->activeStreams() > 0) return;
    const auto idle = pool_->cluster_->config().idle_timeout;
    const base::Duration left = idle_since_ + idle - loop_.now();
    if (left > base::Duration::zero()) return timer_.arm(left);
    pool_->cluster_->stats().scope.counter("upstream_cx_idle_timeout").add();
    client_->close();
  }

  HostPool* pool_;                              // null: the pool is gone
  const ClusterPtr cluster_ = pool_->cluster_;  // whose statistics a handshake is counted in
  event::Loop& loop_ = pool_->owner_.loop_;
  event::Timer timer_;                 // connect timeout, then idle timeout
  std::unique_ptr<event::Timer> end_;  // of max_connection_duration
  std::optional<UpstreamTicket> ticket_;
  http::ClientConnection* client_ = nullptr;
  std::string local_;
  std::shared_ptr<const formatter::UpstreamTls> tls_;
  const std::uint64_t id_;
  std::uint64_t requests_ = 0;
  base::MonotonicTime idle_since_{};
  bool connecting_ = true;
  bool timed_out_ = false;
  bool spent_ = false;
};

UpstreamPool::HostPool::~HostPool() {
  while (nextWaiter() != nullptr) {
  }
  for (Connection* each : all_) each->forgetPool();
  const std::vector<Connection*> all = std::move(all_);
  for (Connection* each : all) each->client().close();
}

UpstreamPool::Waiter* UpstreamPool::HostPool::nextWaiter() {
  Waiter* waiter = waiting_.popFront();
  if (waiter != nullptr) waiterGone();
  return waiter;
}

void UpstreamPool::HostPool::waiterGone() {
  --waiting_count_;
  cluster_->give(Resource::kPending, priority_);
  cluster_->stats().upstream_rq_pending_active.sub();
}

void UpstreamPool::HostPool::acquire(Waiter& waiter, Idle idle) {
  while (!ready_.empty()) {
    Connection& connection = *ready_.back();
    if (!connection.client().canOpen()) {
      unready(connection);
      continue;
    }
    if (idle == Idle::kTrusted || !connection.dead()) return give(connection, waiter);
    unready(connection);
    connection.client().close();
  }
  if (!cluster_->tryTake(Resource::kPending, priority_)) {
    cluster_->stats().upstream_rq_pending_overflow.add();
    return waiter.onFailed(PoolFailure::kPendingOverflow, kOverflow);
  }
  cluster_->stats().upstream_rq_pending_total.add();
  cluster_->stats().upstream_rq_pending_active.add();
  ++waiting_count_;
  waiter.pool_ = this;
  waiting_.pushBack(waiter);
  connectIfNeeded();
}

void UpstreamPool::HostPool::connectIfNeeded() {
  const std::size_t wanted =
      multiplexes_ ? std::min<std::size_t>(1, waiting_count_) : waiting_count_;
  if (connecting_ >= wanted) return;
  // A pool without any connection may always open one: else its requests would wait for ever.
  if (!all_.empty() && !cluster_->available(Resource::kConnections, priority_)) {
    cluster_->stats().upstream_cx_overflow.add();
    return;
  }
  ++connecting_;
  auto* connection = new Connection(*this);  // destroys itself when closed
  all_.push_back(connection);
}

void UpstreamPool::HostPool::give(Connection& connection, Waiter& waiter) {
  if (!cluster_->available(Resource::kRequests, priority_)) {
    cluster_->stats().scope.counter("upstream_rq_active_overflow").add();
    return waiter.onFailed(PoolFailure::kRequestOverflow, kOverflow);
  }
  const bool more = connection.used();
  http::ClientConnection& client = connection.client();
  if (!client.multiplexes() || !more) unready(connection);
  prefetchNext();
  waiter.onReady(connection.facts());
  if (!more) client.drain();  // ends it when its requests are over
}

/// Of the connections that will be given next.
void UpstreamPool::HostPool::prefetchNext() const {
  const std::size_t count = ready_.size();
  if (count < 2) return;
  base::prefetch(ready_[count - 2], sizeof(Connection));
  base::prefetch(&ready_[count - 1]->client(), http::kStreamBytes);
}

void UpstreamPool::HostPool::serveWaiting() {
  while (!ready_.empty() && !waiting_.empty()) {
    Connection& connection = *ready_.back();
    if (!connection.client().canOpen()) {
      unready(connection);
      continue;
    }
    give(connection, *nextWaiter());
  }
  if (!waiting_.empty()) connectIfNeeded();
}

void UpstreamPool::HostPool::connected(Connection& connection) {
  --connecting_;
  multiplexes_ = connection.client().multiplexes();
  available(connection);
}

void UpstreamPool::HostPool::available(Connection& connection) {
  if ((host_->removed || retired_) && waiting_.empty()) {
    unready(connection);
    return connection.client().drain();
  }
  peer_streams_ = connection.client().streamsMax();
  if (!connection.ready && connection.client().canOpen()) {
    connection.ready = true;
    ready_.push_back(&connection);
  }
  if (connection.ready && connection.client().activeStreams() == 0) connection.parked();
  serveWaiting();
}

void UpstreamPool::HostPool::unready(Connection& connection) {
  if (!connection.ready) return;
  connection.ready = false;
  // Mostly the one at the back.
  const auto it = std::find(ready_.rbegin(), ready_.rend(), &connection);
  if (it != ready_.rend()) ready_.erase(std::next(it).base());
}

void UpstreamPool::HostPool::closed(Connection& connection, bool was_connecting,
                                    PoolFailure failure, base::Error error) {
  unready(connection);
  std::erase(all_, &connection);
  if (was_connecting) --connecting_;
  if (was_connecting && connecting_ == 0) {
    // Nobody else would serve them: they fail together. A waiter may come back at once and wait
    // again; it belongs to the next round.
    for (std::size_t left = waiting_count_; left > 0; --left) {
      Waiter* waiter = nextWaiter();
      if (waiter == nullptr) break;
      cluster_->stats().upstream_rq_pending_failure_eject.add();
      waiter->onFailed(failure, error);
    }
  }
  // While others still connect, a failure is not answered by one more attempt: they decide.
  if (waiting_count_ > 0 && !(was_connecting && connecting_ > 0)) connectIfNeeded();
  if (over()) owner_.forget_.schedule();
}

void UpstreamPool::HostPool::drain() {
  const std::vector<Connection*> all = all_;
  for (Connection* each : all) {
    if (each->connecting()) continue;
    unready(*each);
    each->client().drain();
  }
}

// ---- UpstreamPool ----

UpstreamPool::UpstreamPool(event::Loop& loop)
    : loop_(loop), forget_(loop, [this] { forgetEmpty(); }) {}

UpstreamPool::~UpstreamPool() {
  pools_.clear();
  retired_.clear();
}

void UpstreamPool::acquire(const ClusterPtr& cluster, const HostPtr& host, http::Protocol protocol,
                           RoutingPriority priority, Idle idle, const ConnectionFacts& downstream,
                           Waiter& waiter) {
  Key key{host.get(),
          static_cast<unsigned char>(static_cast<unsigned>(protocol) * 2 +
                                     static_cast<unsigned>(priority)),
          cluster->greeting(*host, downstream)};
  std::unique_ptr<HostPool>& pool = pools_[key];
  if (pool == nullptr || pool->retired()) {
    const bool is_private = !key.greeting.empty();
    if (is_private) has_private_ = true;
    if (pool != nullptr) retired_.push_back(std::move(pool));
    pool = std::make_unique<HostPool>(*this, cluster, host, protocol, priority,
                                      std::move(key.greeting), is_private ? &downstream : nullptr);
  }
  pool->acquire(waiter, idle);
}

void UpstreamPool::downstreamGone(const ConnectionFacts& downstream) {
  if (!has_private_) return;
  for (auto& [key, pool] : pools_) {
    if (pool->downstream() == &downstream) pool->retire();
  }
  forgetEmpty();
}

void UpstreamPool::cancel(Waiter& waiter) {
  if (!waiter.linked()) return;
  waiter.unlink();
  waiter.pool_->waiterGone();
}

void UpstreamPool::hostRemoved(const HostPtr& host) {
  for (auto& [key, pool] : pools_) {
    if (pool->host() == host) pool->drain();
  }
  forgetEmpty();
}

void UpstreamPool::forgetEmpty() {
  std::erase_if(pools_, [](const auto& each) { return each.second->over(); });
  std::erase_if(retired_, [](const auto& each) { return each->over(); });
}

}  // namespace postern::proxy
