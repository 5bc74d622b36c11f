#include "proxy/options.h"

#include "base/log.h"
#include "base/strings.h"

#include <algorithm>
#include <functional>
#include <thread>

namespace postern::proxy {

namespace {

struct Flag {
  const char* name;
  const char* letter;  // "" : none
  const char* value;   // what the value is; "": takes none
  const char* help;
  /// False: the value is refused.
  bool (*set)(Options& out, std::string_view value);
};

template <class T>
bool number(std::string_view text, T& out) {
  const auto read = base::parseInteger<T>(text);
  if (read) out = *read;
  return read.has_value();
}

template <class Duration>
bool duration(std::string_view text, Duration& out) {
  std::uint32_t count = 0;
  if (!number(text, count)) return false;
  out = Duration(count);
  return true;
}

bool nothing(Options&, std::string_view) { return true; }

constexpr std::uint32_t kWorkersMax = 256;

// Flags of Envoy that have no meaning here, because there is no hot restart between processes, are
// taken and do nothing; every other flag is an error.
constexpr Flag kFlags[] = {
    {"config-path", "c", "FILE", "bootstrap, YAML or JSON",
     [](Options& o, std::string_view v) { return !(o.config_path = v).empty(); }},
    {"config-yaml", "", "TEXT", "bootstrap as text, merged over the file",
     [](Options& o, std::string_view v) { return !(o.config_yaml = v).empty(); }},
    {"mode", "", "serve|validate", "validate: check the configuration and exit",
     [](Options& o, std::string_view v) {
       o.mode = v == "validate" ? Options::Mode::kValidate : Options::Mode::kServe;
       return v == "validate" || v == "serve";
     }},
    {"concurrency", "", "N", "worker threads; default: one per processor",
     [](Options& o, std::string_view v) {
       return number(v, o.concurrency) && o.concurrency <= kWorkersMax;
     }},
    {"log-level", "l", "LEVEL", "trace, debug, info, warning, error, critical or off",
     [](Options& o, std::string_view v) {
       base::LogLevel level{};
       o.log_level = v;
       return base::parseLogLevel(v, level);
     }},
    {"component-log-level", "", "NAME:LEVEL,...", "levels of single components",
     [](Options& o, std::string_view v) {
       o.component_log_level = v;
       return true;
     }},
    {"log-format", "", "FORMAT", "taken for compatibility: the format is fixed",
     [](Options& o, std::string_view v) {
       o.log_format = v;
       return true;
     }},
    {"base-id", "", "N", "no effect: no hot restart",
     [](Options& o, std::string_view v) { return number(v, o.base_id); }},
    {"restart-epoch", "", "N", "told by /server_info",
     [](Options& o, std::string_view v) { return number(v, o.restart_epoch); }},
    {"disable-hot-restart", "", "", "no effect: no hot restart", nothing},
    {"drain-time-s", "", "SECONDS", "what connections of changed listeners may take; default 600",
     [](Options& o, std::string_view v) { return duration(v, o.drain_time); }},
    {"drain-strategy", "", "gradual|immediate", "told by /server_info",
     [](Options& o, std::string_view v) {
       o.drain_immediately = v == "immediate";
       return v == "immediate" || v == "gradual";
     }},
    {"parent-shutdown-time-s", "", "SECONDS", "no effect: no hot restart",
     [](Options& o, std::string_view v) { return duration(v, o.parent_shutdown_time); }},
    {"file-flush-interval-msec", "", "MILLISECONDS",
     "upper bound of how long access-log lines wait (they wait at most 100)",
     [](Options& o, std::string_view v) { return duration(v, o.file_flush_interval); }},
    {"service-node", "", "NAME", "node.id",
     [](Options& o, std::string_view v) {
       o.service_node = v;
       return true;
     }},
    {"service-cluster", "", "NAME", "node.cluster",
     [](Options& o, std::string_view v) {
       o.service_cluster = v;
       return true;
     }},
    {"service-zone", "", "NAME", "node.locality.zone",
     [](Options& o, std::string_view v) {
       o.service_zone = v;
       return true;
     }},
    {"local-address-ip-version", "", "v4|v6", "told by /server_info",
     [](Options& o, std::string_view v) {
       o.prefer_v6 = v == "v6";
       return v == "v4" || v == "v6";
     }},
    {"allow-unknown-static-fields", "", "", "leave out unknown fields of the bootstrap",
     [](Options& o, std::string_view) { return o.allow_unknown_static_fields = true; }},
    {"reject-unknown-dynamic-fields", "", "", "refuse discovered resources with unknown fields",
     [](Options& o, std::string_view) { return o.reject_unknown_dynamic_fields = true; }},
    {"admin-address-path", "", "FILE", "where to write the admin port's address",
     [](Options& o, std::string_view v) {
       o.admin_address_path = v;
       return true;
     }},
    {"version", "", "", "print the version",
     [](Options& o, std::string_view) {
       o.action = Options::Action::kVersion;
       return true;
     }},
    {"help", "h", "", "print this text",
     [](Options& o, std::string_view) {
       o.action = Options::Action::kHelp;
       return true;
     }},
};

const Flag* find(std::string_view word) {
  for (const Flag& flag : kFlags) {
    const bool is_long = word.starts_with("--") && word.substr(2) == flag.name;
    const bool is_short =
        !word.starts_with("--") && word.starts_with('-') && word.substr(1) == flag.letter;
    if (is_long || (is_short && word.size() == 2)) return &flag;
  }
  return nullptr;
}

}  // namespace

base::ConfigResult<Options> parseOptions(std::span<const std::string_view> arguments) {
  Options out;
  out.concurrency = 0;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view word = arguments[i];
    std::string_view value;
    const std::size_t equals = word.starts_with("--") ? word.find('=') : std::string_view::npos;
    const bool joined = equals != std::string_view::npos;
    if (joined) {
      value = word.substr(equals + 1);
      word = word.substr(0, equals);
    }
    const Flag* flag = find(word);
    if (flag == nullptr) return base::failConfig(std::string(word), "is not a flag; see --help");
    const bool takes_value = *flag->value != '\0';
    if (takes_value && !joined) {
      if (i + 1 == arguments.size()) return base::failConfig(std::string(word), "needs a value");
      value = arguments[++i];
    }
    if (!takes_value && joined) return base::failConfig(std::string(word), "takes no value");
    if (!flag->set(out, value)) {
      return base::failConfig(std::string(word),
                              "\"" + std::string(value) + "\" is not " + std::string(flag->value));
    }
  }
  if (out.concurrency == 0)
    out.concurrency = std::clamp(std::thread::hardware_concurrency(), 1U, kWorkersMax);
  if (out.action == Options::Action::kRun && out.config_path.empty() && out.config_yaml.empty())
    return base::failConfig("", "--config-path or --config-yaml is required; see --help");
  return out;
}

std::string optionsHelp() {
  std::string out =
      "usage: postern-proxy -c FILE [flags]\n"
      "       postern-proxy sidecar|gateway|capture ...\n\n";
  for (const Flag& flag : kFlags) {
    std::string names = *flag.letter != '\0' ? "-" + std::string(flag.letter) + ", " : "    ";
    names += "--" + std::string(flag.name);
    if (*flag.value != '\0') names += " " + std::string(flag.value);
    if (names.size() < 42) names.resize(42, ' ');
    out += "  " + names + " " + flag.help + "\n";
  }
  return out;
}

}  // namespace postern::proxy
