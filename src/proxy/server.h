// The proxy as a whole: worker threads, the store of their configuration, the ADS connection, the
// admin port, draining and the end. Main thread; main builds one and runs its loop.
#pragma once

#include "base/error.h"
#include "event/loop.h"
#include "proxy/bootstrap.h"
#include "proxy/bootstrap_file.h"
#include "proxy/config_store.h"
#include "proxy/hot_restart.h"
#include "proxy/options.h"
#include "proxy/saved_config.h"
#include "proxy/worker.h"
#include "stats/stats.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace postern::proxy {

class Admin;

/// One worker on a thread of its own.
class WorkerThread {
 public:
  WorkerThread(stats::Store& stats, WorkerOptions options);
  /// Ends the thread; its connections are closed.
  ~WorkerThread();
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;
  /// Runs on the worker's thread in a later turn.
  void post(base::Function<void(Worker&)> work);

 private:
  event::Loop loop_;
  Worker* worker_ = nullptr;  // written and read on the thread
  std::thread thread_;
};

/// Envoy's server states, with Envoy's numbers.
enum class ServerState : unsigned char {
  kLive = 0,
  kDraining = 1,
  kPreInitializing = 2,
  kInitializing = 3
};
std::string_view toString(ServerState state);

class Server : private Replaceable {
 public:
  /// `bootstrap.message` is kept for /config_dump.
  static base::ConfigResult<std::unique_ptr<Server>> make(event::Loop& loop,
                                                          BootstrapFile bootstrap, Options options);
  /// Builds everything a configuration holds and binds nothing.
  static base::ConfigResult<void> validate(event::Loop& loop,
                                           const envoy::config::bootstrap::v3::Bootstrap& bootstrap,
                                           const Options& options);
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Stops accepting, asks all connections to end and stops the loop when they have, or when the
  /// drain time is over; a second call stops it at once.
  void shutDown();
  void stop() { loop_.stop(); }
  void reopenLogs();
  void resetCounters();
  /// After what is being answered has left.
  void stopSoon() { quit_.arm(std::chrono::milliseconds(10)); }
  /// Asks connections to end, by the drain strategy, while their listeners go on accepting for the
  /// drain time; then the listeners stop, unless `keep_listening`.
  void drainConnections(TrafficDirection only, bool keep_listening);
  /// Stops the listeners (of one direction, or all) after what waits was accepted.
  void stopListeners(TrafficDirection only);
  /// /healthcheck/fail and /healthcheck/ok.
  void failHealth(bool failed);

  ServerState state() const;
  event::Loop& loop() { return loop_; }
  const stats::Stats& stats() const { return *stats_; }
  stats::Store& mainStats() { return main_stats_; }
  /// Brings the gauges up to date that nobody counts.
  void refreshGauges();
  const ConfigStore& store() const { return *store_; }
  const Options& options() const { return options_; }
  const BootstrapValues& values() const { return values_; }
  const envoy::config::bootstrap::v3::Bootstrap& bootstrap() const { return *bootstrap_; }
  base::WallTime started() const { return started_; }
  base::Duration uptime() const { return loop_.now() - started_at_; }
  /// Where the admin port listens; none without one.
  const net::Address* adminAddress() const;
  /// Of hot restart; 0 when there is none.
  std::uint32_t baseId() const { return successor_ == nullptr ? 0 : successor_->baseId(); }
  bool hotRestarts() const { return successor_ != nullptr; }
  base::WallTime firstStart() const;

  /// Asks every worker and calls back on the main thread with all answers.
  template <class T>
  void ask(std::function<T(Worker&)> question, base::Function<void(std::vector<T>)> done) {
    struct Gathering {
      std::vector<T> answers;
      std::size_t missing = 0;
      base::Function<void(std::vector<T>)> done;
    };
    auto all = std::make_shared<Gathering>();
    all->missing = workers_.size();
    all->done = std::move(done);
    for (const auto& worker : workers_) {
      worker->post([this, all, question](Worker& asked) {
        loop_.post([all, answer = question(asked)]() mutable {
          all->answers.push_back(std::move(answer));
          if (--all->missing == 0) all->done(std::move(all->answers));
        });
      });
    }
  }

 private:
  Server(event::Loop& loop, Options options);
  base::ConfigResult<void> start(
      std::shared_ptr<const envoy::config::bootstrap::v3::Bootstrap> bootstrap);
  void publish(std::shared_ptr<const Snapshot> snapshot);
  void warnOfIgnored(const std::vector<std::string>& paths);
  void makeAds();
  std::unique_ptr<http::GrpcChannel> openChannel();
  base::ConfigResult<void> joinHotRestart();
  void onInitialized();
  void drainAll(DrainWindow window, TrafficDirection only);
  DrainWindow drainWindow() const;
  void endWhenDrained(base::MonotonicTime at_latest);
  void checkDrained();
  void end();

  // ---- Replaceable: what the process does for the next one ----
  base::Result<std::vector<Socket>> socketsToShare() override;
  std::optional<Socket> adminToShare() override;
  std::string statsToShare() override;
  std::int64_t firstStarted() const override;
  void adminTaken(bool taken) override;
  void replaced() override;
  void successorLost() override;
  void endReplaced() override { end(); }

  event::Loop& loop_;
  const Options options_;
  const base::WallTime started_;
  const base::MonotonicTime started_at_;
  std::unique_ptr<stats::Stats> stats_;
  stats::Store& main_stats_;
  std::shared_ptr<const envoy::config::bootstrap::v3::Bootstrap> bootstrap_;
  BootstrapValues values_;
  std::shared_ptr<ConnectionLimit> connections_;
  std::shared_ptr<OverloadState> overload_state_ = std::make_shared<OverloadState>();
  std::unique_ptr<OverloadManager> overload_;  // null: none
  std::vector<std::unique_ptr<WorkerThread>> workers_;
  std::unique_ptr<Successor> successor_;      // null: no hot restart
  std::unique_ptr<Predecessor> predecessor_;  // null: started afresh
  std::unique_ptr<ConfigStore> store_;
  std::unique_ptr<SavedConfig> saved_;  // null: nothing is kept on disk
  std::unique_ptr<xds::Client> ads_;
  std::unique_ptr<Admin> admin_;
  event::Timer drained_;
  event::Timer quit_;
  event::Timer stop_listening_;
  TrafficDirection stop_only_ = TrafficDirection::kUnspecified;
  base::MonotonicTime drain_until_{};
  std::size_t next_address_ = 0;
  bool started_once_ = false;
  bool shutting_down_ = false;
  bool replaced_ = false;
  std::int64_t parent_connections_ = 0;  // of the process before, while it drains
  bool health_failed_ = false;
};

}  // namespace postern::proxy
