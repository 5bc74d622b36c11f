#include "proxy/udp_proxy.h"

#include "net/datagram.h"
#include "proxy/worker.h"

#include <array>
#include <cerrno>
#include <utility>

#include <sys/socket.h>

namespace postern::proxy {

namespace {

/// Then others come first.
constexpr int kDatagramsPerTurn = 64;

void appendAddress(std::string& out, const net::Address& address) {
  out.append(reinterpret_cast<const char*>(address.sockaddrPtr()), address.length());
}

/// One client as its worker tells it from others; `host` counts when each datagram is balanced.
std::string keyOf(const net::Address& peer, const net::Address& local, const Host* host) {
  std::string out;
  appendAddress(out, peer);
  appendAddress(out, local);
  if (host != nullptr) out.append(reinterpret_cast<const char*>(&host), sizeof host);
  return out;
}

}  // namespace

UdpStats::UdpStats(stats::Scope& scope)
    : no_route(scope.counter("downstream_sess_no_route")),
      rx_bytes(scope.counter("downstream_sess_rx_bytes")),
      rx_datagrams(scope.counter("downstream_sess_rx_datagrams")),
      rx_errors(scope.counter("downstream_sess_rx_errors")),
      total(scope.counter("downstream_sess_total")),
      tx_bytes(scope.counter("downstream_sess_tx_bytes")),
      tx_datagrams(scope.counter("downstream_sess_tx_datagrams")),
      tx_errors(scope.counter("downstream_sess_tx_errors")),
      idle_timeout(scope.counter("idle_timeout")),
      active(scope.gauge("downstream_sess_active")) {}

// ---- one client ----

class UdpListener::Session final : public event::Deferred {
 public:
  Session(UdpListener& owner, std::string key, const net::Address& peer, const net::Address& local,
          ClusterPtr cluster, HostPtr host, base::Fd socket)
      : owner_(&owner),
        key_(std::move(key)),
        peer_(peer),
        local_(local),
        cluster_(std::move(cluster)),
        udp_(owner.worker_.stats().scope(cluster_->stats().scope.prefix() + "udp.")),
        host_(std::move(host)),
        socket_(std::move(socket)),
        idle_(owner.worker_.loop(), [this] { checkIdle(); }),
        again_(owner.worker_.loop(), [this] { receive(); }),
        watch_(owner.worker_.loop(), socket_.get(), [this](std::uint32_t) { receive(); }) {
    cluster_->take(Resource::kConnections);
    owner.stats_.active.add();
    record_.start = owner.worker_.loop().clock().wall();
    touch();
    idle_.arm(owner.config_->udp->idle_timeout);
  }

  const std::string& key() const { return key_; }
  bool usable() const { return !host_->removed && host_->health != Health::kUnhealthy; }

  void send(std::string_view datagram) {
    touch();
    received_ += datagram.size();
    if (::send(socket_.get(), datagram.data(), datagram.size(), MSG_NOSIGNAL) < 0) {
      udp_.counter("sess_tx_errors").add();
      return;
    }
    udp_.counter("sess_tx_datagrams").add();
    cluster_->stats().upstream_cx_tx_bytes_total.add(datagram.size());
  }

  /// What it held is given back; it is destroyed later.
  void close() {
    watch_.reset();
    idle_.cancel();
    again_.cancel();
    cluster_->give(Resource::kConnections);
    owner_->stats_.active.sub();
    record_.at.request_begin = started_;
    record_.at.response_end = owner_->worker_.loop().now();
    record_.bytes_received = received_;
    record_.bytes_sent = sent_;
    record_.upstream_cluster = cluster_->name();
    record_.upstream_observed = cluster_->observedName();
    record_.upstream_host = record_.keep(host_->address.toString());
    record_.upstream_local = net::localAddress(socket_.get()).toString();
    record_.downstream_local = record_.keep(local_.toString());
    record_.downstream_remote = record_.keep(peer_.toString());
    record_.downstream_direct_remote = record_.downstream_remote;
    owner_->worker_.log(owner_->config_->udp->logs, record_);
    socket_.reset();
  }

 private:
  void touch() {
    active_ = owner_->worker_.loop().now();
    if (started_ == base::MonotonicTime{}) started_ = active_;
  }

  void checkIdle() {
    const base::Duration idle = owner_->worker_.loop().now() - active_;
    const base::Duration most = owner_->config_->udp->idle_timeout;
    if (idle < most) return idle_.arm(most - idle);
    owner_->stats_.idle_timeout.add();
    owner_->end(*this);
  }

  /// Answers of the host.
  void receive() {
    thread_local std::array<char, net::kDatagramBytesMax> bytes;
    const std::size_t bytes_max = owner_->config_->udp->upstream_datagram_bytes_max;
    for (int i = 0; i < kDatagramsPerTurn; ++i) {
      const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got < 0) {  // the host's port is closed, or it is unreachable
        udp_.counter("sess_rx_errors").add();
        continue;
      }
      const auto size = static_cast<std::size_t>(got);
      if (size > bytes_max) {
        udp_.counter("sess_rx_datagrams_dropped").add();
        continue;
      }
      udp_.counter("sess_rx_datagrams").add();
      cluster_->stats().upstream_cx_rx_bytes_total.add(size);
      answer({bytes.data(), size});
    }
    again_.arm({});
  }

