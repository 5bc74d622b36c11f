// One process under the supervisor: how it is started, what it needs, how it fares. Loop thread.
#pragma once

#include "cluster/data_folder.h"
#include "cluster/node_namespace.h"
#include "cluster/process.h"
#include "event/loop.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postern::cluster {

class ManagedProcess {
 public:
  enum class State : unsigned char { kWaiting, kStarting, kReady, kPausing };
  struct Spec {
    std::string name;
    std::vector<std::string> needs;  // names that must be ready first
    bool keep_across_versions = false;
    /// False for programs that say nothing on a ready descriptor: ready once they run.
    bool reports_ready = true;
    /// Starts it; `ready_fd` is the descriptor on which it says "ready" or "error TEXT".
    std::function<base::ConfigResult<ForkedProcess>(int ready_fd, int log_fd)> start;
  };
  class Observer {
   public:
    virtual ~Observer() = default;
    /// Its state changed; `error` is set when it ended or could not start before it was ever ready.
    virtual void onChange(ManagedProcess& process, const std::string& error) = 0;
  };

  ManagedProcess(event::Loop& loop, const DataFolder& folder, Spec spec, Observer& observer);

  /// Takes over what the record file names, if it still runs. True if it does.
  bool adopt();
  void start();
  /// SIGTERM, then SIGKILL; blocks until it is gone.
  void end(std::chrono::milliseconds patience);

  const Spec& spec() const { return spec_; }
  State state() const { return state_; }
  bool ready() const { return state_ == State::kReady; }
  bool everReady() const { return ever_ready_; }
  pid_t pid() const { return pid_; }
  const base::Fd& pidfd() const { return pidfd_; }
  unsigned restarts() const { return restarts_; }
  std::int64_t sinceUnixMs() const { return since_unix_ms_; }

 private:
  void watch();
  void onReport();
  void onEnd();
  void becomeReady();
  std::string recordPath() const { return folder_.record(spec_.name); }
  std::string lastLogLine() const;

  event::Loop& loop_;
  const DataFolder& folder_;
  Spec spec_;
  Observer& observer_;
  State state_ = State::kWaiting;
  pid_t pid_ = -1;
  base::Fd pidfd_;
  base::Fd report_;
  std::string report_text_;
  event::FdWatch end_watch_;
  event::FdWatch report_watch_;
  event::Timer restart_;
  base::MonotonicTime started_at_{};
  std::int64_t since_unix_ms_ = 0;
  unsigned restarts_ = 0;
  unsigned quick_ends_ = 0;
  bool ever_ready_ = false;
  bool ending_ = false;
};

}  // namespace postern::cluster
