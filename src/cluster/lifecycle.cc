#include "cluster/lifecycle.h"

#include "base/strings.h"
#include "cluster/files.h"
#include "cluster/kubeconfig.h"
#include "cluster/node_namespace.h"
#include "cluster/process.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

using json::Json;

constexpr std::chrono::seconds kCommandPatience{60};

base::ConfigResult<base::Fd> lockCommands(const DataFolder& folder) {
  auto lock = lockFile(folder.commandLock(), kCommandPatience);
  if (!lock) return base::failConfig("", "another postern command works on " + folder.root);
  return lock;
}

/// Starts the supervisor, detached from terminal and session; `report` receives what it tells.
base::ConfigResult<base::Fd> startSupervisor(const DataFolder& folder) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::failConfig("", std::strerror(errno));
  base::Fd reader(ends[0]);
  base::Fd writer(ends[1]);
  const base::Fd log_fd(
      ::open(folder.log("supervisor").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const pid_t between = ::fork();
  if (between < 0) return base::failConfig("", std::strerror(errno));
  if (between == 0) {
    // Two forks: the supervisor is nobody's child here, so it leaves no zombie.
    if (::setsid() < 0 || ::chdir("/") != 0) ::_exit(1);
    auto started = startProcess({"postern", "daemon", "supervise", "--data-dir", folder.root,
                                 "--report-fd", std::to_string(writer.get())},
                                {writer.get()}, log_fd.get());
    ::_exit(started ? 0 : 1);
  }
  int code = 0;
  while (::waitpid(between, &code, 0) < 0 && errno == EINTR) {
  }
  if (code != 0) return base::failConfig("", "the supervisor could not be started");
  return reader;
}

base::ConfigResult<void> awaitUp(const DataFolder& folder, const base::Fd& report,
                                 const Progress& progress) {
  const auto end = std::chrono::steady_clock::now() + kUpPatience;
  std::string text;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    pollfd entry{report.get(), POLLIN, 0};
    const int n = left.count() <= 0 ? 0 : ::poll(&entry, 1, static_cast<int>(left.count()));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return base::failConfig("", fmt::format("the cluster is not ready after {} s; see {}",
                                              kUpPatience.count(), folder.file("logs")));
    }
    char buffer[1024];
    const ssize_t got = ::read(report.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return base::failConfig("", "the supervisor ended; see " + folder.log("supervisor"));
    }
    text.append(buffer, static_cast<std::size_t>(got));
    for (std::size_t line_end = 0; (line_end = text.find('\n')) != std::string::npos;) {
      const std::string line = text.substr(0, line_end);
      text.erase(0, line_end + 1);
      if (line == "up") return {};
      if (line.starts_with("error ")) return base::failConfig("", line.substr(6));
      if (line.starts_with("ready ")) progress(line.substr(6));
    }
  }
}

/// Ends what pid files name, in order. True if anything ran.
bool endRecorded(const DataFolder& folder) {
  bool any = false;
  std::error_code error;
  std::vector<ProcessRecord> records;
  for (const auto& entry : std::filesystem::directory_iterator(folder.run(), error)) {
    if (entry.path().extension() != ".process") continue;
    auto record = ProcessRecord::read(entry.path().string());
    if (record && record->name == entry.path().stem().string()) records.push_back(*record);
  }
  // The node last: its end takes along what its agents left behind.
  for (const bool node : {false, true}) {
    for (const ProcessRecord& record : records) {
      if ((record.name == "node-ns") != node) continue;
      const base::Fd pidfd = record.open();
      if (pidfd) {
        any = true;
        if (node) signalProcess(pidfd, SIGKILL);
        endProcess(pidfd, std::chrono::seconds(3));
      }
      ::unlink(folder.record(record.name).c_str());
    }
  }
  return any;
}

void removeRuntimeFiles(const DataFolder& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder.run(), error)) {
    std::filesystem::remove_all(entry.path(), error);
  }
}

std::string serverUrl(std::uint16_t port) { return fmt::format("https://127.0.0.1:{}", port); }

