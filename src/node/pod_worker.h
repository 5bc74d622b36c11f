// One pod of this node from its first sight to its end: sandbox, network, volumes, containers in
// their order, probes, restarts, status, termination. Level-triggered: whatever happened, sync()
// does what is missing. Loop thread; what blocks runs on the pool.
#pragma once

#include "kube/informer.h"
#include "network/network.h"
#include "node/container_config.h"
#include "node/events.h"
#include "node/pod_status.h"
#include "node/probe.h"
#include "node/volumes.h"
#include "node/work_pool.h"
#include "runtime/sandbox.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::node {

/// What all pods of the node share; outlives them.
struct WorkerContext {
  event::Loop& loop;
  kube::Client& client;
  WorkPool& pool;
  EventRecorder& events;
  network::Network* network;  // null: pods have only their loopback
  std::string pods_dir;
  std::string programs_dir;
  std::vector<std::string> hidden;
  std::vector<std::string> shim_command;
  std::string cluster_domain;
  PodFacts facts;  // of the node
  std::function<std::shared_ptr<const ImageMap>()> images;
  std::function<std::vector<kube::ObjectPtr>()> services;
};

class PodWorker final : public runtime::SandboxObserver, public ProbeHost {
 public:
  /// `on_gone`: nothing of the pod is left; the worker may be destroyed (not inside the call).
  PodWorker(WorkerContext& context, kube::ObjectPtr pod, std::function<void()> on_gone);
  ~PodWorker() override;
  PodWorker(const PodWorker&) = delete;
  PodWorker& operator=(const PodWorker&) = delete;

  void update(kube::ObjectPtr pod);
  /// The object is gone from the API: ends at once.
  void removed();

  const json::Json& pod() const { return *pod_; }
  const std::string& uid() const { return uid_; }

  // For logs, exec, attach and port-forward.
  struct ContainerInfo {
    std::string name;
    ContainerView::State state;
    bool has_last = false;
    int restart_count = 0;
    std::string waiting_reason;
    std::string run_id;        // the runtime's name of the run
    std::string log_file;      // of the present or last run; empty before the first
    std::string previous_log;  // of the run before; empty without
    bool terminal = false;
  };
  std::optional<ContainerInfo> container(const std::string& name) const;
  using ExitCallback = base::Function<void(int code)>;
  /// `on_exit` follows a successful start.
  void exec(runtime::ExecSpec spec, runtime::Callback<runtime::ExecStarted> started,
            ExitCallback on_exit);
  void attach(runtime::AttachSpec spec, runtime::Callback<runtime::Attached> attached);
  void signalExec(long long exec, int number);
  /// Calls back when the container's present run ends; 0 if it does not run.
  long long watchExit(const std::string& container, ExitCallback on_exit);
  void unwatchExit(long long watch);
  int networkNamespace() const { return netns_.get(); }

 private:
  enum class Stage : unsigned char { kPreparing, kConnecting, kRunning, kEnded, kCleaning };
  struct Worked {
    ContainerView view;
    std::string id;  // of the present or last run in the sandbox
    int attempt = -1;
    bool starting = false;
    bool stopping = false;
    bool replaced = false;  // stopped because its image changed: no back-off
    std::string failure;    // last recorded configuration failure
    base::Duration config_delay{0};
    std::chrono::seconds back_off{0};
    std::unique_ptr<event::Timer> retry;
    std::unique_ptr<event::Timer> kill;
    std::unique_ptr<Probe> startup;
    std::unique_ptr<Probe> readiness;
    std::unique_ptr<Probe> liveness;
    std::unique_ptr<Check> hook;
  };
  struct Prepared {
    std::string failure;
    std::string reason;  // of the event that tells the failure
    runtime::Sandbox::Identity identity;
    std::string ip;
    base::Fd netns;
  };

  // pod_worker.cc
  void prepare();
  void onPrepared(Prepared prepared);
  void connect();
  void onReady(std::vector<runtime::ContainerRecord> records) override;
  void onLost(const std::string& why) override;
  void refreshVolumes();
  void changed();
  void flushStatus();
  void writeStatus(json::Json status);
  void terminate(std::chrono::seconds grace);
  void checkTerminated();
  void endSandbox();
  void cleanUp();
  std::string folder() const { return context_.pods_dir + "/" + uid_; }
  PodFacts facts() const;
  bool terminal() const;
  void event(const char* type, const char* reason, std::string message,
             const std::string& container = "");

  // pod_containers.cc
  void makeContainers();
  void sync();
  bool syncInit();
  void startContainer(Worked& worked);
  void onConfigured(Worked& worked, std::expected<runtime::ContainerSpec, ConfigFailure> spec);
  void onConfigFailure(Worked& worked, const ConfigFailure& failure);
  bool wasReady(const ContainerView& view) const;
  void onStarted(Worked& worked, const runtime::ContainerRecord& record, bool adopted);
  void onContainerExit(const runtime::ContainerRecord& record) override;
  void onEnded(Worked& worked, Termination ended);
  bool restarts(const Worked& worked) const;
  void waitForRestart(Worked& worked);
  void startProbes(Worked& worked);
  void startOtherProbes(Worked& worked);
  void stopContainer(Worked& worked, std::chrono::seconds grace, const std::string& why);
  const json::Json& specOf(const Worked& worked) const;
  std::string fieldPath(const Worked& worked) const;
  std::string logFile(const std::string& container, int attempt) const;
  std::string terminationLog(const Worked& worked) const;
  std::chrono::seconds gracePeriod() const;

  std::string probeAddress() override;
  int probeNamespace() override;
  void probeExec(const std::string& container, std::vector<std::string> argv,
                 ExecDone done) override;
  void onExecExit(long long exec, int code) override;

  WorkerContext& context_;
  kube::ObjectPtr pod_;
  std::string uid_;
  std::function<void()> on_gone_;
  Stage stage_ = Stage::kPreparing;
  bool preparing_ = false;
  bool terminating_ = false;
  bool adopting_ = false;  // not all of what runs is known yet: nothing may be started
  bool object_gone_ = false;
  bool restored_ = false;  // ended in an agent's earlier life: its status stands
  PodView view_;
  std::vector<std::unique_ptr<Worked>> containers_;
  std::shared_ptr<Volumes> volumes_;
  runtime::Sandbox::Identity identity_;
  base::Fd netns_;
  std::unique_ptr<runtime::Sandbox> sandbox_;
  std::string last_failure_;
  base::Duration prepare_delay_{0};
  event::Timer prepare_timer_;
  bool refreshing_ = false;
  event::Timer refresh_timer_;
  std::map<long long, ExitCallback> execs_;
  struct ExitWatch {
    std::string container;
    ExitCallback callback;
  };
  std::map<long long, ExitWatch> exit_watches_;
  long long last_watch_ = 0;
  std::string status_before_;  // JSON text of the last computed status
  bool status_busy_ = false;
  bool status_dirty_ = false;
  base::Duration status_delay_{0};
  event::Timer status_timer_;
  event::TurnEnd status_turn_;
  Alive alive_;
};

}  // namespace postern::node
