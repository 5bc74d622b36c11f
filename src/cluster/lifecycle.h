// Bringing a cluster up and down and looking at it, from the command line's process. Blocking.
#pragma once

#include "cluster/data_folder.h"
#include "json/json.h"

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace postern::cluster {

inline constexpr std::chrono::seconds kUpPatience{30};
inline constexpr std::chrono::seconds kDownPatience{15};

/// What a person gave to `up`; absent values are remembered from the last one, or defaults.
struct UpRequest {
  std::optional<std::uint16_t> api_port;
  std::optional<std::vector<External>> externals;
  std::optional<std::string> image_map;
  std::string kubeconfig;  // empty: the default file
};

enum class UpOutcome : unsigned char { kStarted, kTookOver, kAlreadyRunning };
struct UpResult {
  UpOutcome outcome = UpOutcome::kStarted;
  std::string server;      // "https://127.0.0.1:6443"
  std::string kubeconfig;  // the file with our context
  /// Options that were given and differ from those of the cluster that already runs.
  std::vector<std::string> ignored;
};

/// `progress` is called with the name of each part that became ready.
using Progress = std::function<void(const std::string& part)>;

base::ConfigResult<UpResult> up(const DataFolder& folder, const UpRequest& request,
                                const Progress& progress);

enum class Purge : unsigned char { kKeepData, kRemoveData };
struct DownResult {
  bool was_running = false;
  bool data_removed = false;
};
base::ConfigResult<DownResult> down(const DataFolder& folder, Purge purge);

/// The state of the cluster's processes as JSON: state (running, degraded, stopped), processes,
/// addresses, options. Never fails: what cannot be read is absent.
json::Json status(const DataFolder& folder);

}  // namespace postern::cluster