/// Adds our context, and remembers how to undo it; a context of an earlier run in another file is
/// taken out first.
base::ConfigResult<std::string> enterKubeconfig(const DataFolder& folder, const std::string& wanted,
                                                const std::string& server) {
  std::string path = wanted;
  KubeconfigChange before;
  if (auto text = readFile(folder.file("kubeconfig.json")); text) {
    if (auto value = json::parse(*text); value) {
      before.path = json::stringAt(*value, "path");
      before.previous_context = json::stringAt(*value, "previousContext");
      before.made = json::boolAt(*value, "made");
    }
  }
  if (!before.path.empty() && before.path != path) {
    if (auto restored = restoreContext(before, server); !restored)
      return std::unexpected(restored.error());
  }
  POSTERN_TRY(const std::string admin, readFile(folder.adminKubeconfig()));
  POSTERN_TRY(KubeconfigChange change, writeContext(path, admin));
  if (before.path == path) {
    change.made = change.made || before.made;
    if (change.previous_context.empty()) change.previous_context = before.previous_context;
  }
  const Json value = {
      {"path", change.path}, {"previousContext", change.previous_context}, {"made", change.made}};
  POSTERN_TRY_VOID(writeFile(folder.file("kubeconfig.json"), json::dump(value) + "\n"));
  return path;
}

base::ConfigResult<void> leaveKubeconfig(const DataFolder& folder, const std::string& server) {
  const std::string path = folder.file("kubeconfig.json");
  auto text = readFile(path);
  auto value = text ? json::parse(*text) : base::failConfig("", "absent");
  if (!value) return {};
  KubeconfigChange change;
  change.path = json::stringAt(*value, "path");
  change.previous_context = json::stringAt(*value, "previousContext");
  change.made = json::boolAt(*value, "made");
  POSTERN_TRY_VOID(restoreContext(change, server));
  ::unlink(path.c_str());
  return {};
}

std::vector<std::string> differing(const UpRequest& request, const ClusterOptions& running) {
  std::vector<std::string> out;
  auto text = [](const std::vector<External>& externals) {
    std::string all;
    for (const External& external : externals) all += external.toString() + " ";
    return all;
  };
  if (request.api_port && *request.api_port != 0 && *request.api_port != running.api_port)
    out.emplace_back("--api-port");
  if (request.externals && text(*request.externals) != text(running.externals))
    out.emplace_back("--external");
  if (request.image_map && *request.image_map != running.image_map) out.emplace_back("--image-map");
  return out;
}

