#include "proxy/tcp_proxy.h"

#include <algorithm>
#include <initializer_list>
#include <optional>

namespace postern::proxy {

namespace {

constexpr std::size_t kPieceBytes = 64 * 1024;

struct TcpStats {
  explicit TcpStats(StatsScope& scope)
      : cx_total(scope.counter("downstream_cx_total")),
        cx_no_route(scope.counter("downstream_cx_no_route")),
        rx_bytes(scope.counter("downstream_cx_rx_bytes_total")),
        tx_bytes(scope.counter("downstream_cx_tx_bytes_total")),
        idle_timeout(scope.counter("idle_timeout")),
        duration(scope.counter("max_downstream_connection_duration")) {}
  Counter& cx_total;
  Counter& cx_no_route;
  Counter& rx_bytes;
  Counter& tx_bytes;
  Counter& idle_timeout;
  Counter& duration;
};

/// Two ends and a buffer each way; a direction reads only when its buffer is empty, so neither side
/// can make us hold more than one piece.
class TcpPipe final : public DownstreamConnection, public event::Deferred {
 public:
  TcpPipe(Worker& worker, const TcpProxy& config, std::unique_ptr<net::Transport> client,
          ConnectionFacts facts)
      : worker_(worker),
        config_(config),
        facts_(std::move(facts)),
        stats_(worker.stats().scope("tcp." + config.stat_prefix + ".")),
        piece_bytes_(std::clamp<std::size_t>(facts_.listener->buffer_bytes_max, 1, kPieceBytes)),
        client_(*this, Name::kClient),
        server_(*this, Name::kServer),
        deadline_(worker.loop(), [this] { connectTimedOut(); }),
        idle_(worker.loop(), [this] { checkIdle(); }),
        duration_(worker.loop(), [this] {
          stats_.duration.add();
          finish({}, "max connection duration reached");
        }) {
    client_.transport = std::move(client);
    client_.ready = true;
    client_.transport->setObserver(&client_);
    record_.start = worker_.loop().clock().wall();
    started_ = worker_.loop().now();
    record_.downstream_local = facts_.destination.toString();
    record_.downstream_remote = facts_.source.toString();
    record_.server_name = facts_.server_name;
    record_.downstream_direct_remote = record_.downstream_remote;
    record_.filter_chain = facts_.chain->name;
    stats_.cx_total.add();
    worker_.remember(*this, facts_);
    if (config_.duration_max.count() != 0) duration_.arm(config_.duration_max);
    connect();
  }
  void close() override { finish({}, ""); }

 private:
  enum class Name : unsigned char { kClient, kServer };
  struct Side final : net::TransportObserver {
    Side(TcpPipe& owner, Name which) : pipe(owner), name(which) {}
    void onConnected() override { pipe.connected(*this); }
    void onReadable() override { pipe.move(*this); }
    void onWritable() override { pipe.move(pipe.other(*this)); }
    void onError(base::Error error) override { pipe.broken(*this, error); }
    TcpPipe& pipe;
    const Name name;
    std::unique_ptr<net::Transport> transport;
    base::Buffer waiting;  // read here, not yet written to the other side
    std::uint64_t bytes = 0;
    bool ready = false;
    bool ended = false;
    bool shut = false;
  };

  Side& other(Side& side) { return side.name == Name::kClient ? server_ : client_; }

  void connect() {
    const std::string& name = config_.cluster_from_sni && !facts_.server_name.empty()
                                  ? facts_.server_name
                                  : worker_.clusters().choose(config_.clusters);
    record_.upstream_cluster = name;
    ClusterState* cluster = worker_.clusters().find(name);
    if (cluster == nullptr) {
      stats_.cx_no_route.add();
      return finish({Flag::kNoClusterFound}, "");
    }
    if (!cluster->available(Resource::kConnections)) {
      cluster->stats().upstream_cx_overflow.add();
      return finish({Flag::kUpstreamOverflow}, "");
    }
    ++attempts_;
    PickRequest request;
    request.original = &facts_.destination;
    HostPtr host = cluster->pick(request);
    if (host == nullptr) return finish({Flag::kNoHealthyUpstream}, "");
    record_.upstream_host = host->address.toString();
    cluster->stats().upstream_rq_total.add();
    ++host->rq_total;
    ++host->rq_active;
    ticket_.emplace(*cluster, host);
    server_.transport = cluster->connect(*host);
    server_.transport->setObserver(&server_);
    deadline_.arm(cluster->config().connect_timeout);
  }

