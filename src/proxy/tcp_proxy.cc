#include "proxy/tcp_proxy.h"

#include "net/splice_way.h"
#include "proxy/connection_log.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>

namespace postern::proxy {

namespace {

constexpr std::size_t kCopiedBytes = 64 * 1024;
/// A read of so many bytes makes its direction go by splice; shorter ones are cheaper copied.
constexpr std::size_t kSpliceFromBytes = 16 * 1024;
/// After so many turns of little the direction is copied again.
constexpr int kSmallTurnsMax = 16;
/// What a direction copies before others come first.
constexpr std::size_t kCopiedBytesPerTurn = 1 << 20;

struct TcpStats {
  explicit TcpStats(stats::Scope& scope)
      : cx_total(scope.counter("downstream_cx_total")),
        cx_no_route(scope.counter("downstream_cx_no_route")),
        rx_bytes(scope.counter("downstream_cx_rx_bytes_total")),
        tx_bytes(scope.counter("downstream_cx_tx_bytes_total")),
        early_data(scope.counter("early_data_received_count_total")),
        idle_timeout(scope.counter("idle_timeout")),
        duration(scope.counter("max_downstream_connection_duration")) {}
  stats::Counter& cx_total;
  stats::Counter& cx_no_route;
  stats::Counter& rx_bytes;
  stats::Counter& tx_bytes;
  stats::Counter& early_data;
  stats::Counter& idle_timeout;
  stats::Counter& duration;
};

/// Two ends and what is under way between them. A direction reads only when what it read before is
/// written, so neither side can make us hold more than one piece each way: in a buffer, or in a
/// pipe once a direction carries much and both ends are plain sockets.
class TcpPipe final : public DownstreamConnection, public event::Deferred {
 public:
  TcpPipe(Worker& worker, const TcpProxy& config, std::unique_ptr<net::Transport> client,
          ConnectionFacts facts)
      : worker_(worker),
        config_(config),
        facts_(std::move(facts)),
        stats_(worker.stats().scope("tcp." + config.stat_prefix + ".")),
        piece_bytes_(std::min(facts_.listener->buffer_bytes_max, kCopiedBytes)),
        piped_bytes_(std::min(facts_.listener->buffer_bytes_max, net::PipedBytes::kPieceBytes)),
        client_(*this, Name::kClient),
        server_(*this, Name::kServer),
        end_failed_(worker.loop(), [this] { failed_.clear(); }),
        connect_(worker.loop(), [this] { onConnectTimer(); }),
        idle_(worker.loop(), [this] { checkIdle(); }),
        duration_(worker.loop(), [this] {
          stats_.duration.add();
          finish({formatter::Flag::kDurationTimeout});
        }) {
    client_.transport = std::move(client);
    client_.ready = true;
    client_.transport->setObserver(&client_);
    describe();
    stats_.cx_total.add();
    worker_.remember(*this, facts_);
    touch();
    if (config_.idle_timeout.count() != 0) idle_.arm(config_.idle_timeout);
    if (config_.duration_max.count() != 0) duration_.arm(durationMax());
    if (config_.connect_mode == ConnectMode::kImmediate) connect();
  }
  void close() override { finish({}); }

 private:
  enum class Name : unsigned char { kClient, kServer };
  struct Side final : net::TransportObserver {
    Side(TcpPipe& owner, Name which) : pipe(owner), name(which) {}
    void onConnected() override { pipe.connected(*this); }
    void onReadable() override { pipe.readable(*this); }
    void onWritable() override {
      Side& from = pipe.other(*this);
      from.stuck = false;
      pipe.move(from);
    }
    void onError(base::Error error) override { pipe.broken(*this, error); }
    TcpPipe& pipe;
    const Name name;
    std::unique_ptr<net::Transport> transport;
    base::Buffer waiting;                    // read here, not yet written to the other side
    std::unique_ptr<net::SpliceWay> splice;  // instead, while this direction carries much
    int small_turns = 0;                     // of splice, one after the other
    std::uint64_t bytes = 0;
    bool stuck = false;  // what is in its pipe waits for room at the other side
    bool ready = false;
    bool ended = false;
    bool shut = false;
  };

  Side& other(Side& side) { return side.name == Name::kClient ? server_ : client_; }
  event::Loop& loop() { return worker_.loop(); }

