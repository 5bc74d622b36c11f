// The command line of the plain proxy, with Envoy's names. Parsed once, then constant.
#pragma once

#include "base/error.h"

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace postern::proxy {

struct Options {
  enum class Mode : unsigned char { kServe, kValidate };
  enum class Action : unsigned char { kRun, kHelp, kVersion };
  Action action = Action::kRun;
  Mode mode = Mode::kServe;
  std::string config_path;
  std::string config_yaml;
  std::uint32_t concurrency = 1;
  std::string log_level = "info";
  std::string component_log_level;
  std::string log_format;
  std::string log_path;
  std::uint64_t base_id = 0;
  std::uint32_t restart_epoch = 0;
  std::chrono::seconds drain_time{600};
  bool drain_immediately = false;
  std::chrono::seconds parent_shutdown_time{900};
  std::chrono::milliseconds file_flush_interval{10000};
  std::string service_node;
  std::string service_cluster;
  std::string service_zone;
  bool prefer_v6 = false;
  bool allow_unknown_static_fields = false;
  bool reject_unknown_dynamic_fields = false;
  std::string admin_address_path;
  std::string version;  // of the program, for /server_info
};

/// `arguments` without the program's name. Unknown flags are errors; both "--name value" and
/// "--name=value" are read. Log levels are applied by the caller.
base::ConfigResult<Options> parseOptions(std::span<const std::string_view> arguments);
/// One line per flag.
std::string optionsHelp();

}  // namespace postern::proxy
