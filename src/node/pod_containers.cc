// The containers of a PodWorker: order, start, restart with back-off, probes, stopping.
#include "base/log.h"
#include "node/pod_files.h"
#include "node/pod_worker.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include <sys/stat.h>
#include <unistd.h>

namespace postern::node {
namespace {

namespace fs = std::filesystem;
using json::Json;
using State = ContainerView::State;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kBackOffFirst{10};
constexpr seconds kBackOffMax{300};
constexpr std::int64_t kBackOffResetMs = 600'000;
constexpr milliseconds kImageRetry{2000};
constexpr milliseconds kConfigRetryFirst{200};
constexpr milliseconds kConfigRetryMax{10'000};
constexpr std::size_t kTerminationMessageMax = 4096;

/// Points from the log's folder, so that the agent and pid 1 agree on it.
std::string runId(const std::string& container, int attempt) {
  return fmt::format("{}-{}", container, attempt);
}

/// What an earlier agent wrote of a run.
std::optional<Termination> terminationFrom(const Json& value) {
  if (value.empty()) return {};
  Termination out;
  out.exit_code = static_cast<int>(json::integerAt(value, "exitCode"));
  out.signal = static_cast<int>(json::integerAt(value, "signal"));
  out.reason = json::stringAt(value, "reason");
  out.message = json::stringAt(value, "message");
  out.started_ms = parseTimeMs(json::stringAt(value, "startedAt"));
  out.finished_ms = parseTimeMs(json::stringAt(value, "finishedAt"));
  out.container_id = json::stringAt(value, "containerID");
  return out;
}

}  // namespace

void PodWorker::makeContainers() {
  for (const bool init : {true, false}) {
    for (const Json& spec : listAt(*pod_, init ? "spec.initContainers" : "spec.containers")) {
      auto worked = std::make_unique<Worked>();
      ContainerView& view = worked->view;
      view.name = json::stringAt(spec, "name");
      view.image = json::stringAt(spec, "image");
      view.init = init;
      view.sidecar = init && json::stringAt(spec, "restartPolicy") == "Always";
      if (listAt(*pod_, "spec.initContainers").empty()) view.waiting_reason = "ContainerCreating";
      // Runs in sandboxes that are gone count too.
      for (const Json& status :
           listAt(*pod_, init ? "status.initContainerStatuses" : "status.containerStatuses")) {
        if (json::stringAt(status, "name") != view.name) continue;
        view.restart_count = static_cast<int>(json::integerAt(status, "restartCount"));
        view.image_id = json::stringAt(status, "imageID");
        view.last = terminationFrom(mapAt(status, "lastState.terminated"));
        if (!json::stringAt(status, "containerID").empty()) worked->attempt = view.restart_count;
      }
      containers_.push_back(std::move(worked));
    }
  }
}

const Json& PodWorker::specOf(const Worked& worked) const {
  for (const Json& spec :
       listAt(*pod_, worked.view.init ? "spec.initContainers" : "spec.containers")) {
    if (json::stringAt(spec, "name") == worked.view.name) return spec;
  }
  static const Json kNone = Json::object();
  return kNone;
}

std::string PodWorker::fieldPath(const Worked& worked) const {
  return fmt::format("spec.{}{{{}}}", worked.view.init ? "initContainers" : "containers",
                     worked.view.name);
}

std::string PodWorker::logFile(const std::string& container, int attempt) const {
  return fmt::format("{}/logs/{}/{}.log", folder(), container, attempt);
}

std::string PodWorker::terminationLog(const Worked& worked) const {
  return fmt::format("{}/termination/{}", folder(), worked.id);
}

seconds PodWorker::gracePeriod() const {
  return seconds(json::integerAt(*pod_, "spec.terminationGracePeriodSeconds", 30));
}

// ---- what is to be done ----

void PodWorker::sync() {
  if (terminating_ || adopting_ || stage_ != Stage::kRunning) return;
  if (syncInit()) {
    for (auto& worked : containers_) {
      const ContainerView& view = worked->view;
      if (view.init || worked->starting || worked->retry) continue;
      if (view.state == State::kWaiting) startContainer(*worked);
    }
  }
  view_.containers.clear();
  for (const auto& worked : containers_) view_.containers.push_back(worked->view);
  if (terminal()) {
    stage_ = Stage::kEnded;
    endSandbox();
  }
  changed();
}

/// True when all init containers are done.
bool PodWorker::syncInit() {
  for (auto& worked : containers_) {
    const ContainerView& view = worked->view;
    if (!view.init) break;
    const bool done = view.sidecar ? view.started
                                   : view.state == State::kTerminated && view.ended->exit_code == 0;
    if (!done) {
      if (view.state == State::kWaiting && !worked->starting && !worked->retry) {
        startContainer(*worked);
      }
      return false;
    }
  }
  for (auto& worked : containers_) {
    if (!worked->view.init && worked->view.waiting_reason == "PodInitializing") {
      worked->view.waiting_reason = "ContainerCreating";
    }
  }
  return true;
}

void PodWorker::startContainer(Worked& worked) {
  worked.starting = true;
  ContainerView& view = worked.view;
  const int attempt = worked.attempt + 1;
  view.image = json::stringAt(specOf(worked), "image");
  const std::string id = runId(view.name, attempt);
  auto build = [pod = pod_, spec = specOf(worked), id, volumes = volumes_, facts = facts(),
                images = context_.images(), services = context_.services(),
                log = logFile(view.name, attempt), old = logFile(view.name, attempt - 2),
                termination = folder() + "/termination/" + id, &client = context_.client] {
    ContainerContext context;
    context.facts = facts;
    context.images = images.get();
    context.services = services;
    context.volumes = volumes->paths();
    context.service_account_dir = volumes->serviceAccountDir();
    context.id = id;
    context.log_file = log;
    context.termination_log = termination;
    const std::string ns = json::stringAt(*pod, "metadata.namespace");
    context.config_map = [&](const std::string& name) {
      return fetchObject(client, kube::types::kConfigMap, ns, name);
    };
    context.secret = [&](const std::string& name) {
      return fetchObject(client, kube::types::kSecret, ns, name);
    };
    std::error_code error;
    fs::create_directories(fs::path(log).parent_path(), error);
    fs::remove(old, error);
    fs::remove(old + ".1", error);
    writeTextFile(termination, "");
    ::chmod(termination.c_str(), 0666);
    return containerSpec(*pod, spec, context);
  };
  context_.pool.run(alive_, std::move(build),
                    [this, &worked](std::expected<runtime::ContainerSpec, ConfigFailure> spec) {
                      onConfigured(worked, std::move(spec));
                    });
}

void PodWorker::onConfigured(Worked& worked,
                             std::expected<runtime::ContainerSpec, ConfigFailure> spec) {
  if (terminating_ || !sandbox_ || stage_ != Stage::kRunning) {
    worked.starting = false;
    return checkTerminated();
  }
  if (!spec) {
    worked.starting = false;
    return onConfigFailure(worked, spec.error());
  }
  worked.failure.clear();
  worked.config_delay = {};
  ContainerView& view = worked.view;
  view.image_id = "postern://" + spec->argv[0];
  event("Normal", "Pulled",
        fmt::format("Container image \"{}\" already present on machine", view.image),
        fieldPath(worked));
  event("Normal", "Created", fmt::format("Created container: {}", view.name), fieldPath(worked));
  ++worked.attempt;
  worked.id = spec->id;
  view.restart_count = worked.attempt;
  if (worked.attempt > 1) sandbox_->forget(runId(view.name, worked.attempt - 2));
  sandbox_->start(
      *spec,
      [this, &worked](std::expected<runtime::ContainerRecord, runtime::OperationFailure> started) {
        worked.starting = false;
        if (started) {
          event("Normal", "Started", fmt::format("Started container {}", worked.view.name),
                fieldPath(worked));
          onStarted(worked, *started, false);
          return;
        }
        if (!sandbox_ || stage_ != Stage::kRunning) {  // lost meanwhile
          --worked.attempt;
          return checkTerminated();
        }
        event("Warning", "Failed", "Error: " + started.error().text, fieldPath(worked));
        Termination ended;
        ended.exit_code = started.error().exit_code;
        ended.reason = "StartError";
        ended.message = started.error().text;
        ended.started_ms = ended.finished_ms = nowMs();
        onEnded(worked, std::move(ended));
      });
}

void PodWorker::onConfigFailure(Worked& worked, const ConfigFailure& failure) {
  ContainerView& view = worked.view;
  const bool image = failure.reason == "ErrImagePull";
  if (failure.message != std::exchange(worked.failure, failure.message)) {
    if (image) {
      event("Warning", "Failed",
            fmt::format("Failed to pull image \"{}\": {}", view.image, failure.message),
            fieldPath(worked));
    }
    event("Warning", "Failed", "Error: " + (image ? "ImagePullBackOff" : failure.message),
          fieldPath(worked));
  }
  view.state = State::kWaiting;
  view.waiting_reason = image ? "ImagePullBackOff" : failure.reason;
  view.waiting_message = failure.message;
  worked.config_delay = image ? base::Duration(kImageRetry)
                        : worked.config_delay == base::Duration{}
                            ? base::Duration(kConfigRetryFirst)
                            : std::min<base::Duration>(worked.config_delay * 2, kConfigRetryMax);
  worked.retry = std::make_unique<event::Timer>(context_.loop, [this, &worked] {
    context_.loop.post([this, &worked, alive = alive_.watch()] {
      if (!alive.lock()) return;
      worked.retry.reset();
      sync();
    });
  });
  worked.retry->arm(worked.config_delay);
  changed();
}

// ---- start and end of a run ----

/// By the status an earlier agent wrote of this very run.
bool PodWorker::wasReady(const ContainerView& view) const {
  for (const Json& status : listAt(*pod_, "status.containerStatuses")) {
    if (json::stringAt(status, "name") == view.name)
      return json::boolAt(status, "ready") &&
             json::stringAt(status, "containerID") == view.container_id;
  }
  return false;
}

void PodWorker::onStarted(Worked& worked, const runtime::ContainerRecord& record, bool adopted) {
  ContainerView& view = worked.view;
  if (view.ended) view.last = std::exchange(view.ended, std::nullopt);
  view.state = State::kRunning;
  view.waiting_message.clear();
  view.started_ms = record.started_ms;
  view.container_id = fmt::format("postern://{}/{}", uid_, worked.id);
  // An adopted container keeps its verdict until a probe says otherwise: the agent's restart is
  // no news about the application.
  view.started = view.ready = adopted && record.running && wasReady(view);
  worked.stopping = false;
  if (adopted && !record.running) return;
  if (terminating_) {
    return stopContainer(worked, gracePeriod(), fmt::format("Stopping container {}", view.name));
  }
  startProbes(worked);
  const Json* hook = json::find(specOf(worked), "lifecycle.postStart");
  if (hook != nullptr && !adopted) {
    worked.hook = Check::start(context_.loop, *this, specOf(worked), *hook, gracePeriod(),
                               [this, &worked](bool good, const std::string& text) {
                                 if (good) return;
                                 event("Warning", "FailedPostStartHook",
                                       "PostStartHook failed: " + text, fieldPath(worked));
                                 stopContainer(worked, gracePeriod(), "FailedPostStartHook");
                               });
  }
  sync();
}

void PodWorker::onContainerExit(const runtime::ContainerRecord& record) {
  for (auto& worked : containers_) {
    if (worked->id != record.id || worked->view.state != State::kRunning) continue;
    Termination ended;
    ended.exit_code = record.exit_code;
    ended.signal = record.signal;
    ended.reason = record.exit_code == 0 ? "Completed" : "Error";
    ended.message = readTextFile(terminationLog(*worked), kTerminationMessageMax).value_or("");
    ended.started_ms = record.started_ms;
    ended.finished_ms = record.finished_ms;
    ended.container_id = worked->view.container_id;
    return onEnded(*worked, std::move(ended));
  }
}

void PodWorker::onEnded(Worked& worked, Termination ended) {
  ContainerView& view = worked.view;
  worked.startup.reset();
  worked.readiness.reset();
  worked.liveness.reset();
  worked.kill.reset();
  worked.hook.reset();
  worked.stopping = false;
  view.started = view.ready = false;
  view.state = State::kTerminated;
  const std::int64_t ran_ms = ended.finished_ms - ended.started_ms;
  const int code = ended.exit_code;
  view.ended = std::move(ended);
  std::vector<ExitCallback> callbacks;
  for (auto it = exit_watches_.begin(); it != exit_watches_.end();) {
    if (it->second.container == view.name) {
      callbacks.push_back(std::move(it->second.callback));
      it = exit_watches_.erase(it);
    } else {
      ++it;
    }
  }
  for (auto& callback : callbacks) callback(code);
  if (terminating_) {
    changed();
    return checkTerminated();
  }
  if (ran_ms >= kBackOffResetMs || std::exchange(worked.replaced, false)) worked.back_off = {};
  if (restarts(worked)) waitForRestart(worked);
  sync();
}

bool PodWorker::restarts(const Worked& worked) const {
  if (worked.view.sidecar) return true;
  const std::string policy = json::stringAt(*pod_, "spec.restartPolicy", "Always");
  const bool failed = worked.view.ended->exit_code != 0;
  if (worked.view.init) return failed && policy != "Never";
  return policy == "Always" || (policy == "OnFailure" && failed);
}

/// As the kubelet: at once the first time, then 10 s after the end, doubling.
void PodWorker::waitForRestart(Worked& worked) {
  ContainerView& view = worked.view;
  const seconds delay = worked.back_off;
  worked.back_off = delay == seconds(0) ? kBackOffFirst : std::min(delay * 2, kBackOffMax);
  view.last = view.ended;
  view.state = State::kWaiting;
  if (delay == seconds(0)) {
    view.waiting_reason = "ContainerCreating";
    return;
  }
  view.ended.reset();
  view.waiting_reason = "CrashLoopBackOff";
  view.waiting_message = fmt::format(
      "back-off {}s restarting failed container={} pod={}_{}({})", delay.count(), view.name,
      json::stringAt(*pod_, "metadata.name"), json::stringAt(*pod_, "metadata.namespace"), uid_);
  event("Warning", "BackOff",
        fmt::format("Back-off restarting failed container {} in pod {}_{}({})", view.name,
                    json::stringAt(*pod_, "metadata.name"),
                    json::stringAt(*pod_, "metadata.namespace"), uid_),
        fieldPath(worked));
  worked.retry = std::make_unique<event::Timer>(context_.loop, [this, &worked] {
    context_.loop.post([this, &worked, alive = alive_.watch()] {
      if (!alive.lock()) return;
      worked.retry.reset();
      sync();
    });
  });
  worked.retry->arm(delay);
}

void PodWorker::stopContainer(Worked& worked, seconds grace, const std::string& why) {
  if (std::exchange(worked.stopping, true)) return;
  event("Normal", "Killing", why, fieldPath(worked));
  worked.view.ready = false;
  worked.kill = std::make_unique<event::Timer>(context_.loop, [this, &worked] {
    if (sandbox_) sandbox_->signal(worked.id, SIGKILL);
  });
  worked.kill->arm(grace);
  const Json* hook = json::find(specOf(worked), "lifecycle.preStop");
  if (hook == nullptr || grace == seconds(0)) {
    if (sandbox_ && grace > seconds(0)) sandbox_->signal(worked.id, SIGTERM);
    return changed();
  }
  if (const Json* sleep = json::find(*hook, "sleep")) {
    worked.retry = std::make_unique<event::Timer>(context_.loop, [this, &worked] {
      if (sandbox_) sandbox_->signal(worked.id, SIGTERM);
    });
    worked.retry->arm(seconds(json::integerAt(*sleep, "seconds")));
    return changed();
  }
  worked.hook = Check::start(context_.loop, *this, specOf(worked), *hook, grace,
                             [this, &worked](bool good, const std::string& text) {
                               if (!good) {
                                 event("Warning", "FailedPreStopHook",
                                       "PreStopHook failed: " + text, fieldPath(worked));
                               }
                               if (sandbox_) sandbox_->signal(worked.id, SIGTERM);
                             });
  changed();
}

}  // namespace postern::node
