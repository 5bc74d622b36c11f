#include "cluster/supervisor.h"

#include "base/log.h"
#include "cluster/files.h"
#include "cluster/managed_process.h"
#include "json/json.h"
#include "net/socket.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

using json::Json;
using State = ManagedProcess::State;

constexpr std::chrono::seconds kRotationPeriod{10};
constexpr std::chrono::milliseconds kPatience{2000};

base::LogComponent& log() {
  static base::LogComponent component("supervisor");
  return component;
}

const char* toString(State state) {
  switch (state) {
    case State::kWaiting:
      return "waiting";
    case State::kStarting:
      return "starting";
    case State::kReady:
      return "running";
    case State::kPausing:
      return "restarting";
  }
  return "";
}

/// The listening socket that a living API server holds, if it can be had.
base::Fd listenerOf(const base::Fd& api, const DataFolder& folder, std::uint16_t port) {
  auto text = readFile(folder.run("listener.json"));
  auto value = text ? json::parse(*text) : base::failConfig("", "absent");
  if (!api || !value) return {};
  const auto number = static_cast<int>(json::integerAt(*value, "fd", -1));
  base::Fd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, api.get(), number, 0)));
  int accepts = 0;
  socklen_t length = sizeof(accepts);
  if (!fd || ::getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) != 0 ||
      accepts == 0 || net::localAddress(fd.get()).port() != port) {
    return {};
  }
  return fd;
}

class Supervisor final : public ManagedProcess::Observer {
 public:
  Supervisor(DataFolder folder, ClusterOptions options, int report_fd)
      : folder_(std::move(folder)),
        options_(std::move(options)),
        report_(report_fd),
        rotation_(loop_, [this] {
          rotateLogs(folder_.file("logs"), kLogBytesMax);
          rotation_.arm(kRotationPeriod);
        }) {}

  int run() {
    auto begun = begin();
    if (!begun) return fail(begun.error().message());
    event::Loop::SignalWatch signals(loop_, {SIGTERM, SIGINT}, [this](int) { loop_.stop(); });
    rotation_.arm(kRotationPeriod);
    advance();
    loop_.run();
    stopAll();
    if (!first_error_.empty()) return fail(first_error_);
    return 0;
  }

 private:
  base::ConfigResult<void> begin();
  base::ConfigResult<void> openListener();
  base::ConfigResult<void> openStandIn(const External& external);
  void addNodeNamespace();
  void addApi();
  void addInNode();
  void onChange(ManagedProcess& process, const std::string& error) override;
  void advance();
  void stopAll();
  void writeStatus();
  bool readyAll(const std::vector<std::string>& names) const;
  ManagedProcess* find(const std::string& name) const;

  void tell(const std::string& line) {
    if (!report_) return;
    const std::string text = line + "\n";
    // `up` may be gone: the cluster starts all the same, and the next `up` finds it.
    if (::write(report_.get(), text.data(), text.size()) < 0) report_.reset();
  }
  int fail(const std::string& text) {
    log().error("{}", text);
    tell("error " + text);
    return 1;
  }

  event::Loop loop_;
  DataFolder folder_;
  ClusterOptions options_;
  base::Fd report_;
  base::Fd lock_;
  base::Fd listener_;
  std::vector<base::Fd> stand_in_listeners_;
  std::vector<std::unique_ptr<ManagedProcess>> processes_;
  std::set<std::string> told_;
  std::string first_error_;
  bool up_ = false;
  event::Timer rotation_;
};

base::ConfigResult<void> Supervisor::begin() {
  auto lock = lockFile(folder_.supervisorLock());
  if (!lock) return base::failConfig("", "another supervisor runs in " + folder_.root);
  lock_ = std::move(*lock);
  POSTERN_TRY(const ProcessRecord self, ProcessRecord::of("supervisor", ::getpid()));
  POSTERN_TRY_VOID(self.write(folder_.run("supervisor.json")));
  // What a helper of ours leaves behind becomes our child, so that its end is seen and reaped.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  POSTERN_TRY_VOID(openListener());
  addNodeNamespace();
  addApi();
  addInNode();
  for (const External& external : options_.externals) {
    if (external.isStandIn()) POSTERN_TRY_VOID(openStandIn(external));
  }
  for (auto& process : processes_) process->adopt();
  return {};
}

base::ConfigResult<void> Supervisor::openListener() {
  const auto address = net::Address::loopback(options_.api_port);
  auto api = ProcessRecord::read(folder_.run("api.json"));
  const base::Fd running = api ? api->open() : base::Fd();
  listener_ = listenerOf(running, folder_, options_.api_port);
  if (!listener_) {
    // The kernel may refuse the descriptor of a process that is not our child; then the API server
    // is started again.
    endProcess(running, kPatience);
    auto made = net::listenSocket(address);
    if (!made && made.error().sys == EADDRINUSE) {
      return base::failConfig(
          "", fmt::format("port {} of 127.0.0.1 is taken by another program; choose another with "
                          "--api-port",
                          options_.api_port));
    }
    if (!made) {
      return base::failConfig(
          "", fmt::format("cannot listen on {}: {}", address.toString(), made.error().message()));
    }
    listener_ = std::move(*made);
    options_.api_port = net::localAddress(listener_.get()).port();
    POSTERN_TRY_VOID(options_.save(folder_));
    return writeFile(folder_.run("listener.json"), fmt::format("{{\"fd\":{}}}\n", listener_.get()));
  }
  return {};
}

