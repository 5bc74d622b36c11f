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

base::LogComponent& supervisorLog() {
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

/// A listening loopback socket that is handed to a process and stays the same while it restarts.
struct HeldListener {
  base::Fd fd;
  std::uint16_t port = 0;
};

/// What is remembered of the socket of process `name`: its number there, and its port.
struct KnownListener {
  int fd = -1;
  std::uint16_t port = 0;
};
KnownListener knownListener(const DataFolder& folder, const std::string& name) {
  auto text = readFile(folder.run(name + "-listener.json"));
  auto value = text ? json::parse(*text) : base::failConfig("", "absent");
  if (!value) return {};
  return {static_cast<int>(json::integerAt(*value, "fd", -1)),
          static_cast<std::uint16_t>(json::integerAt(*value, "port"))};
}

/// The listening socket that a living process holds, if it can be had.
base::Fd listenerOf(const base::Fd& process, int number, std::uint16_t port) {
  if (!process || number < 0) return {};
  base::Fd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
  int accepts = 0;
  socklen_t length = sizeof(accepts);
  if (!fd || ::getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) != 0 ||
      accepts == 0 || net::localAddress(fd.get()).port() != port) {
    return {};
  }
  return fd;
}

/// Takes the socket over from the process of an earlier supervisor, or makes it. `port` 0: that of
/// the last time, or the kernel's choice.
base::Result<HeldListener> holdListener(const DataFolder& folder, const std::string& name,
                                        std::uint16_t port) {
  const KnownListener known = knownListener(folder, name);
  auto record = ProcessRecord::read(folder.record(name));
  const base::Fd running = record ? record->open() : base::Fd();
  if (port == 0) port = known.port;
  HeldListener out;
  out.fd = listenerOf(running, known.fd, port);
  if (!out.fd) {
    // The kernel may refuse the descriptor of a process that is not our child; then that process
    // is started again.
    endProcess(running, kPatience);
    POSTERN_TRY(out.fd, net::listenSocket(net::Address::loopback(port)));
  }
  out.port = net::localAddress(out.fd.get()).port();
  const Json value = {{"fd", out.fd.get()}, {"port", out.port}};
  // A lost note costs one restart of that process later, no more.
  if (auto noted = writeFile(folder.run(name + "-listener.json"), json::dump(value)); !noted) {
    supervisorLog().warning("{}", noted.error().message());
  }
  return out;
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
  base::ConfigResult<void> addExternals();
  void addRelay();
  void addNode();
  void addNodeNamespace();
  void addApi();
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
    supervisorLog().error("{}", text);
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
  std::vector<std::string> external_arguments_;
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
  POSTERN_TRY_VOID(self.write(folder_.record("supervisor")));
  // What a helper of ours leaves behind becomes our child, so that its end is seen and reaped.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  POSTERN_TRY_VOID(openListener());
  addNodeNamespace();
  addApi();
  POSTERN_TRY_VOID(addExternals());
  addRelay();
  addNode();
  for (auto& process : processes_) process->adopt();
  return {};
}

base::ConfigResult<void> Supervisor::openListener() {
  auto held = holdListener(folder_, "api", options_.api_port);
  if (!held && held.error().sys == EADDRINUSE) {
    return base::failConfig(
        "", fmt::format("port {} of 127.0.0.1 is taken by another program; choose another with "
                        "--api-port",
                        options_.api_port));
  }
  if (!held) {
    return base::failConfig("", fmt::format("cannot listen on port {} of 127.0.0.1: {}",
                                            options_.api_port, held.error().message()));
  }
  listener_ = std::move(held->fd);
  if (options_.api_port == held->port) return {};
  options_.api_port = held->port;
  return options_.save(folder_);
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

base::ConfigResult<void> Supervisor::addExternals() {
  for (const External& external : options_.externals) {
    if (!external.isStandIn()) {
      external_arguments_.insert(external_arguments_.end(), {"--external", external.toString()});
      continue;
    }
    const std::string name = fmt::format("standin-{}-{}", external.host, external.port);
    auto held = holdListener(folder_, name, 0);
    if (!held) return base::failConfig(external.toString(), held.error().message());
    external_arguments_.insert(external_arguments_.end(),
                               {"--external", fmt::format("{}:{}=127.0.0.1:{}", external.host,
                                                          external.port, held->port)});
    ManagedProcess::Spec spec;
    spec.name = name;
    spec.reports_ready = false;
    const int fd = held->fd.get();
    stand_in_listeners_.push_back(std::move(held->fd));
    std::vector<std::string> argv = {options_.programs_dir + "/postern-demo", "httpbin",
                                     fmt::format("fd:{}", fd)};
    if (external.port == 443) argv.push_back("tls=" + external.host);
    spec.start = [argv, fd](int, int log_fd) { return startProcess(argv, {fd}, log_fd); };
    processes_.push_back(std::make_unique<ManagedProcess>(loop_, folder_, std::move(spec), *this));
  }
  return {};
}

void Supervisor::addRelay() {
  ManagedProcess::Spec spec;
  spec.name = "relay";
  spec.needs = {"node-ns"};
  spec.reports_ready = false;
  spec.start = [this](int, int log_fd) {
    std::vector<std::string> argv = {"postern",
                                     "daemon",
                                     "relay",
                                     "--data-dir",
                                     folder_.root,
                                     "--node-pid",
                                     std::to_string(find("node-ns")->pid())};
    argv.insert(argv.end(), external_arguments_.begin(), external_arguments_.end());
    return startProcess(argv, {}, log_fd);
  };
  processes_.push_back(std::make_unique<ManagedProcess>(loop_, folder_, std::move(spec), *this));
}

void Supervisor::addNode() {
  ManagedProcess::Spec spec;
  spec.name = "node";
  spec.needs = {"node-ns", "api", "relay"};
  spec.start = [this](int ready_fd, int log_fd) {
    std::vector<std::string> argv = {"postern",
                                     "daemon",
                                     "node",
                                     "--data-dir",
                                     folder_.root,
                                     "--ready-fd",
                                     std::to_string(ready_fd)};
    argv.insert(argv.end(), external_arguments_.begin(), external_arguments_.end());
    return startInNode(find("node-ns")->pidfd(), argv, {ready_fd}, log_fd);
  };
  processes_.push_back(std::make_unique<ManagedProcess>(loop_, folder_, std::move(spec), *this));
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
  supervisorLog().info("the cluster runs");
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
    supervisorLog().error("{}", written.error().message());
  }
}

void Supervisor::stopAll() {
  supervisorLog().info("the cluster ends");
  rotation_.cancel();
  // What runs in the node first, then the node itself, which ends all that is left in it.
  for (auto process = processes_.rbegin(); process != processes_.rend(); ++process) {
    const bool holder = (*process)->spec().name == "node-ns";
    (*process)->end(holder ? std::chrono::milliseconds(0) : kPatience);
  }
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  for (const char* name : {"status.json", "supervisor.process"}) {
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