  void describe() {
    record_.start = loop().clock().wall();
    started_ = loop().now();
    record_.downstream_local = record_.keep(facts_.destination.toString());
    record_.downstream_remote = record_.keep(facts_.source.toString());
    record_.downstream_direct_remote = record_.keep(facts_.direct_source.toString());
    record_.server_name = facts_.server_name;
    record_.filter_chain = facts_.chain->name;
  }

  base::Duration durationMax() {
    const auto jitter = static_cast<std::uint64_t>(
        static_cast<double>(config_.duration_max.count()) * config_.duration_jitter_percent / 100);
    return config_.duration_max + std::chrono::milliseconds(worker_.clusters().random(jitter + 1));
  }

  // ---- the upstream connection ----

  void connect() {
    connecting_ = true;
    const std::string& name = config_.cluster_from_sni && !facts_.server_name.empty()
                                  ? facts_.server_name
                                  : worker_.clusters().choose(config_.clusters);
    cluster_ = worker_.clusters().find(name);
    if (cluster_ == nullptr) {
      record_.upstream_observed = {};
      stats_.cx_no_route.add();
      return finish({formatter::Flag::kNoClusterFound});
    }
    record_.upstream_cluster = name;
    record_.upstream_observed = cluster_->observedName();
    if (!cluster_->available(Resource::kConnections)) {
      cluster_->stats().upstream_cx_overflow.add();
      return finish({formatter::Flag::kUpstreamOverflow});
    }
    PickRequest request;
    // Only a destination that was restored is somewhere else than here.
    if (facts_.restored) request.original = &facts_.destination;
    HostPtr host = cluster_->pick(request);
    if (host == nullptr) return finish({formatter::Flag::kNoHealthyUpstream});
    ++attempts_;
    record_.upstream_host = record_.keep(host->address.toString());
    ++host->rq_total;
    ++host->rq_active;
    ticket_.emplace(cluster_, host);
    server_.transport = cluster_->connect(*host, cluster_->greeting(*host, facts_));
    server_.transport->setObserver(&server_);
    connect_.arm(cluster_->config().connect_timeout);
  }

  void connected(Side& side) {
    if (side.name == Name::kClient) return;
    side.ready = true;
    connect_.cancel();
    ticket_->connected();
    ticket_->cluster().stats().upstream_rq_total.add();
    record_.upstream_local = side.transport->local().toString();
    if (side.transport->peer().tls)
      record_.upstream_tls = std::make_shared<const formatter::UpstreamTls>(side.transport->peer());
    touch();
    move(client_);
  }

  /// The connect timeout, or the wait before another attempt.
  void onConnectTimer() {
    if (!ticket_) return connect();
    ticket_->failed(UpstreamTicket::Failure::kTimeout);
    connectFailed({});  // there is no transport to tell of
  }

  void broken(Side& side, const base::Error& error) {
    if (side.name == Name::kServer && !side.ready) {
      ticket_->failed(UpstreamTicket::Failure::kRefused);
      const char* text = error.sys != 0 ? std::strerror(error.sys) : error.text;
      return connectFailed(std::string("delayed connect error: ") + text);
    }
    // A handshake that failed reset nothing.
    if (side.name == Name::kClient && error.sys == 0) return finish({});
    abort(side);
  }

  /// One end is gone without a proper end: the other shall see that too.
  void abort(Side& side) {
    Side& to = other(side);
    if (to.transport != nullptr) to.transport->resetOnClose();
    finish({side.name == Name::kServer ? formatter::Flag::kUpstreamRemoteReset
                                       : formatter::Flag::kDownstreamRemoteReset});
  }

  void connectFailed(const std::string& failure) {
    ClusterStats& stats = ticket_->cluster().stats();
    release();
    connect_.cancel();
    server_.transport->setObserver(nullptr);
    if (attempts_ >= config_.connect_attempts_max) {
      stats.scope.counter("upstream_cx_connect_attempts_exceeded").add();
      record_.failure = record_.keep(failure);
      return finish({formatter::Flag::kUpstreamConnectionFailure,
                     formatter::Flag::kUpstreamRetryLimitExceeded});
    }
    // Ended at once, but a frame of it may still be running.
    failed_.push_back(std::move(server_.transport));
    end_failed_.schedule();
    if (config_.backoff_base.count() == 0) return connect();
    connect_.arm(backoff());
  }

