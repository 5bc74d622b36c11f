#include "cluster/kubeconfig.h"

#include "base/strings.h"
#include "cluster/files.h"
#include "json/json.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

using json::Json;

constexpr std::chrono::seconds kLockPatience{5};

bool exists(const std::string& path) {
  struct stat there{};
  return ::stat(path.c_str(), &there) == 0;
}

/// kubectl's own lock: a file that exists while somebody writes.
class Lock {
 public:
  static base::ConfigResult<Lock> take(const std::string& path) {
    const std::string lock = path + ".lock";
    const auto end = std::chrono::steady_clock::now() + kLockPatience;
    while (true) {
      const base::Fd fd(::open(lock.c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0600));
      if (fd) return Lock(lock);
      if (errno != EEXIST) {
        return base::failConfig(path, fmt::format("cannot be changed: {}; choose another file with "
                                                  "--kubeconfig",
                                                  std::strerror(errno)));
      }
      if (std::chrono::steady_clock::now() > end) {
        return base::failConfig(path, "is locked; if no kubectl is running, remove " + lock);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  Lock(Lock&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Lock& operator=(Lock&&) = delete;
  ~Lock() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

 private:
  explicit Lock(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

base::ConfigResult<Json> parseConfig(std::string_view text) {
  if (base::trim(text).empty() || text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return Json{{"apiVersion", "v1"}, {"kind", "Config"}};
  }
  POSTERN_TRY(Json config, json::parseYaml(text));
  if (config.is_null()) return Json{{"apiVersion", "v1"}, {"kind", "Config"}};
  if (!config.is_object()) return base::failConfig("", "is no kubeconfig");
  for (const char* list : {"clusters", "contexts", "users"}) {
    if (config.contains(list) && config[list].is_null()) config[list] = Json::array();
    if (config.contains(list) && !config[list].is_array()) {
      return base::failConfig(list, "is no list");
    }
  }
  return config;
}

void removeNamed(Json& config, const char* list, std::string_view name) {
  if (!config.contains(list)) return;
  Json kept = Json::array();
  for (const Json& each : config[list]) {
    if (json::stringAt(each, "name") != name) kept.push_back(each);
  }
  config[list] = std::move(kept);
}

void putNamed(Json& config, const char* list, const char* name, const char* key, Json value) {
  removeNamed(config, list, name);
  config[list].push_back({{"name", name}, {key, std::move(value)}});
}

bool hasNamed(const Json& config, const char* list, std::string_view name) {
  if (!config.contains(list)) return false;
  for (const Json& each : config[list]) {
    if (json::stringAt(each, "name") == name) return true;
  }
  return false;
}

}  // namespace

std::string defaultKubeconfigPath() {
  const char* variable = std::getenv("KUBECONFIG");
  if (variable != nullptr) {
    for (const auto part : base::split(variable, ':')) {
      if (!part.empty()) return std::string(part);
    }
  }
  const char* home = std::getenv("HOME");
  return home != nullptr && *home != '\0' ? std::string(home) + "/.kube/config" : "";
}

base::ConfigResult<std::string> addContext(std::string_view kubeconfig, std::string_view admin,
                                           std::string& previous_context) {
  POSTERN_TRY(Json config, parseConfig(kubeconfig));
  POSTERN_TRY(const Json ours, json::parseYaml(admin));
  const std::string current = json::stringAt(config, "current-context");
  if (current != kContextName) previous_context = current;
  putNamed(config, "clusters", kContextName, "cluster", ours["clusters"][0]["cluster"]);
  putNamed(config, "users", kUserName, "user", ours["users"][0]["user"]);
  Json context = {{"cluster", kContextName}, {"user", kUserName}, {"namespace", "default"}};
  putNamed(config, "contexts", kContextName, "context", std::move(context));
  config["current-context"] = kContextName;
  return json::dumpYaml(config);
}

base::ConfigResult<std::string> removeContext(std::string_view kubeconfig, std::string_view server,
                                              std::string_view previous_context) {
  POSTERN_TRY(Json config, parseConfig(kubeconfig));
  bool ours = false;
  if (config.contains("clusters")) {
    for (const Json& each : config["clusters"]) {
      ours = ours || (json::stringAt(each, "name") == kContextName &&
                      json::stringAt(each, "cluster.server") == server);
    }
  }
  if (!ours) return std::string(kubeconfig);  // another cluster took the name
  removeNamed(config, "clusters", kContextName);
  removeNamed(config, "users", kUserName);
  removeNamed(config, "contexts", kContextName);
  if (json::stringAt(config, "current-context") == kContextName) {
    config["current-context"] =
        hasNamed(config, "contexts", previous_context) ? std::string(previous_context) : "";
  }
  bool empty = true;
  for (const char* list : {"clusters", "contexts", "users"}) {
    empty = empty && (!config.contains(list) || config[list].empty());
  }
  return empty ? std::string() : json::dumpYaml(config);
}

base::ConfigResult<void> checkKubeconfig(const std::string& path) {
  if (path.empty()) {
    return base::failConfig("--kubeconfig", "is needed: neither KUBECONFIG nor HOME is set");
  }
  const std::string parent = std::filesystem::path(path).parent_path().string();
  if (auto made = makeFolder(parent.empty() ? "." : parent); !made) {
    return base::failConfig(path, "cannot be written (" + made.error().message() +
                                      "); choose another file with --kubeconfig");
  }
  POSTERN_TRY([[maybe_unused]] const Lock lock, Lock::take(path));
  if (!exists(path)) return {};
  POSTERN_TRY(const std::string text, readFile(path));
  if (auto parsed = parseConfig(text); !parsed) {
    return base::failConfig(path, "cannot be read: " + parsed.error().message());
  }
  return {};
}

base::ConfigResult<KubeconfigChange> writeContext(const std::string& path, std::string_view admin) {
  POSTERN_TRY([[maybe_unused]] const Lock lock, Lock::take(path));
  KubeconfigChange change;
  change.path = path;
  change.made = !exists(path);
  std::string before;
  if (!change.made) {
    POSTERN_TRY(before, readFile(path));
  }
  auto after = addContext(before, admin, change.previous_context);
  if (!after) return base::failConfig(path, after.error().message());
  if (*after != before) POSTERN_TRY_VOID(writeFile(path, *after));
  return change;
}

base::ConfigResult<void> restoreContext(const KubeconfigChange& change, std::string_view server) {
  if (!exists(change.path)) return {};
  POSTERN_TRY([[maybe_unused]] const Lock lock, Lock::take(change.path));
  POSTERN_TRY(const std::string before, readFile(change.path));
  auto after = removeContext(before, server, change.previous_context);
  if (!after) return base::failConfig(change.path, after.error().message());
  if (after->empty() && change.made) {
    ::unlink(change.path.c_str());
    return {};
  }
  if (*after == before) return {};
  return writeFile(change.path, after->empty() ? "apiVersion: v1\nkind: Config\n" : *after);
}

}  // namespace postern::cluster
