// The clusters of one worker: their hosts, balancing, limits and statistics. Loop thread. Who uses
// a ClusterState holds it: when its cluster is removed it has no hosts and is not found, and goes,
// with its statistics, when nobody uses it any more.
#pragma once

#include "base/function.h"
#include "base/random.h"
#include "event/loop.h"
#include "http/client.h"
#include "net/socket.h"
#include "proxy/config.h"
#include "stats/h2_counters.h"
#include "stats/response_codes.h"
#include "stats/stats.h"
#include "stats/tls_stats.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::proxy {

/// One address of a cluster in one worker. Kept alive by those who use it.
struct Host {
  net::Address address;
  std::string text;  // of the address, once somebody needed it
  std::string hostname;
  Locality locality;
  std::uint32_t weight = 1;
  std::uint32_t priority = 0;
  Health health = Health::kHealthy;
  SocketCriteria socket_criteria;
  std::shared_ptr<TlsSocket> tls;  // null: plain
  std::string security;            // the socket's fingerprint; stays what it was
  bool greets = false;             // its connections begin with the cluster's PROXY header
  bool removed = false;  // no longer of the cluster: connections may finish, none is reused

  std::uint64_t cx_total = 0;
  std::uint64_t cx_connect_fail = 0;
  std::int64_t cx_active = 0;
  std::uint64_t rq_total = 0;
  std::uint64_t rq_success = 0;
  std::uint64_t rq_error = 0;
  std::uint64_t rq_timeout = 0;
  std::int64_t rq_active = 0;
};
using HostPtr = std::shared_ptr<Host>;

/// The statistics of a cluster that are written per connection or request.
struct ClusterStats {
  explicit ClusterStats(stats::Scope& scope);
  stats::Scope& scope;  // "cluster.<name>." for the rest
  stats::Counter& upstream_cx_total;
  stats::Counter& upstream_cx_http1_total;
  stats::Counter& upstream_cx_http2_total;
  stats::Counter& upstream_cx_connect_fail;
  stats::Counter& upstream_cx_connect_timeout;
  stats::Counter& upstream_cx_destroy;
  stats::Counter& upstream_cx_overflow;
  stats::Counter& upstream_cx_none_healthy;
  stats::Counter& upstream_cx_rx_bytes_total;
  stats::Counter& upstream_cx_tx_bytes_total;
  stats::Gauge& upstream_cx_active;
  stats::Histogram& upstream_cx_connect_ms;
  stats::Histogram& upstream_cx_length_ms;
  stats::Counter& upstream_rq_total;
  stats::Counter& upstream_rq_pending_total;
  stats::Counter& upstream_rq_pending_overflow;
  stats::Counter& upstream_rq_pending_failure_eject;
  stats::Counter& upstream_rq_cancelled;
  stats::Counter& upstream_rq_timeout;
  stats::Counter& upstream_rq_retry;
  stats::Counter& upstream_rq_retry_success;
  stats::Counter& upstream_rq_retry_overflow;
  stats::Gauge& upstream_rq_active;
  stats::Gauge& upstream_rq_pending_active;
  stats::Histogram& upstream_rq_time;
  stats::Counter& lb_healthy_panic;
  stats::Counter& membership_change;
  stats::Gauge& membership_total;
  stats::Gauge& membership_healthy;
  stats::Gauge& membership_degraded;
  stats::ResponseCodes response_codes;
  stats::H2Counters http2;
};

class Balancer;

enum class Resource : unsigned char { kConnections, kPending, kRequests, kRetries };
inline constexpr std::size_t kResourceCount = 4;

struct PickRequest {
  /// The destination the client had before a redirect; null: the connection was addressed to us,
  /// to go on there would be to come back here.
  const net::Address* original = nullptr;
  const std::vector<const Host*>* avoid = nullptr;  // hosts tried before (retries)
  std::uint32_t attempts_max = 1;                   // picks until one is not avoided
};

/// The socket for hosts whose endpoint says this; null: plain.
const ClusterSocket* socketFor(const Cluster& cluster, const SocketCriteria& criteria);

/// Starts connecting to a host of a cluster as the cluster says (source address, TCP keep-alive);
/// plain. `first_bytes`: its PROXY header.
std::unique_ptr<net::Transport> connectHost(event::Loop& loop, const Cluster& cluster,
                                            const net::Address& host, std::string_view first_bytes);

/// What a connection to a host of a cluster takes of its peer.
http::ClientLimits clientLimits(const Cluster& cluster);

class ClusterState {
 public:
  /// `counts_members`: this worker tells the gauges of membership, which are the same in all.
  ClusterState(event::Loop& loop, base::Random& random, stats::Store& stats, ClusterEntry entry,
               bool counts_members = true);
  ~ClusterState();
  const Cluster& config() const { return *entry_.config; }
  /// As long-lived as this, which config() is not.
  const std::string& name() const { return name_; }
  const std::string& observedName() const { return observed_name_; }
  ClusterStats& stats() { return stats_; }
  base::MonotonicTime now() const { return loop_.now(); }