  void answer(std::string_view datagram) {
    touch();
    if (!net::sendDatagram(owner_->socket_.get(), datagram, peer_, local_)) {
      owner_->stats_.tx_errors.add();
      return;
    }
    sent_ += datagram.size();
    owner_->stats_.tx_datagrams.add();
    owner_->stats_.tx_bytes.add(datagram.size());
  }

  UdpListener* owner_;
  const std::string key_;
  const net::Address peer_;
  const net::Address local_;
  const ClusterPtr cluster_;
  stats::Scope& udp_;
  const HostPtr host_;
  base::Fd socket_;
  formatter::AccessRecord record_;
  base::MonotonicTime started_{};
  base::MonotonicTime active_{};
  std::uint64_t received_ = 0;
  std::uint64_t sent_ = 0;
  event::Timer idle_;
  event::Timer again_;
  event::FdWatch watch_;
};

// ---- the listener ----

UdpListener::UdpListener(Worker& worker, base::Fd socket, std::shared_ptr<const Listener> config)
    : worker_(worker),
      socket_(std::move(socket)),
      config_(std::move(config)),
      local_(net::localAddress(socket_.get())),
      stats_(worker.stats().scope("udp." + config_->udp->stat_prefix + ".")),
      too_large_(worker.stats()
                     .scope("listener." + config_->stat_name + ".udp.")
                     .counter("downstream_rx_datagram_dropped")),
      again_(worker.loop(), [this] { receive(); }),
      watch_(worker.loop(), socket_.get(), [this](std::uint32_t) { receive(); }) {
  net::tellDestinations(socket_.get());
}

UdpListener::~UdpListener() {
  for (auto& [key, session] : sessions_) session->close();
}

void UdpListener::receive() {
  thread_local std::array<char, net::kDatagramBytesMax> bytes;
  for (int i = 0; i < kDatagramsPerTurn; ++i) {
    net::Datagram datagram;
    switch (net::receiveDatagram(socket_.get(), bytes.data(), bytes.size(), local_, datagram)) {
      case net::IoStatus::kOk:
        take({bytes.data(), datagram.bytes}, datagram.peer, datagram.local);
        break;
      case net::IoStatus::kAgain:
        return;
      default:
        stats_.rx_errors.add();
    }
  }
  again_.arm({});
}

void UdpListener::take(std::string_view datagram, const net::Address& peer,
                       const net::Address& local) {
  if (datagram.size() > config_->udp->datagram_bytes_max) return too_large_.add();
  Session* session = sessionFor(peer, local);
  if (session == nullptr) return;
  stats_.rx_datagrams.add();
  stats_.rx_bytes.add(datagram.size());
  session->send(datagram);
}

UdpListener::Session* UdpListener::find(const std::string& key) {
  const auto it = sessions_.find(key);
  if (it == sessions_.end()) return nullptr;
  if (it->second->usable()) return it->second.get();
  end(*it->second);  // its host is gone: another one takes over
  return nullptr;
}

UdpListener::Session* UdpListener::sessionFor(const net::Address& peer, const net::Address& local) {
  const bool per_datagram = config_->udp->balances_datagrams;
  if (!per_datagram) {
    if (Session* session = find(keyOf(peer, local, nullptr))) return session;
  }
  const ClusterPtr cluster = worker_.clusters().find(config_->udp->cluster);
  if (cluster == nullptr) {
    stats_.no_route.add();
    return nullptr;
  }
  const HostPtr host = cluster->pick();
  if (host == nullptr) return nullptr;  // counted by the cluster
  std::string key = keyOf(peer, local, per_datagram ? host.get() : nullptr);
  if (per_datagram) {
    if (Session* session = find(key)) return session;
  }
  stats_.total.add();
  if (!cluster->available(Resource::kConnections)) {
    cluster->stats().upstream_cx_overflow.add();
    return nullptr;
  }
  auto socket = net::connectDatagrams(host->address);
  if (!socket) {
    worker_.stats().scope(cluster->stats().scope.prefix() + "udp.").counter("sess_tx_errors").add();
    return nullptr;
  }
  auto session =
      std::make_unique<Session>(*this, key, peer, local, cluster, host, std::move(*socket));
  return (sessions_[std::move(key)] = std::move(session)).get();
}

void UdpListener::end(Session& session) {
  const auto it = sessions_.find(session.key());
  std::unique_ptr<Session> ended = std::move(it->second);
  sessions_.erase(it);
  ended->close();
  worker_.loop().destroyLater(std::move(ended));
}

}  // namespace postern::proxy
