#include "proxy/tcp_proxy.h"

namespace postern::proxy {

namespace {

constexpr std::size_t kPieceBytes = 64 * 1024;

/// Two ends and a buffer each way; a direction reads only when its buffer is empty.
class TcpPipe final : public DownstreamConnection, public event::Deferred {
 public:
  TcpPipe(Worker& worker, const TcpProxy& config, std::unique_ptr<net::Transport> client,
          ConnectionFacts facts)
      : worker_(worker),
        config_(config),
        client_(*this, client_name_),
        server_(*this, server_name_),
        deadline_(worker.loop(),
                  [this] { finish(Flag::kUpstreamConnectionFailure, "connection timeout"); }) {
    client_.transport = std::move(client);
    client_.ready = true;
    client_.transport->setObserver(&client_);
    record_.start = std::chrono::system_clock::now();
    started_ = worker.loop().now();
    record_.downstream_local = facts.destination.toString();
    record_.downstream_remote = client_.transport->remote().toString();
    record_.server_name = facts.server_name;
    worker_.remember(*this);
    connect(facts);
  }
  void close() override { finish(std::nullopt, ""); }

 private:
  enum class Name : unsigned char { kClient, kServer };
  struct Side final : net::TransportObserver {
    Side(TcpPipe& owner, Name which) : pipe(owner), name(which) {}
    void onConnected() override { pipe.connected(*this); }
    void onReadable() override { pipe.move(*this); }
    void onWritable() override { pipe.move(pipe.other(*this)); }
    void onError(base::Error error) override {
      const bool failed = name == Name::kServer && !ready;
      pipe.finish(failed ? std::optional(Flag::kUpstreamConnectionFailure) : std::nullopt,
                  error.message());
    }
    TcpPipe& pipe;
    Name name;
    std::unique_ptr<net::Transport> transport;
    base::Buffer waiting;  // read here, not yet written to the other side
    std::uint64_t bytes = 0;
    bool ready = false;
    bool ended = false;
    bool shut = false;
  };

  Side& other(Side& side) { return side.name == Name::kClient ? server_ : client_; }

  void connect(const ConnectionFacts& facts) {
    const std::string& name = worker_.clusters().choose(config_.clusters);
    record_.upstream_cluster = name;
    ClusterState* cluster = worker_.clusters().find(name);
    if (cluster == nullptr) return finish(Flag::kNoClusterFound, "");
    auto host = cluster->pick(facts.destination);
    if (!host) return finish(Flag::kNoHealthyUpstream, "");
    record_.upstream_host = host->toString();
    server_.transport = cluster->connect(*host);
    server_.transport->setObserver(&server_);
    deadline_.arm(cluster->config().connect_timeout);
  }

  void connected(Side& side) {
    if (side.name != Name::kServer) return;
    side.ready = true;
    deadline_.cancel();
    record_.upstream_local = side.transport->local().toString();
    move(client_);
  }

  /// Moves what can be moved from one side to the other.
  void move(Side& from) {
    Side& to = other(from);
    while (!done_ && to.ready && from.ready && !from.shut) {
      if (from.waiting.empty() && !from.ended) {
        const net::IoResult got = from.transport->read(from.waiting, kPieceBytes);
        from.bytes += got.bytes;
        if (got.status == net::IoStatus::kEof) from.ended = true;
        if (got.status == net::IoStatus::kError) return finish(std::nullopt, "");
        if (got.status == net::IoStatus::kAgain && from.waiting.empty()) return;
      }
      if (!from.waiting.empty()) {
        const net::IoResult put = to.transport->write(from.waiting);
        if (put.status == net::IoStatus::kError) return finish(std::nullopt, "");
        if (!from.waiting.empty()) return;
      }
      if (from.ended) {
        to.transport->shutdownWrite();
        from.shut = true;
      }
    }
    if (client_.shut && server_.shut) finish(std::nullopt, "");
  }

  void finish(std::optional<Flag> flag, const std::string& failure) {
    if (done_) return;
    done_ = true;
    worker_.forget(*this);
    deadline_.cancel();
    for (Side* side : {&client_, &server_}) {
      if (side->transport) side->transport->setObserver(nullptr);
    }
    if (flag) record_.flags.set(*flag);
    if (flag == Flag::kUpstreamConnectionFailure) record_.failure = failure;
    record_.bytes_received = client_.bytes;
    record_.bytes_sent = server_.bytes;
    record_.at.request_begin = started_;
    record_.at.response_end = worker_.loop().now();
    worker_.log(config_.logs, record_);
    worker_.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  static constexpr Name client_name_ = Name::kClient;
  static constexpr Name server_name_ = Name::kServer;
  Worker& worker_;
  const TcpProxy& config_;
  Side client_;
  Side server_;
  event::Timer deadline_;
  AccessRecord record_;
  base::MonotonicTime started_{};
  bool done_ = false;
};

}  // namespace

void startTcpProxy(Worker& worker, const TcpProxy& config, std::unique_ptr<net::Transport> client,
                   ConnectionFacts facts) {
  new TcpPipe(worker, config, std::move(client), std::move(facts));  // destroys itself
}

}  // namespace postern::proxy
