// What the streaming server asks of a PodWorker: exec, attach, and when a container ends.
#include "node/pod_worker.h"

#include <nlohmann/json.hpp>

namespace postern::node {

std::optional<PodWorker::ContainerInfo> PodWorker::container(const std::string& name) const {
  for (const auto& worked : containers_) {
    const ContainerView& view = worked->view;
    if (view.name != name) continue;
    ContainerInfo out;
    out.name = name;
    out.state = view.state;
    out.has_last = worked->attempt > 0;
    out.restart_count = view.restart_count;
    out.waiting_reason = view.waiting_reason;
    out.run_id = worked->id;
    if (worked->attempt >= 0) out.log_file = logFile(name, worked->attempt);
    if (worked->attempt > 0) out.previous_log = logFile(name, worked->attempt - 1);
    out.terminal = json::boolAt(specOf(*worked), "tty");
    return out;
  }
  return {};
}

void PodWorker::exec(runtime::ExecSpec spec, runtime::Callback<runtime::ExecStarted> started,
                     ExitCallback on_exit) {
  if (!sandbox_ || spec.container.empty()) {
    return started(std::unexpected(runtime::OperationFailure{"the container is not running", 128}));
  }
  sandbox_->exec(std::move(spec),
                 [this, started = std::move(started), on_exit = std::move(on_exit)](
                     std::expected<runtime::ExecStarted, runtime::OperationFailure> done) mutable {
                   if (done) execs_[done->id] = std::move(on_exit);
                   started(std::move(done));
                 });
}

void PodWorker::attach(runtime::AttachSpec spec, runtime::Callback<runtime::Attached> attached) {
  if (!sandbox_) {
    return attached(
        std::unexpected(runtime::OperationFailure{"the container is not running", 128}));
  }
  sandbox_->attach(std::move(spec), std::move(attached));
}

void PodWorker::signalExec(long long exec, int number) {
  if (sandbox_) sandbox_->signalExec(exec, number);
}

void PodWorker::onExecExit(long long exec, int code) {
  const auto it = execs_.find(exec);
  if (it == execs_.end()) return;
  ExitCallback callback = std::move(it->second);
  execs_.erase(it);
  callback(code);
}

long long PodWorker::watchExit(const std::string& container, ExitCallback on_exit) {
  for (const auto& worked : containers_) {
    if (worked->view.name != container || worked->view.state != ContainerView::State::kRunning)
      continue;
    exit_watches_[++last_watch_] = {container, std::move(on_exit)};
    return last_watch_;
  }
  return 0;
}

void PodWorker::unwatchExit(long long watch) { exit_watches_.erase(watch); }

}  // namespace postern::node