  /// Before attempt n + 1: by chance between 0 and base * (2^n - 1), at most the maximum.
  base::Duration backoff() {
    constexpr std::uint32_t kDoublingsMax = 20;
    const auto base = static_cast<std::uint64_t>(config_.backoff_base.count());
    const std::uint64_t most = base * ((1ULL << std::min(attempts_, kDoublingsMax)) - 1);
    const std::uint64_t wait = worker_.clusters().random(most + 1);
    return std::min(std::chrono::milliseconds(wait), config_.backoff_max);
  }

  void release() {
    if (!ticket_) return;
    --ticket_->host().rq_active;
    ticket_.reset();
  }

  // ---- bytes ----

  void readable(Side& side) {
    if (side.name == Name::kClient && !server_.ready && config_.early_bytes_max != 0)
      return readEarly();
    move(side);
  }

  /// Before the upstream connection is there: what comes is kept up to a limit, and is what some
  /// connections wait for before they are passed on at all.
  void readEarly() {
    const std::size_t room =
        config_.early_bytes_max - std::min(config_.early_bytes_max, client_.waiting.size());
    if (room == 0) return;
    const net::IoResult got = client_.transport->read(client_.waiting, room);
    if (got.status == net::IoStatus::kError) return abort(client_);
    if (got.status == net::IoStatus::kEof) client_.ended = true;
    if (got.bytes != 0) {
      if (client_.bytes == 0) stats_.early_data.add();
      count(client_, got.bytes);
    }
    if (client_.ended && client_.waiting.empty()) return finish({});
    if (!connecting_ && config_.connect_mode == ConnectMode::kOnData && got.bytes != 0) connect();
  }

  void touch() { active_ = loop().now(); }

  void count(Side& from, std::size_t bytes) {
    if (bytes == 0) return;
    from.bytes += bytes;
    touch();
    const bool up = from.name == Name::kClient;
    (up ? stats_.rx_bytes : stats_.tx_bytes).add(bytes);
    if (!ticket_) {
      early_bytes_ += bytes;
      return;
    }
    ClusterStats& stats = ticket_->cluster().stats();
    (up ? stats.upstream_cx_tx_bytes_total : stats.upstream_cx_rx_bytes_total)
        .add(bytes + std::exchange(early_bytes_, 0));
  }

  void checkIdle() {
    const base::Duration idle = loop().now() - active_;
    if (idle < config_.idle_timeout) return idle_.arm(config_.idle_timeout - idle);
    stats_.idle_timeout.add();
    finish({});
  }

  static bool isPlain(const Side& side) {
    return side.transport->fd() >= 0 && !side.transport->peer().tls;
  }

  /// Moves what can be moved from one side to the other.
  void move(Side& from) {
    Side& to = other(from);
    const std::uint64_t bytes_max = from.bytes + kCopiedBytesPerTurn;
    while (!done_ && to.ready && from.ready && !from.shut) {
      if (from.bytes >= bytes_max && from.splice == nullptr) return from.transport->resumeRead();
      if (from.splice != nullptr ? !moveInKernel(from, to) : !moveByCopy(from, to)) return;
    }
    finishWhenSent();
  }

  /// Both directions ended, and nobody's last bytes are still here.
  void finishWhenSent() {
    if (client_.shut && server_.shut && !client_.transport->unsent() &&
        !server_.transport->unsent())
      finish({});
  }

  /// False: nothing more can be done now.
  bool moveByCopy(Side& from, Side& to) {
    bool drained = false;  // the next report comes with new bytes
    if (from.waiting.empty() && !from.ended) {
      const net::IoResult got = from.transport->read(from.waiting, piece_bytes_);
      count(from, got.bytes);
      if (got.status == net::IoStatus::kEof) from.ended = true;
      if (got.status == net::IoStatus::kError) return abort(from), false;
      if (got.status == net::IoStatus::kAgain && from.waiting.empty()) return false;
      drained = got.status == net::IoStatus::kOk && got.bytes < piece_bytes_;
      if (got.bytes >= kSpliceFromBytes && !copies_ && isPlain(from) && isPlain(to)) {
        from.splice = std::make_unique<net::SpliceWay>();
        from.small_turns = 0;
      }
    }
    if (!flush(from, to)) return false;
    if (from.ended) end(from, to);
    return !drained;
  }

