// The probes of a PodWorker's containers, and the programs they run.
#include "node/pod_worker.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace postern::node {
namespace {

using json::Json;

constexpr std::size_t kProbeOutputMax = 10 * 1024;

}  // namespace

void PodWorker::startProbes(Worked& worked) {
  const Json& spec = specOf(worked);
  const Json* startup = json::find(spec, "startupProbe");
  if (startup == nullptr || worked.view.started) return startOtherProbes(worked);
  worked.startup = std::make_unique<Probe>(
      context_.loop, *this, spec, *startup, true, false,
      Probe::Callbacks{[this, &worked](bool good) {
                         if (good) {
                           // Not while its own code runs.
                           context_.loop.post([this, &worked, alive = alive_.watch()] {
                             if (!alive.lock() || !worked.startup) return;
                             worked.startup.reset();
                             startOtherProbes(worked);
                             sync();
                           });
                         } else {
                           stopContainer(worked, gracePeriod(),
                                         fmt::format("Container {} failed startup probe, will be "
                                                     "restarted",
                                                     worked.view.name));
                         }
                       },
                       [this, &worked](const std::string& text) {
                         event("Warning", "Unhealthy", "Startup probe failed: " + text,
                               fieldPath(worked));
                       }});
}

void PodWorker::startOtherProbes(Worked& worked) {
  const Json& spec = specOf(worked);
  worked.view.started = true;
  if (const Json* readiness = json::find(spec, "readinessProbe")) {
    worked.readiness = std::make_unique<Probe>(
        context_.loop, *this, spec, *readiness, true, worked.view.ready,
        Probe::Callbacks{[this, &worked](bool good) {
                           worked.view.ready = good && !worked.stopping;
                           changed();
                         },
                         [this, &worked](const std::string& text) {
                           event("Warning", "Unhealthy", "Readiness probe failed: " + text,
                                 fieldPath(worked));
                         }});
  } else {
    worked.view.ready = true;
  }
  if (const Json* liveness = json::find(spec, "livenessProbe")) {
    worked.liveness = std::make_unique<Probe>(
        context_.loop, *this, spec, *liveness, false, true,
        Probe::Callbacks{[this, &worked](bool good) {
                           if (good) return;
                           stopContainer(worked, gracePeriod(),
                                         fmt::format("Container {} failed liveness probe, will be "
                                                     "restarted",
                                                     worked.view.name));
                         },
                         [this, &worked](const std::string& text) {
                           event("Warning", "Unhealthy", "Liveness probe failed: " + text,
                                 fieldPath(worked));
                         }});
  }
  changed();
}

std::string PodWorker::probeAddress() { return view_.pod_ip.empty() ? "127.0.0.1" : view_.pod_ip; }

int PodWorker::probeNamespace() { return view_.pod_ip.empty() ? netns_.get() : -1; }

void PodWorker::probeExec(const std::string& container, std::vector<std::string> argv,
                          ExecDone done) {
  // A file, not a pipe: nobody reads while the program runs.
  base::Fd output(::memfd_create("probe", MFD_CLOEXEC));
  runtime::ExecSpec spec;
  for (const auto& worked : containers_) {
    if (worked->view.name == container) spec.container = worked->id;
  }
  spec.argv = std::move(argv);
  spec.streams[1] = base::Fd(::fcntl(output.get(), F_DUPFD_CLOEXEC, 0));
  spec.streams[2] = base::Fd(::fcntl(output.get(), F_DUPFD_CLOEXEC, 0));
  auto shared = std::make_shared<ExecDone>(std::move(done));
  exec(
      std::move(spec),
      [shared](std::expected<runtime::ExecStarted, runtime::OperationFailure> started) {
        if (!started) (*shared)(-1, started.error().text);
      },
      [shared, output = std::move(output)](int code) {
        std::string text(kProbeOutputMax, '\0');
        const ssize_t got = ::pread(output.get(), text.data(), text.size(), 0);
        text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        (*shared)(code, std::move(text));
      });
}

}  // namespace postern::node
