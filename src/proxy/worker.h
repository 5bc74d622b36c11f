// One thread of the proxy: its loop, clusters, pools, logs, statistics and listeners. Workers share
// only immutable snapshots, which the main thread hands over through Loop::post.
#pragma once

#include "event/loop.h"
#include "net/splice_way.h"
#include "proxy/access_log.h"
#include "proxy/cluster.h"
#include "proxy/config.h"
#include "proxy/connection_facts.h"
#include "proxy/http_stats.h"
#include "proxy/stats.h"
#include "proxy/upstream_pool.h"

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::proxy {

class ListenerState;

/// A downstream connection, known to its worker until it is over.
class DownstreamConnection {
 public:
  virtual ~DownstreamConnection() = default;
  /// Ends it now; it forgets itself at the worker before this returns.
  virtual void close() = 0;
  /// Its listener goes away: end soon, where the protocol has a way to say so.
  virtual void drain() {}
};

struct WorkerOptions {
  std::uint32_t index = 0;
  /// What a connection may live on after its listener or filter chain went.
  std::chrono::milliseconds drain_time{std::chrono::seconds(600)};
  std::shared_ptr<ConnectionLimit> limit;  // of the process; null: none
  /// Accepted descriptors from here on are refused: what is left of the process's descriptors
  /// serves origins, logs and the admin port.
  int descriptor_max = std::numeric_limits<int>::max();
};

class Worker {
 public:
  /// Above it HTTP/2 connections that hold more than a little get no further request.
  static constexpr std::size_t kHeldHeaderBytesMax = 24 * 1024 * 1024;

  Worker(event::Loop& loop, StatsStore& stats, WorkerOptions options = {});
  /// Closes the connections that are left.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Takes over a snapshot: what did not change is not touched. On the loop's thread.
  void update(std::shared_ptr<const Snapshot> snapshot);
  /// Stops accepting; `only` limits it to one direction. Connections go on, drained if asked to.
  enum class Drain : bool { kNo, kYes };
  /// Asks the connections to end where their protocol can say so; accepting goes on.
  void drainConnections(TrafficDirection only = TrafficDirection::kUnspecified);
  void stopListening(Drain drain, TrafficDirection only = TrafficDirection::kUnspecified);
  /// The bound addresses, by listener name.
  std::vector<net::Address> addresses() const;

  event::Loop& loop() { return loop_; }
  StatsStore& stats() { return stats_; }
  /// The statistics of a connection manager, "http.<prefix>.".
  HttpStats& httpStats(const std::string& prefix);
  /// The TLS statistics of a listener, "<prefix>ssl.".
  TlsStats& tlsStats(const std::string& prefix);
  ClusterManager& clusters() { return clusters_; }
  UpstreamPool& pool() { return pool_; }
  /// Of downstream connections, "http2.".
  H2Counters& http2() { return http2_; }
  /// Request headers that unfinished HTTP/2 requests hold. False: this is much for one worker.
  bool holdHeaders(std::ptrdiff_t change) {
    held_header_bytes_ += static_cast<std::size_t>(change);
    return held_header_bytes_ <= kHeldHeaderBytesMax;
  }
  net::PipePool& pipes() { return pipes_; }
  const WorkerOptions& options() const { return options_; }
  /// The route table of an RDS name; null: not there yet.
  std::shared_ptr<const RouteTable> routes(std::string_view name) const;
  void log(const std::vector<AccessLogConfig>& logs, const AccessRecord& record) {
    log_writer_.log(logs, record);
  }
  void reopenLogs() { log_writer_.reopen(); }
  void remember(DownstreamConnection& connection, const ConnectionFacts& facts);
  void forget(DownstreamConnection& connection);
  std::size_t connections() const { return connections_.size(); }
  /// True once connections should end where they can.
  bool draining() const { return draining_; }

  /// The listener a restored destination belongs to; null: none.
  ListenerState* listenerFor(const net::Address& destination);
  /// Counts an accepted connection, also against its listener's limit (null: none).
  void countOpen(const std::shared_ptr<ConnectionLimit>& listener);
  void uncountOpen(const std::shared_ptr<ConnectionLimit>& listener);
  /// False when as many connections are open as may be.
  bool admits() const {
    return options_.limit == nullptr || options_.limit->max == 0 ||
           options_.limit->open.load(std::memory_order_relaxed) < options_.limit->max;
  }

 private:
  struct Known {
    ListenerState* listener = nullptr;
    std::shared_ptr<const FilterChain> chain;
    std::shared_ptr<ConnectionLimit> limit;
    base::MonotonicTime since{};
    base::MonotonicTime drain_until{};
    bool draining = false;
  };
  void drainChanged();
  void closeDrained();
  void forgetRemoved();

  event::Loop& loop_;
  StatsStore& stats_;
  const WorkerOptions options_;
  std::shared_ptr<const Snapshot> snapshot_;
  ClusterManager clusters_;
  UpstreamPool pool_;
  H2Counters http2_;
  net::PipePool pipes_;
  AccessLogWriter log_writer_;
  std::map<std::string, HttpStats> http_stats_;
  std::map<std::string, TlsStats> tls_stats_;
  std::map<std::string, std::unique_ptr<ListenerState>, std::less<>> listeners_;
  std::vector<std::unique_ptr<ListenerState>> removed_;  // until their last connection ends
  std::map<DownstreamConnection*, Known> connections_;
  event::Timer drain_;
  std::size_t held_header_bytes_ = 0;
  bool draining_ = false;  // new connections, too, should end where they can
  bool listening_ = true;
};

}  // namespace postern::proxy