  /// The next host by the balancer, or null when there is none.
  HostPtr pick(const PickRequest& request = {});
  /// The PROXY header that a connection to `host` on behalf of `downstream` begins with; "": none.
  std::string greeting(const Host& host, const ConnectionFacts& downstream) const;
  /// Starts connecting; the caller holds an UpstreamTicket as long as the connection lives.
  /// `alpn` is offered where TLS is spoken and its configuration names none.
  std::unique_ptr<net::Transport> connect(const Host& host, std::string_view greeting,
                                          std::vector<std::string> alpn = {});

  /// False when a limit is used up.
  bool available(Resource resource, RoutingPriority priority = RoutingPriority::kDefault);
  /// Takes one unit of a limit unless it is used up. What was taken is given back.
  bool tryTake(Resource resource, RoutingPriority priority = RoutingPriority::kDefault);
  /// Takes one even above the limit (the first connection of a pool).
  void take(Resource resource, RoutingPriority priority = RoutingPriority::kDefault);
  void give(Resource resource, RoutingPriority priority = RoutingPriority::kDefault);

  const std::vector<HostPtr>& hosts() const { return hosts_; }

 private:
  friend class ClusterManager;
  void update(ClusterEntry entry);
  void retire();
  const LoadAssignment& assignment() const;
  void rebuild();
  void replaceHosts(std::vector<HostPtr> hosts);
  std::unique_ptr<net::Transport> secure(std::unique_ptr<net::Transport> plain, const Host& host,
                                         std::vector<std::string> alpn);
  HostPtr originalHost(const net::Address& original);
  void forgetOriginals();
  void countMembers(std::size_t healthy, std::size_t degraded);
  std::atomic<std::uint32_t>& used(Resource resource, RoutingPriority priority) const;
  std::uint32_t limit(Resource resource, RoutingPriority priority) const;
  std::uint32_t fixedLimit(Resource resource, RoutingPriority priority) const;
  void showBreakers();

  event::Loop& loop_;
  base::Random& random_;
  stats::Store& store_;
  ClusterEntry entry_;
  const std::string name_;
  const std::string observed_name_;
  const bool counts_members_;
  ClusterStats stats_;
  stats::Gauge* remaining_[2][kResourceCount] = {};  // with track_remaining
  std::uint32_t shown_limits_[2][kResourceCount] = {};
  std::unique_ptr<stats::TlsStats> tls_stats_;  // once there was a TLS socket
  std::vector<HostPtr> hosts_;
  std::unique_ptr<Balancer> balancer_;
  std::map<std::string, HostPtr, std::less<>> originals_;  // of an original-destination cluster
  event::Timer cleanup_;
  base::Function<void(const HostPtr&)>* on_removed_ = nullptr;
};

using ClusterPtr = std::shared_ptr<ClusterState>;

/// Counts one upstream connection, from the start of connecting to its end. Must not outlive the
/// worker: release it when the connection closes, not when its object is destroyed later.
class UpstreamTicket {
 public:
  UpstreamTicket(ClusterPtr cluster, HostPtr host,
                 RoutingPriority priority = RoutingPriority::kDefault);
  ~UpstreamTicket();
  UpstreamTicket(const UpstreamTicket&) = delete;
  UpstreamTicket& operator=(const UpstreamTicket&) = delete;
  void connected();
  enum class Failure : unsigned char { kRefused, kTimeout };
  void failed(Failure failure);
  Host& host() { return *host_; }
  ClusterState& cluster() { return *cluster_; }

 private:
  const ClusterPtr cluster_;
  HostPtr host_;
  const RoutingPriority priority_;
  base::MonotonicTime started_;
  bool connected_ = false;
};

class ClusterManager {
 public:
  ClusterManager(event::Loop& loop, stats::Store& stats, bool counts_members = true);
  /// Takes over a snapshot: what did not change is not touched.
  void update(const Snapshot& snapshot);
  /// Null when there is no such cluster (now).
  ClusterPtr find(std::string_view name) const;
  /// One of the weighted clusters, by chance.
  const std::string& choose(const std::vector<WeightedCluster>& clusters);
  /// Uniform in [0, bound); bound > 0.
  std::uint64_t random(std::uint64_t bound) { return random_.below(bound); }
  /// Called for each host that leaves a cluster, so that a pool can close what is idle.
  void onHostRemoved(base::Function<void(const HostPtr&)> callback) {
    on_removed_ = std::move(callback);
  }
  template <class F>
  void each(F&& visit) {
    for (auto& [name, state] : active_) visit(*state);
  }
  /// Clusters that were removed and are still used.
  std::size_t retired() const { return retired_.size(); }

 private:
  void hideStats(const std::vector<ClusterPtr>& removed);
  ClusterPtr revive(const std::string& name, const ClusterEntry& entry);
  void forgetUnused();

  event::Loop& loop_;
  stats::Store& stats_;
  const bool counts_members_;
  base::Random random_;
  base::Function<void(const HostPtr&)> on_removed_;
  std::map<std::string, ClusterPtr, std::less<>> active_;
  std::vector<ClusterPtr> retired_;  // until nobody uses them
  event::Timer forget_;
};

}  // namespace postern::proxy