  void connected(Side& side) {
    if (side.name != Name::kServer) return;
    side.ready = true;
    deadline_.cancel();
    ticket_->connected();
    record_.upstream_local = side.transport->local().toString();
    touch();
    if (config_.idle_timeout.count() != 0) idle_.arm(config_.idle_timeout);
    move(client_);
  }

  void connectTimedOut() {
    ticket_->failed(UpstreamTicket::Failure::kTimeout);
    connectFailed("connection timeout");
  }

  void broken(Side& side, const base::Error& error) {
    if (side.name == Name::kServer && !side.ready) {
      ticket_->failed(UpstreamTicket::Failure::kRefused);
      return connectFailed(error.message());
    }
    finish({}, error.message());
  }

  void connectFailed(const std::string& failure) {
    release();
    deadline_.cancel();
    server_.transport->setObserver(nullptr);
    if (attempts_ >= config_.connect_attempts_max) {
      record_.failure = failure;
      return finish({Flag::kUpstreamConnectionFailure, Flag::kUpstreamRetryLimitExceeded}, "");
    }
    failed_.push_back(std::move(server_.transport));  // destroyed when no frame of it is left
    connect();
  }

  void release() {
    if (!ticket_) return;
    --ticket_->host().rq_active;
    ClusterStats& stats = ticket_->cluster().stats();
    stats.upstream_cx_tx_bytes_total.add(client_.bytes);
    stats.upstream_cx_rx_bytes_total.add(server_.bytes);
    ticket_.reset();
  }

  void touch() { active_ = worker_.loop().now(); }

  void checkIdle() {
    const base::Duration idle = worker_.loop().now() - active_;
    if (idle < config_.idle_timeout) return idle_.arm(config_.idle_timeout - idle);
    stats_.idle_timeout.add();
    finish({}, "idle timeout");
  }

  /// Moves what can be moved from one side to the other.
  void move(Side& from) {
    Side& to = other(from);
    while (!done_ && to.ready && from.ready && !from.shut) {
      if (from.waiting.empty() && !from.ended) {
        const net::IoResult got = from.transport->read(from.waiting, piece_bytes_);
        from.bytes += got.bytes;
        if (got.bytes != 0) touch();
        if (got.status == net::IoStatus::kEof) from.ended = true;
        if (got.status == net::IoStatus::kError) return finish({}, "");
        if (got.status == net::IoStatus::kAgain && from.waiting.empty()) return;
      }
      if (!from.waiting.empty()) {
        const net::IoResult put = to.transport->write(from.waiting);
        if (put.bytes != 0) touch();
        if (put.status == net::IoStatus::kError) return finish({}, "");
        if (!from.waiting.empty()) return;
      }
      if (from.ended) {
        to.transport->shutdownWrite();
        from.shut = true;
      }
    }
    if (client_.shut && server_.shut) finish({}, "");
  }

  void finish(std::initializer_list<Flag> flags, std::string_view details) {
    if (done_) return;
    done_ = true;
    worker_.forget(*this);
    deadline_.cancel();
    idle_.cancel();
    duration_.cancel();
    release();
    for (Side* side : {&client_, &server_}) {
      if (side->transport) side->transport->setObserver(nullptr);
    }
    for (const Flag flag : flags) record_.flags.set(flag);
    record_.termination = details;
    record_.bytes_received = client_.bytes;
    record_.bytes_sent = server_.bytes;
    stats_.rx_bytes.add(client_.bytes);
    stats_.tx_bytes.add(server_.bytes);
    record_.at.request_begin = started_;
    record_.at.response_end = worker_.loop().now();
    worker_.log(config_.logs, record_);
    worker_.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  Worker& worker_;
  const TcpProxy& config_;  // kept alive by facts_.chain
  const ConnectionFacts facts_;
  TcpStats stats_;
  const std::size_t piece_bytes_;
  Side client_;
  Side server_;
  std::optional<UpstreamTicket> ticket_;
  std::vector<std::unique_ptr<net::Transport>> failed_;
  event::Timer deadline_;
  event::Timer idle_;
  event::Timer duration_;
  AccessRecord record_;
  base::MonotonicTime started_{};
  base::MonotonicTime active_{};
  std::uint32_t attempts_ = 0;
  bool done_ = false;
};

}  // namespace

void startTcpProxy(Worker& worker, const TcpProxy& config, std::unique_ptr<net::Transport> client,
                   ConnectionFacts facts) {
  new TcpPipe(worker, config, std::move(client), std::move(facts));  // destroys itself
}

}  // namespace postern::proxy
