// The command line of the plain proxy, with Envoy's names. Parsed once, then constant.
#pragma once

#include "base/error.h"
#include "base/log_format.h"

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::proxy {

/// Processes of equal versions can replace each other.
inline constexpr std::string_view kHotRestartVersion = "postern.1";

struct Options {
  enum class Mode : unsigned char { kServe, kValidate };
  enum class Action : unsigned char { kRun, kHelp, kVersion, kRestartVersion };
  Action action = Action::kRun;
  Mode mode = Mode::kServe;
  std::string config_path;
  std::string config_yaml;
  std::uint32_t concurrency = 1;  // workers, never 0
  std::string log_level = "info";
  std::string component_log_level;  // as given, for /server_info
  std::vector<std::pair<std::string, base::LogLevel>> component_log_levels;
  std::string log_format{base::kDefaultLogFormat};
  bool log_format_escaped = false;
  std::string log_path;  // "": stderr
  std::uint32_t base_id = 0;
  bool use_dynamic_base_id = false;
  std::string base_id_path;  // where to write the base id; "": nowhere
  std::uint32_t restart_epoch = 0;
  bool disable_hot_restart = false;
  /// A flag of hot restart was given: not being able to take part is an error.
  bool hot_restart_asked = false;
  bool skip_hot_restart_on_no_parent = false;
  bool skip_hot_restart_parent_stats = false;
  std::string socket_path = "@postern_proxy";
  std::uint32_t socket_mode = 0600;
  std::chrono::seconds drain_time{600};
  bool drain_immediately = false;
  std::chrono::seconds parent_shutdown_time{900};
  std::chrono::milliseconds file_flush_interval{100};
  std::uint32_t file_flush_min_size_kb = 64;
  std::string service_node;
  std::string service_cluster;
  std::string service_zone;
  bool prefer_v6 = false;
  bool allow_unknown_static_fields = false;
  bool reject_unknown_dynamic_fields = false;
  bool ignore_unknown_dynamic_fields = false;
  bool skip_deprecated_logs = false;
  bool enable_core_dump = false;
  std::string admin_address_path;
  std::string saved_config_path;  // a folder; "": discovered configuration is not kept on disk
  std::string version;            // of the program, for /server_info
};

/// `arguments` without the program's name. Unknown flags are errors; both "--name value" and
/// "--name=value" are read. Log levels are applied by the caller.
base::ConfigResult<Options> parseOptions(std::span<const std::string_view> arguments);
/// One line per flag.
std::string optionsHelp();

}  // namespace postern::proxy
