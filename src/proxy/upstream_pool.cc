#include "proxy/upstream_pool.h"

#include <algorithm>
#include <optional>

namespace postern::proxy {

class UpstreamPool::Connection final : public http::ClientObserver, public event::Deferred {
 public:
  Connection(UpstreamPool& pool, ClusterState& cluster, const HostPtr& host, std::string key,
             Waiter& waiter)
      : waiter_(&waiter), pool_(pool), key_(std::move(key)), deadline_(pool.loop_, [this] {
          timed_out_ = true;
          client_->close();
        }) {
    pool_.all_.insert(this);
    ticket_.emplace(cluster, host);
    deadline_.arm(cluster.config().connect_timeout);
    client_ = http::ClientConnection::start(pool_.loop_, cluster.connect(*host),
                                            http::Protocol::kHttp1, http::ClientLimits{}, *this);
  }

  void onConnected(http::ClientConnection& connection) override {
    deadline_.cancel();
    Waiter* waiter = std::exchange(waiter_, nullptr);
    if (waiter == nullptr) return park();
    waiter->onReady(connection);
  }
  void onAvailable(http::ClientConnection&) override { park(); }
  void onDraining(http::ClientConnection&) override { unpark(); }
  void onClosed(http::ClientConnection&, base::Error error) override {
    unpark();
    deadline_.cancel();
    ticket_.reset();
    pool_.all_.erase(this);
    Waiter* waiter = std::exchange(waiter_, nullptr);
    pool_.loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
    if (timed_out_) error = {base::Errc::kTimeout, "connection timeout"};
    if (waiter != nullptr) waiter->onFailed(error);
  }

  http::ClientConnection& client() { return *client_; }
  Waiter* waiter_;

 private:
  void park() { pool_.idle_[key_].push_back(this); }
  void unpark() {
    auto& idle = pool_.idle_[key_];
    idle.erase(std::remove(idle.begin(), idle.end(), this), idle.end());
  }
  UpstreamPool& pool_;
  const std::string key_;
  event::Timer deadline_;
  http::ClientConnection* client_ = nullptr;
  bool timed_out_ = false;
  std::optional<UpstreamTicket> ticket_;
};

UpstreamPool::~UpstreamPool() {
  for (Connection* each : all_) each->waiter_ = nullptr;
  while (!all_.empty()) (*all_.begin())->client().close();
}

void UpstreamPool::acquire(ClusterState& cluster, const HostPtr& host, Waiter& waiter) {
  std::string key = cluster.config().name + "|" + host->address.toString();
  auto& idle = idle_[key];
  if (!idle.empty()) {
    Connection* taken = idle.back();
    idle.pop_back();
    return waiter.onReady(taken->client());
  }
  new Connection(*this, cluster, host, std::move(key), waiter);  // destroys itself when closed
}

void UpstreamPool::cancel(Waiter& waiter) {
  for (Connection* each : all_) {
    if (each->waiter_ == &waiter) each->waiter_ = nullptr;
  }
}

}  // namespace postern::proxy