/// Removes the folder by a process that is uid 0 of all ids that the pods of an ordinary user had.
base::ConfigResult<void> removeInNamespace(const std::string& root) {
  POSTERN_TRY(const ForkedProcess removing,
              startNodeNamespace({"/bin/rm", "-rf", "--", root}, {}, -1));
  int status = 0;
  while (::waitpid(removing.pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return base::failConfig(root, "cannot be removed, not even as the owner of its subordinate ids");
}

base::ConfigResult<void> removeData(const std::string& root) {
  std::error_code error;
  std::filesystem::remove_all(root, error);
  if (!error) return {};
  // What applications made in their volumes belongs to the subordinate ids they ran as.
  if (error == std::errc::permission_denied && ::geteuid() != 0) return removeInNamespace(root);
  return base::failConfig(root, "cannot be removed: " + error.message());
}

}  // namespace

base::ConfigResult<UpResult> up(const DataFolder& folder, const UpRequest& request,
                                const Progress& progress) {
  UpResult out;
  POSTERN_TRY_VOID(folder.checkVersion());
  std::string kubeconfig =
      request.kubeconfig.empty() ? defaultKubeconfigPath() : request.kubeconfig;
  std::error_code error;
  if (!kubeconfig.empty()) kubeconfig = std::filesystem::absolute(kubeconfig, error).string();
  POSTERN_TRY_VOID(folder.prepare());
  POSTERN_TRY_VOID(checkKubeconfig(kubeconfig));
  POSTERN_TRY_VOID(checkNodeNamespace());
  POSTERN_TRY([[maybe_unused]] const base::Fd lock, lockCommands(folder));
  POSTERN_TRY(ClusterOptions options, ClusterOptions::load(folder));
  if (isLocked(folder.supervisorLock())) {
    out.outcome = UpOutcome::kAlreadyRunning;
    out.ignored = differing(request, options);
  } else {
    auto api = ProcessRecord::read(folder.record("api"));
    auto node = ProcessRecord::read(folder.record("node-ns"));
    const bool running = (api && api->alive()) || (node && node->alive());
    if (running) out.outcome = UpOutcome::kTookOver;
    if (request.api_port) options.api_port = *request.api_port;
    if (request.externals) options.externals = *request.externals;
    if (request.image_map) options.image_map = *request.image_map;
    options.programs_dir = programsDir();
    POSTERN_TRY_VOID(options.save(folder));
    POSTERN_TRY(const base::Fd report, startSupervisor(folder));
    auto ready = awaitUp(folder, report, progress);
    if (!ready) {
      // Nothing half-started stays, whoever is to blame.
      if (auto record = ProcessRecord::read(folder.record("supervisor")); record) {
        endProcess(record->open(), kDownPatience);
      }
      endRecorded(folder);
      removeRuntimeFiles(folder);
      return std::unexpected(ready.error());
    }
    POSTERN_TRY(options, ClusterOptions::load(folder));
  }
  out.server = serverUrl(options.api_port);
  POSTERN_TRY(out.kubeconfig, enterKubeconfig(folder, kubeconfig, out.server));
  return out;
}

base::ConfigResult<DownResult> down(const DataFolder& folder, Purge purge) {
  DownResult out;
  std::error_code error;
  if (!std::filesystem::exists(folder.root, error)) return out;
  // Another version's folder may be purged, for that is the way out of it; never any other folder.
  if (!folder.exists()) {
    POSTERN_TRY_VOID(folder.checkVersion());
    return out;
  }
  POSTERN_TRY([[maybe_unused]] const base::Fd lock, lockCommands(folder));
  if (auto record = ProcessRecord::read(folder.record("supervisor")); record) {
    const base::Fd pidfd = record->open();
    if (pidfd) {
      out.was_running = true;
      endProcess(pidfd, kDownPatience);
    }
  }
  if (endRecorded(folder)) out.was_running = true;
  if (isLocked(folder.supervisorLock())) {
    return base::failConfig("", "the supervisor of " + folder.root + " does not end");
  }
  removeRuntimeFiles(folder);
  auto options = ClusterOptions::load(folder);
  const std::string server = serverUrl(options ? options->api_port : kDefaultApiPort);
  auto restored = leaveKubeconfig(folder, server);
  if (purge == Purge::kRemoveData) {
    POSTERN_TRY_VOID(removeData(folder.root));
    out.data_removed = true;
  }
  if (!restored) return std::unexpected(restored.error());
  return out;
}

json::Json status(const DataFolder& folder) {
  Json out = {{"version", POSTERN_VERSION},
              {"dataDir", folder.root},
              {"mode", ::geteuid() == 0 ? "root" : "rootless"},
              {"state", "stopped"},
              {"processes", Json::array()}};
  auto options = folder.exists() ? ClusterOptions::load(folder)
                                 : base::ConfigResult<ClusterOptions>(ClusterOptions{});
  if (!options) options = ClusterOptions{};
  auto supervisor = ProcessRecord::read(folder.record("supervisor"));
  const bool supervised = supervisor && supervisor->alive();
  bool all = supervised;
  bool any = supervised;
  if (supervised) {
    out["processes"].push_back(
        {{"name", "supervisor"}, {"state", "running"}, {"pid", supervisor->pid}});
  }
  auto text = readFile(folder.run("status.json"));
  auto written = text ? json::parse(*text) : base::failConfig("", "absent");
  const Json* processes = written ? json::find(*written, "processes") : nullptr;
  if (processes != nullptr && processes->is_array()) {
    for (Json each : *processes) {
      const std::string name = json::stringAt(each, "name");
      auto record = ProcessRecord::read(folder.record(name));
      const bool alive = record && record->alive();
      any = any || alive;
      all = all && alive && json::stringAt(each, "state") == "running";
      // Without a supervisor its last words may be old.
      if (!alive && json::stringAt(each, "state") == "running") each["state"] = "ended";
      out["processes"].push_back(std::move(each));
    }
  }
  if (any) out["state"] = all ? "running" : "degraded";
  if (!any) return out;
  out["apiServer"] = serverUrl(options->api_port);
  out["context"] = kContextName;
  if (auto change = readFile(folder.file("kubeconfig.json")); change) {
    if (auto value = json::parse(*change); value)
      out["kubeconfig"] = json::stringAt(*value, "path");
  }
  out["addresses"] = {{"pods", "10.244.0.0/24"},
                      {"services", "10.96.0.0/16"},
                      {"dns", "10.96.0.10"},
                      {"loadBalancers", "127.77.0.0/24"}};
  Json externals = Json::array();
  for (const External& external : options->externals) externals.push_back(external.toString());
  out["external"] = std::move(externals);
  if (!options->image_map.empty()) out["imageMap"] = options->image_map;
  return out;
}

}  // namespace postern::cluster
