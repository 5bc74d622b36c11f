#include "node/pod_worker.h"

#include "base/log.h"
#include "node/pod_files.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

namespace postern::node {
namespace {

namespace fs = std::filesystem;
using json::Json;
using runtime::Sandbox;
using std::chrono::milliseconds;

base::LogComponent kPodLog("node");

constexpr milliseconds kRetryFirst{100};
constexpr milliseconds kRetryMax{5000};
constexpr std::chrono::seconds kRefreshPeriod{60};
constexpr milliseconds kSandboxEndMax{5000};

base::Duration nextDelay(base::Duration delay) {
  return delay == base::Duration{} ? base::Duration(kRetryFirst)
                                   : std::min<base::Duration>(delay * 2, kRetryMax);
}

void endSandboxProcess(const Sandbox::Identity& identity) {
  Sandbox::kill(identity);
  const auto end = std::chrono::steady_clock::now() + kSandboxEndMax;
  while (Sandbox::alive(identity) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(milliseconds(2));
  }
}

runtime::SandboxSpec sandboxSpec(const Json& pod, const std::string& folder,
                                 const WorkerContext& context) {
  runtime::SandboxSpec spec;
  spec.folder = folder + "/sandbox";
  spec.hostname = podHostname(pod);
  spec.programs_dir = context.programs_dir;
  spec.hosts_file = folder + "/etc/hosts";
  spec.resolv_file = folder + "/etc/resolv.conf";
  spec.hostname_file = folder + "/etc/hostname";
  spec.hidden = context.hidden;
  for (const Json& sysctl : listAt(pod, "spec.securityContext.sysctls")) {
    spec.sysctls[json::stringAt(sysctl, "name")] = json::stringAt(sysctl, "value");
  }
  spec.host_network = json::boolAt(pod, "spec.hostNetwork");
  return spec;
}

}  // namespace

PodWorker::PodWorker(WorkerContext& context, kube::ObjectPtr pod, std::function<void()> on_gone)
    : context_(context),
      pod_(std::move(pod)),
      uid_(json::stringAt(*pod_, "metadata.uid")),
      on_gone_(std::move(on_gone)),
      volumes_(std::make_shared<Volumes>(context.client, folder() + "/volumes")),
      prepare_timer_(context.loop, [this] { prepare(); }),
      refresh_timer_(context.loop, [this] { refreshVolumes(); }),
      status_timer_(context.loop, [this] { terminating_ ? checkTerminated() : changed(); }),
      status_turn_(context.loop, [this] { flushStatus(); }) {
  view_.host_ip = context.facts.host_ip;
  view_.start_ms = parseTimeMs(json::stringAt(*pod_, "status.startTime"));
  if (view_.start_ms == 0) view_.start_ms = nowMs();
  status_before_ = json::dump(mapAt(*pod_, "status"));
  makeContainers();
  const std::string phase = json::stringAt(*pod_, "status.phase");
  if (phase == "Succeeded" || phase == "Failed") {
    stage_ = Stage::kEnded;
    restored_ = true;
    identity_ = loadSandbox(folder()).value_or(Sandbox::Identity{});
    endSandbox();
  } else if (json::stringAt(*pod_, "metadata.deletionTimestamp").empty() || loadSandbox(folder())) {
    prepare();
  }
  update(pod_);
}

PodWorker::~PodWorker() = default;

void PodWorker::update(kube::ObjectPtr pod) {
  const bool fields_changed =
      mapAt(*pod, "metadata.labels") != mapAt(*pod_, "metadata.labels") ||
      mapAt(*pod, "metadata.annotations") != mapAt(*pod_, "metadata.annotations");
  pod_ = std::move(pod);
  if (!json::stringAt(*pod_, "metadata.deletionTimestamp").empty()) {
    terminate(
        std::chrono::seconds(json::integerAt(*pod_, "metadata.deletionGracePeriodSeconds", 30)));
    return;
  }
  if (fields_changed && stage_ == Stage::kRunning) refreshVolumes();
  for (auto& worked : containers_) {
    if (worked->view.state != ContainerView::State::kRunning || terminating_) continue;
    if (json::stringAt(specOf(*worked), "image") == worked->view.image) continue;
    worked->replaced = true;
    stopContainer(
        *worked, gracePeriod(),
        fmt::format("Container {} definition changed, will be restarted", worked->view.name));
  }
}

void PodWorker::removed() {
  object_gone_ = true;
  terminate(std::chrono::seconds(0));
}

// ---- sandbox ----

PodFacts PodWorker::facts() const {
  PodFacts out = context_.facts;
  out.pod_ip = view_.pod_ip;
  return out;
}

void PodWorker::prepare() {
  if (preparing_ || terminating_) return;
  preparing_ = true;
  context_.pool.run(
      alive_,
      [pod = pod_, folder = folder(), uid = uid_, volumes = volumes_, facts = facts(),
       &context = context_, network = context_.network]() mutable {
        Prepared out;
        makePodFolders(folder);
        savePod(folder, *pod);
        writeTextFile(folder + "/etc/hostname", podHostname(*pod) + "\n");
        writeTextFile(folder + "/etc/resolv.conf",
                      resolvText(*pod, context.cluster_domain, network != nullptr));
        if (auto kept = loadSandbox(folder)) {
          out.identity = *kept;
        } else {
          auto made = Sandbox::spawn(sandboxSpec(*pod, folder, context), context.shim_command);
          if (!made) {
            out.failure = "Failed to create pod sandbox: " + made.error();
            out.reason = "FailedCreatePodSandBox";
            return out;
          }
          out.identity = *made;
          saveSandbox(folder, *made);
        }
        if (json::boolAt(*pod, "spec.hostNetwork")) {
          out.ip = facts.host_ip;
        } else {
          auto netns = Sandbox::networkNamespace(out.identity);
          auto address =
              !netns ? base::Result<std::string>(std::unexpected(netns.error()))
              : network == nullptr
                  ? base::Result<std::string>("")
                  : network->attach(uid, netns->get(), json::stringAt(*pod, "status.podIP"));
          if (!address) {
            out.failure = "Failed to set up the pod's network: " + address.error().message();
            out.reason = "FailedCreatePodSandBox";
            return out;
          }
          out.netns = std::move(*netns);
          out.ip = *address;
        }
        writeTextFile(folder + "/etc/hosts", hostsText(*pod, out.ip, context.cluster_domain));
        facts.pod_ip = out.ip;
        if (auto done = volumes->update(*pod, facts); !done) {
          out.failure = done.error();
          out.reason = "FailedMount";
        }
        return out;
      },
      [this](Prepared prepared) { onPrepared(std::move(prepared)); });
}

void PodWorker::onPrepared(Prepared prepared) {
  preparing_ = false;
  identity_ = prepared.identity;
  if (prepared.netns) netns_ = std::move(prepared.netns);
  if (!prepared.ip.empty()) view_.pod_ip = prepared.ip;
  if (terminating_ && stage_ == Stage::kPreparing && loadSandbox(folder()) == std::nullopt) {
    return checkTerminated();
  }
  if (!prepared.failure.empty()) {
    if (prepared.failure != std::exchange(last_failure_, prepared.failure)) {
      event("Warning", prepared.reason.c_str(), prepared.failure);
      kPodLog.warning("pod {}: {}", kube::keyOf(*pod_), prepared.failure);
    }
    if (terminating_) return checkTerminated();
    prepare_delay_ = nextDelay(prepare_delay_);
    prepare_timer_.arm(prepare_delay_);
    return changed();
  }
  prepare_delay_ = {};
  stage_ = Stage::kConnecting;
  connect();
}

void PodWorker::connect() {
  sandbox_ = Sandbox::connect(context_.loop, folder() + "/sandbox", *this);
  if (sandbox_) return;
  onLost("the sandbox does not answer");
}

void PodWorker::onReady(std::vector<runtime::ContainerRecord> records) {
  stage_ = Stage::kRunning;
  view_.sandbox_ready = true;
  refresh_timer_.arm(kRefreshPeriod);
  adopting_ = true;
  for (auto& worked : containers_) {
    const runtime::ContainerRecord* latest = nullptr;
    int attempt = -1;
    for (const auto& record : records) {
      const std::size_t dash = record.id.rfind('-');
      if (record.id.substr(0, dash) != worked->view.name) continue;
      const int number = std::atoi(record.id.c_str() + dash + 1);
      if (number > attempt) {
        latest = &record;
        attempt = number;
      }
    }
    if (latest == nullptr) continue;
    worked->attempt = attempt;
    worked->id = latest->id;
    worked->view.restart_count = attempt;
    onStarted(*worked, *latest, true);
    if (!latest->running) onContainerExit(*latest);
  }
  adopting_ = false;
  if (terminating_) {
    terminating_ = false;
    terminate(std::chrono::seconds(
        json::integerAt(*pod_, "metadata.deletionGracePeriodSeconds", object_gone_ ? 0 : 30)));
    return;
  }
  sync();
}

void PodWorker::onLost(const std::string& why) {
  sandbox_.reset();
  const bool was_ready = std::exchange(view_.sandbox_ready, false);
  auto execs = std::exchange(execs_, {});
  for (auto& [id, callback] : execs) callback(128 + 9);
  if (stage_ == Stage::kEnded || stage_ == Stage::kCleaning) return;
  if (!terminating_ && why != std::exchange(last_failure_, why)) {
    kPodLog.warning("pod {}: {}", kube::keyOf(*pod_), why);
    if (was_ready) {
      event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    } else {
      event("Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: " + why);
    }
  }
  stage_ = Stage::kPreparing;
  const Sandbox::Identity lost = identity_;
  for (auto& worked : containers_) {
    worked->starting = false;
    if (worked->view.state != ContainerView::State::kRunning) continue;
    Termination ended;
    ended.exit_code = 128 + 9;
    ended.signal = 9;
    ended.reason = "Error";
    ended.started_ms = worked->view.started_ms;
    ended.finished_ms = nowMs();
    onEnded(*worked, std::move(ended));
  }
  context_.pool.run(
      alive_,
      [lost] {
        endSandboxProcess(lost);
        return 0;
      },
      [this](int) {
        if (terminating_) return checkTerminated();
        prepare_delay_ = nextDelay(prepare_delay_);
        prepare_timer_.arm(prepare_delay_);
      });
  changed();
}

void PodWorker::refreshVolumes() {
  if (refreshing_ || stage_ != Stage::kRunning || terminating_) return;
  refreshing_ = true;
  context_.pool.run(
      alive_,
      [pod = pod_, folder = folder(), volumes = volumes_, facts = facts()] {
        savePod(folder, *pod);
        auto done = volumes->update(*pod, facts);
        return done ? std::string() : done.error();
      },
      [this](std::string failure) {
        refreshing_ = false;
        refresh_timer_.arm(kRefreshPeriod);
        if (!failure.empty() && failure != std::exchange(last_failure_, failure)) {
          event("Warning", "FailedMount", failure);
        }
      });
}

// ---- status ----

bool PodWorker::terminal() const {
  const std::string phase = podPhase(*pod_, view_);
  return phase == "Succeeded" || phase == "Failed";
}

void PodWorker::event(const char* type, const char* reason, std::string message,
                      const std::string& container) {
  context_.events.record(*pod_, type, reason, std::move(message), container);
}

void PodWorker::changed() { status_turn_.schedule(); }

void PodWorker::flushStatus() {
  if (status_busy_) {
    status_dirty_ = true;
    return;
  }
  if (object_gone_ || restored_ || stage_ == Stage::kCleaning || status_timer_.armed()) return;
  view_.containers.clear();
  for (const auto& worked : containers_) view_.containers.push_back(worked->view);
  auto before = json::parse(status_before_);
  Json status = podStatus(*pod_, view_, *before, nowMs());
  const std::string text = json::dump(status);
  if (text == status_before_) return;
  status_before_ = text;
  writeStatus(std::move(status));
}

void PodWorker::writeStatus(Json status) {
  status_busy_ = true;
  context_.pool.run(
      alive_,
      [pod = pod_, uid = uid_, status = std::move(status), &client = context_.client]() {
        kube::WriteOptions options;
        options.field_manager = "kubelet";
        options.subresource = "status";
        const Json patch{{"metadata", {{"uid", uid}}}, {"status", status}};
        auto done = client.patch(kube::types::kPod, json::stringAt(*pod, "metadata.namespace"),
                                 json::stringAt(*pod, "metadata.name"), kube::PatchType::kStrategic,
                                 patch, options);
        // Gone, or another pod under this name: nobody to tell.
        if (done || done.error().notFound() || done.error().code == 409) return true;
        kPodLog.debug("status of {}: {}", kube::keyOf(*pod), done.error().message);
        return false;
      },
      [this](bool written) {
        status_busy_ = false;
        const bool dirty = std::exchange(status_dirty_, false);
        if (written) {
          status_delay_ = {};
          if (dirty) changed();
          return;
        }
        status_before_ = "{}";
        status_delay_ = nextDelay(status_delay_);
        status_timer_.arm(status_delay_);
      });
}

// ---- the end ----

void PodWorker::terminate(std::chrono::seconds grace) {
  if (stage_ == Stage::kCleaning) return;
  const bool again = std::exchange(terminating_, true);
  prepare_timer_.cancel();
  refresh_timer_.cancel();
  for (auto& worked : containers_) {
    if (!worked->stopping) worked->retry.reset();  // else it is the pause of a preStop hook
    worked->startup.reset();
    worked->readiness.reset();
    worked->liveness.reset();
    if (worked->view.state != ContainerView::State::kRunning) continue;
    if (again && worked->kill && grace == std::chrono::seconds(0)) worked->kill->arm({});
    stopContainer(*worked, grace, fmt::format("Stopping container {}", worked->view.name));
  }
  checkTerminated();
}

void PodWorker::checkTerminated() {
  if (!terminating_ || preparing_ || stage_ == Stage::kCleaning || stage_ == Stage::kConnecting) {
    return;
  }
  for (const auto& worked : containers_) {
    if (worked->starting || worked->view.state == ContainerView::State::kRunning) return;
  }
  if (status_busy_) {  // its end must not overtake
    status_timer_.arm(milliseconds(5));
    return;
  }
  cleanUp();
}

void PodWorker::endSandbox() {
  if (sandbox_) sandbox_->stop();
  view_.sandbox_ready = false;
  context_.pool.run(
      alive_,
      [identity = identity_, uid = uid_, network = context_.network] {
        if (identity.pid > 0) endSandboxProcess(identity);
        if (network != nullptr) network->detach(uid);
        return 0;
      },
      [](int) {});
}

void PodWorker::cleanUp() {
  view_.sandbox_ready = false;
  view_.containers.clear();
  for (const auto& worked : containers_) view_.containers.push_back(worked->view);
  auto before = json::parse(status_before_);
  Json status = podStatus(*pod_, view_, *before, nowMs());
  stage_ = Stage::kCleaning;
  sandbox_.reset();
  context_.pool.run(
      alive_,
      [pod = pod_, uid = uid_, identity = identity_, network = context_.network, folder = folder(),
       gone = object_gone_, restored = restored_, status = std::move(status),
       &client = context_.client] {
        const auto kept = loadSandbox(folder);
        if (kept) endSandboxProcess(*kept);
        if (identity.pid > 0) endSandboxProcess(identity);
        if (network != nullptr) network->detach(uid);
        const std::string ns = json::stringAt(*pod, "metadata.namespace");
        const std::string name = json::stringAt(*pod, "metadata.name");
        if (!gone) {
          kube::WriteOptions options;
          options.field_manager = "kubelet";
          options.subresource = "status";
          if (!restored) {
            (void)client.patch(kube::types::kPod, ns, name, kube::PatchType::kStrategic,
                               Json{{"metadata", {{"uid", uid}}}, {"status", status}}, options);
          }
          kube::DeleteOptions remove;
          remove.grace_seconds = 0;
          remove.uid = uid;
          auto done = client.remove(kube::types::kPod, ns, name, remove);
          if (!done && !done.error().notFound() && done.error().code != 409) return false;
        }
        std::error_code error;
        fs::remove_all(folder, error);
        return true;
      },
      [this](bool done) {
        if (done) return on_gone_();
        stage_ = Stage::kEnded;
        status_delay_ = nextDelay(status_delay_);
        status_timer_.arm(status_delay_);
      });
}

}  // namespace postern::node