  /// Writes what was copied; false: not all of it.
  bool flush(Side& from, Side& to) {
    if (from.waiting.empty()) return true;
    const net::IoResult put = to.transport->write(from.waiting);
    if (put.bytes != 0) touch();
    if (put.status == net::IoStatus::kError) return abort(to), false;
    return from.waiting.empty();
  }

  bool moveInKernel(Side& from, Side& to) {
    using Moved = net::SpliceWay::Moved;
    if (from.stuck || !flush(from, to)) return false;
    if (from.ended) return end(from, to), true;
    const auto [moved, bytes, written] =
        from.splice->move(from.transport->fd(), to.transport->fd(), worker_.pipes(), piped_bytes_);
    count(from, bytes);
    if (written != 0) touch();
    switch (moved) {
      case Moved::kReadWaits:
        from.small_turns = bytes < kSpliceFromBytes / 4 ? from.small_turns + 1 : 0;
        if (from.small_turns >= kSmallTurnsMax) from.splice.reset();
        return false;
      case Moved::kWriteWaits:
        from.stuck = true;
        to.transport->awaitWritable();
        return false;
      case Moved::kMore:
        from.transport->resumeRead();
        return false;
      case Moved::kEnded:
        from.ended = true;
        end(from, to);
        return true;
      case Moved::kNoPipe:
        from.splice.reset();
        copies_ = true;
        return true;
      case Moved::kFailed:
        break;
    }
    // Only a write that failed leaves bytes behind.
    return abort(from.splice->held() != 0 ? to : from), false;
  }

  static void end(Side& from, Side& to) {
    to.transport->shutdownWrite();
    from.shut = true;
  }

  void finish(std::initializer_list<formatter::Flag> flags) {
    if (done_) return;
    done_ = true;
    worker_.forget(*this);
    connect_.cancel();
    idle_.cancel();
    duration_.cancel();
    release();
    for (Side* side : {&client_, &server_}) {
      if (side->transport) side->transport->setObserver(nullptr);
      if (side->splice) side->splice->release();
    }
    for (const formatter::Flag flag : flags) record_.flags.set(flag);
    record_.downstream_peer = &client_.transport->peer();  // only now: it comes with the handshake
    record_.attempts = attempts_;
    record_.bytes_received = client_.bytes;
    record_.bytes_sent = server_.bytes;
    record_.at.request_begin = started_;
    record_.at.response_end = loop().now();
    worker_.log(config_.logs, record_);
    if (!facts_.listener->logs.empty()) {
      describeEnd(*client_.transport, record_);
      worker_.log(facts_.listener->logs, record_);
    }
    loop().destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  Worker& worker_;
  const TcpProxy& config_;  // kept alive by facts_.chain
  const ConnectionFacts facts_;
  TcpStats stats_;
  const std::size_t piece_bytes_;  // copied at once
  const std::size_t piped_bytes_;  // spliced at once
  Side client_;
  Side server_;
  ClusterPtr cluster_;  // of the last attempt
  std::optional<UpstreamTicket> ticket_;
  std::vector<std::unique_ptr<net::Transport>> failed_;
  event::Soon end_failed_;
  event::Timer connect_;
  event::Timer idle_;
  event::Timer duration_;
  formatter::AccessRecord record_;
  base::MonotonicTime started_{};
  base::MonotonicTime active_{};
  std::uint64_t early_bytes_ = 0;  // counted upstream once there is a connection
  std::uint32_t attempts_ = 0;
  bool connecting_ = false;
  bool copies_ = false;  // there was no pipe to be had
  bool done_ = false;
};

}  // namespace

void startTcpProxy(Worker& worker, const TcpProxy& config, std::unique_ptr<net::Transport> client,
                   ConnectionFacts facts) {
  new TcpPipe(worker, config, std::move(client), std::move(facts));  // destroys itself
}

void showTcpStats(Worker& worker, const TcpProxy& config) {
  (void)TcpStats(worker.stats().scope("tcp." + config.stat_prefix + "."));
}

}  // namespace postern::proxy
