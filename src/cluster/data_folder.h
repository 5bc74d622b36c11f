// The data folder of one local cluster: where each file is, which version wrote it, what the person
// asked for. Everything the cluster keeps is below it. Plain values; any thread.
#pragma once

#include "base/error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace postern::cluster {

/// Written to <data>/version. A folder of another version is refused, never converted in silence.
inline constexpr int kDataVersion = 1;
/// Less free space than this and nothing is started.
inline constexpr std::uint64_t kFreeBytesMin = 16ULL << 20;
inline constexpr std::uint16_t kDefaultApiPort = 6443;

/// Paths below the data folder; no file is touched by asking.
struct DataFolder {
  std::string root;  // absolute

  /// $XDG_DATA_HOME/postern or ~/.local/share/postern; empty without a home.
  static std::string defaultRoot();
  /// Absolute form of what was given, or the default.
  static base::ConfigResult<DataFolder> at(const std::string& given);

  std::string file(const std::string& name) const { return root + "/" + name; }
  std::string run(const std::string& name = "") const {
    return root + (name.empty() ? "/run" : "/run/" + name);
  }
  /// Which process runs as NAME (process.h).
  std::string record(const std::string& process) const { return run(process + ".process"); }
  std::string log(const std::string& process) const { return root + "/logs/" + process + ".log"; }
  std::string api() const { return root + "/api"; }
  std::string node() const { return root + "/node"; }
  /// Held while `up` or `down` work, and while a supervisor lives.
  std::string commandLock() const { return root + "/command.lock"; }
  std::string supervisorLock() const { return run("supervisor.lock"); }
  std::string adminKubeconfig() const { return file("admin.kubeconfig"); }

  bool exists() const;
  /// Makes the folders and checks version, free space and that it can be written.
  base::ConfigResult<void> prepare() const;
  /// Only the check of the version; fine when the folder is absent or empty.
  base::ConfigResult<void> checkVersion() const;
};

/// HOST:PORT=ADDRESS:PORT, or HOST:PORT=demo:httpbin for the cluster's own stand-in.
struct External {
  std::string host;
  std::uint16_t port = 0;
  std::string target;  // "127.0.0.1:8080", or "demo:httpbin"

  static base::ConfigResult<External> parse(const std::string& text);
  std::string toString() const;
  bool isStandIn() const { return target == "demo:httpbin"; }
};

/// What `up` was told; remembered in <data>/options.json for the next `up`.
struct ClusterOptions {
  std::uint16_t api_port = kDefaultApiPort;
  std::vector<External> externals;
  std::string image_map;     // absolute path, or empty
  std::string programs_dir;  // where postern-proxy and the others are

  static base::ConfigResult<ClusterOptions> load(const DataFolder& folder);
  base::ConfigResult<void> save(const DataFolder& folder) const;
};

/// The folder of the running program.
std::string programsDir();

}  // namespace postern::cluster
