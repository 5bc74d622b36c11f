// One thread of the proxy: its loop, clusters, pools, logs, statistics and listeners. Workers share
// only immutable snapshots, which the main thread hands over through Loop::post.
#pragma once

#include "base/random.h"
#include "event/loop.h"
#include "net/splice_way.h"
#include "proxy/access_log.h"
#include "proxy/cluster.h"
#include "proxy/config.h"
#include "proxy/connection_facts.h"
#include "proxy/overload.h"
#include "proxy/upstream_pool.h"
#include "stats/http_stats.h"
#include "stats/stats.h"

#include <limits>
#include <map>
#include <memory>
#include <optional>
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
  /// Ends what would have timed out with timeouts made shorter by this strength (0 to 1).
  virtual void reduceTimeouts(const TimerScales&, double) {}
  /// Resets at most `most` of its streams that hold so many bytes; how many it was.
  virtual std::size_t resetStreams(std::size_t /*bytes_min*/, std::size_t /*most*/) { return 0; }
};

/// The time over which connections are asked to end: all at its begin, or each with a probability
/// that rises from 0 to 1, so that clients do not come back all at once.
struct DrainWindow {
  base::MonotonicTime from{};
  base::MonotonicTime until{};
  bool at_once = false;
};

struct WorkerOptions {
  std::uint32_t index = 0;
  /// What a connection may live on after its listener or filter chain went.
  std::chrono::milliseconds drain_time{std::chrono::seconds(600)};
  bool drain_at_once = false;              // --drain-strategy immediate
  std::shared_ptr<ConnectionLimit> limit;  // of the process; null: none
  /// Accepted descriptors from here on are refused: what is left of the process's descriptors
  /// serves origins, logs and the admin port.
  int descriptor_max = std::numeric_limits<int>::max();
  std::string service_cluster;  // what this proxy calls itself to others
  std::string service_node;
  AccessLogWriter::Options logs;
  std::shared_ptr<const OverloadState> overload = std::make_shared<const OverloadState>();
};

class Worker {
 public:
  /// Above it HTTP/2 connections that hold more than a little get no further request.
  static constexpr std::size_t kHeldHeaderBytesMax = 24 * 1024 * 1024;

  Worker(event::Loop& loop, stats::Store& stats, WorkerOptions options = {});
  /// Closes the connections that are left.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Takes over a snapshot: what did not change is not touched. On the loop's thread.
  void update(std::shared_ptr<const Snapshot> snapshot);
  /// Stops accepting; `only` limits it to one direction. Connections go on. kTake: what waits in
  /// the kernel is still accepted; kLeave: another process accepts it.
  enum class Queued : bool { kTake, kLeave };
  void stopListening(Queued queued, TrafficDirection only = TrafficDirection::kUnspecified);
  /// Asks the connections, and those that come, to end where their protocol can say so; accepting
  /// goes on.
  void drainConnections(DrainWindow window, TrafficDirection only = TrafficDirection::kUnspecified);
  /// /healthcheck/fail: each answer ends its connection where it can.
  void failHealth(bool failed) { health_failed_ = failed; }
  /// True when `connection` should end with the answer it is about to give.
  bool endsWithAnswer(DownstreamConnection& connection) {
    return (health_failed_ || drains_) && drawsEnd(connection);
  }
  /// The bound addresses, by listener name.
  std::vector<net::Address> addresses() const;

  event::Loop& loop() { return loop_; }
  stats::Store& stats() { return stats_; }
  /// The statistics of a connection manager, "http.<prefix>.".
  stats::HttpStats& httpStats(const std::string& prefix);
  /// The TLS statistics of a listener, "<prefix>ssl.".
  stats::TlsStats& tlsStats(const std::string& prefix);
  ClusterManager& clusters() { return clusters_; }
  UpstreamPool& pool() { return pool_; }
  /// Of downstream connections, "http2.".
  stats::H2Counters& http2() { return http2_; }
  /// Request headers that unfinished HTTP/2 requests hold. False: this is much for one worker.
  bool holdHeaders(std::ptrdiff_t change) {
    held_header_bytes_ += static_cast<std::size_t>(change);
    return held_header_bytes_ <= kHeldHeaderBytesMax;
  }
  net::PipePool& pipes() { return pipes_; }
  const WorkerOptions& options() const { return options_; }
  /// A number that is unique in this worker, as one that is so in the process. That of the first
  /// worker stays short.
  std::uint64_t uniqueId(std::uint64_t own) const {
    return std::uint64_t{options_.index} << 40 | own;
  }
  /// The route table of an RDS name; null: not there yet.
  std::shared_ptr<const RouteTable> routes(std::string_view name) const;
  void log(const std::vector<AccessLogConfig>& logs, const formatter::AccessRecord& record) {
    log_writer_.log(logs, record);
  }
  void reopenLogs() { log_writer_.reopen(); }
  void remember(DownstreamConnection& connection, const ConnectionFacts& facts);
  void forget(DownstreamConnection& connection);
  std::size_t connections() const { return connections_.size(); }
  /// Connections that are still in the listener filters.
  std::size_t pending() const;

  /// Draws whether an action against overload is taken now.
  bool overloaded(OverloadAction action) { return options_.overload->draws(action, random_); }
  /// Acts against overload on what exists already.
  void relieve(const OverloadConfig& config);
  /// Of listeners, while connections are to wait in the kernel.
  bool acceptingPaused() const { return accepting_paused_; }

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
    std::optional<DrainWindow> window;
    base::MonotonicTime ask_at = base::MonotonicTime::max();    // to end
    base::MonotonicTime close_at = base::MonotonicTime::max();  // whatever it does
    bool asked = false;
  };
  struct ProcessDrain {
    TrafficDirection only;
    DrainWindow window;
    bool concerns(const Known& known) const;
  };
  /// A listener that went, until its last connection ends.
  struct Removed {
    std::unique_ptr<ListenerState> state;
    base::MonotonicTime until{};  // then what is still in its listener filters is dropped
  };
  /// False when its listener or filter chain went.
  bool current(const Known& known) const;
  void drainChanged();
  /// Asks it to end, and ends it when the drain time is over.
  void end(Known& known);
  void begin(Known& known, DrainWindow window);
  void onDrainTimer();
  void armDrainTimer();
  bool drawsEnd(DownstreamConnection& connection);
  void forgetRemoved();
  std::vector<DownstreamConnection*> allConnections() const;
  std::size_t resetLargest(std::size_t bytes_min, std::size_t most);

  event::Loop& loop_;
  stats::Store& stats_;
  const WorkerOptions options_;
  std::shared_ptr<const Snapshot> snapshot_;
  ClusterManager clusters_;
  UpstreamPool pool_;
  stats::H2Counters http2_;
  net::PipePool pipes_;
  AccessLogWriter log_writer_;
  std::map<std::string, stats::HttpStats> http_stats_;
  std::map<std::string, stats::TlsStats> tls_stats_;
  std::map<std::string, std::unique_ptr<ListenerState>, std::less<>> listeners_;
  std::vector<Removed> removed_;
  std::map<DownstreamConnection*, Known> connections_;
  event::Timer drain_;
  std::size_t held_header_bytes_ = 0;
  base::Random random_;
  std::vector<ProcessDrain> process_drains_;  // new connections, too, should end where they can
  bool drains_ = false;                       // any connection has a window
  bool health_failed_ = false;
  bool listening_ = true;
  bool accepting_paused_ = false;
};

}  // namespace postern::proxy