void Supervisor::addNodeNamespace() {
  ManagedProcess::Spec spec;
  spec.name = "node-ns";
  spec.keep_across_versions = true;
  spec.start = [](int ready_fd, int log_fd) {
    return startNodeNamespace(
        {"postern", "daemon", "node-ns", "--ready-fd", std::to_string(ready_fd)}, {ready_fd},
        log_fd);
  };
  processes_.push_back(std::make_unique<ManagedProcess>(loop_, folder_, std::move(spec), *this));
}

void Supervisor::addApi() {
  ManagedProcess::Spec spec;
  spec.name = "api";
  spec.start = [this](int ready_fd, int log_fd) {
    return startProcess({"postern", "daemon", "api", "--data-dir", folder_.root, "--listener-fd",
                         std::to_string(listener_.get()), "--ready-fd", std::to_string(ready_fd)},
                        {listener_.get(), ready_fd}, log_fd);
  };
  processes_.push_back(std::make_unique<ManagedProcess>(loop_, folder_, std::move(spec), *this));
}

void Supervisor::addInNode() {}

base::ConfigResult<void> Supervisor::openStandIn(const External& external) {
  (void)external;
  return {};
}

ManagedProcess* Supervisor::find(const std::string& name) const {
  for (const auto& process : processes_) {
    if (process->spec().name == name) return process.get();
  }
  return nullptr;
}

bool Supervisor::readyAll(const std::vector<std::string>& names) const {
  for (const std::string& name : names) {
    const ManagedProcess* process = find(name);
    if (process == nullptr || !process->ready()) return false;
  }
  return true;
}

void Supervisor::onChange(ManagedProcess& process, const std::string& error) {
  if (!error.empty() && !up_ && !process.everReady() && first_error_.empty()) {
    // Nothing half-started: the first start of each part succeeds, or all of them end.
    first_error_ = fmt::format("{}: {}", process.spec().name, error);
    loop_.stop();
    return;
  }
  advance();
}

void Supervisor::advance() {
  for (auto& process : processes_) {
    if (process->state() == State::kWaiting && readyAll(process->spec().needs)) process->start();
    if (!first_error_.empty()) return;
    if (process->ready() && told_.insert(process->spec().name).second) {
      tell("ready " + process->spec().name);
    }
  }
  writeStatus();
  if (up_) return;
  for (const auto& process : processes_) {
    if (!process->everReady()) return;
  }
  up_ = true;
  log().info("the cluster runs");
  tell("up");
  report_.reset();
}

void Supervisor::writeStatus() {
  Json all = Json::array();
  for (const auto& process : processes_) {
    all.push_back({{"name", process->spec().name},
                   {"state", toString(process->state())},
                   {"pid", process->pid()},
                   {"restarts", process->restarts()},
                   {"sinceUnixMs", process->sinceUnixMs()}});
  }
  const Json status = {{"version", POSTERN_VERSION}, {"processes", std::move(all)}};
  if (auto written = writeFile(folder_.run("status.json"), json::dump(status)); !written) {
    log().error("{}", written.error().message());
  }
}

void Supervisor::stopAll() {
  log().info("the cluster ends");
  rotation_.cancel();
  // What runs in the node first, then the node itself, which ends all that is left in it.
  for (auto process = processes_.rbegin(); process != processes_.rend(); ++process) {
    const bool holder = (*process)->spec().name == "node-ns";
    (*process)->end(holder ? std::chrono::milliseconds(0) : kPatience);
  }
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  for (const char* name : {"listener.json", "status.json", "supervisor.json"}) {
    ::unlink(folder_.run(name).c_str());
  }
}

}  // namespace

int runSupervisor(const DataFolder& folder, int report_fd) {
  if (report_fd >= 0) ::fcntl(report_fd, F_SETFD, FD_CLOEXEC);
  event::Loop::blockSignals({SIGTERM, SIGINT});
  ::signal(SIGHUP, SIG_IGN);
  auto options = ClusterOptions::load(folder);
  if (!options) {
    const std::string text = "error " + options.error().message() + "\n";
    [[maybe_unused]] ssize_t n = ::write(report_fd, text.data(), text.size());
    return 1;
  }
  Supervisor supervisor(folder, std::move(*options), report_fd);
  return supervisor.run();
}

}  // namespace postern::cluster
