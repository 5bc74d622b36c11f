#include "proxy/options.h"

#include "base/strings.h"
#include "proxy/cpu_quota.h"

#include <algorithm>
#include <array>

namespace postern::proxy {

namespace {

struct OptionFlag {
  const char* name;
  const char* letter;  // "" : none
  const char* value;   // what the value is; "": takes none
  const char* help;
  /// False: the value is refused.
  bool (*set)(Options& out, std::string_view value);
};

template <class T>
bool readNumber(std::string_view text, T& out) {
  const auto read = base::parseInteger<T>(text);
  if (read) out = *read;
  return read.has_value();
}

template <class Duration>
bool duration(std::string_view text, Duration& out) {
  std::uint32_t count = 0;
  if (!readNumber(text, count)) return false;
  out = Duration(count);
  return true;
}

bool taken(Options&, std::string_view) { return true; }

constexpr std::uint32_t kWorkersMax = 256;
constexpr std::size_t kSocketPathBytesMax = 80;  // a name of at most 107, with base id and epoch

/// Components of Envoy's own; those that exist here too have effect.
constexpr auto kEnvoyComponents = std::to_array<std::string_view>({"admin",
                                                                   "alternate_protocols_cache",
                                                                   "assert",
                                                                   "aws",
                                                                   "backtrace",
                                                                   "basic_auth",
                                                                   "cache_filter",
                                                                   "client",
                                                                   "compression",
                                                                   "config",
                                                                   "connection",
                                                                   "conn_handler",
                                                                   "credential_injector",
                                                                   "decompression",
                                                                   "dns",
                                                                   "dynamic_forward_proxy",
                                                                   "dynamic_modules",
                                                                   "envoy_bug",
                                                                   "ext_authz",
                                                                   "ext_proc",
                                                                   "file",
                                                                   "filter",
                                                                   "forward_proxy",
                                                                   "geolocation",
                                                                   "golang",
                                                                   "grpc",
                                                                   "happy_eyeballs",
                                                                   "hc",
                                                                   "health_checker",
                                                                   "http",
                                                                   "http2",
                                                                   "hystrix",
                                                                   "init",
                                                                   "io",
                                                                   "jwt",
                                                                   "kafka",
                                                                   "key_value_store",
                                                                   "lua",
                                                                   "main",
                                                                   "matcher",
                                                                   "misc",
                                                                   "mongo",
                                                                   "multi_connection",
                                                                   "oauth2",
                                                                   "pool",
                                                                   "quic",
                                                                   "quic_stream",
                                                                   "rate_limit_quota",
                                                                   "rbac",
                                                                   "rds",
                                                                   "redis",
                                                                   "rocketmq",
                                                                   "router",
                                                                   "runtime",
                                                                   "secret",
                                                                   "stats",
                                                                   "stats_sinks",
                                                                   "tap",
                                                                   "testing",
                                                                   "thrift",
                                                                   "tracing",
                                                                   "udp",
                                                                   "upstream",
                                                                   "wasm",
                                                                   "websocket"});

template <bool Options::* field>
bool yes(Options& out, std::string_view) {
  return out.*field = true;
}

template <std::string Options::* field>
bool text(Options& out, std::string_view value) {
  out.*field = value;
  return true;
}

template <bool Options::* field>
bool yesForHotRestart(Options& out, std::string_view) {
  out.hot_restart_asked = true;
  return out.*field = true;
}

/// NAME:LEVEL,... Components of Envoy's that have no lines here are taken: they are users' habits.
bool componentLevels(Options& out, std::string_view value) {
  out.component_log_level = value;
  for (const std::string_view pair : base::split(value, ',')) {
    const std::size_t colon = pair.find(':');
    if (colon == std::string_view::npos) return false;
    const std::string_view name = pair.substr(0, colon);
    base::LogLevel level{};
    if (!base::parseLogLevel(pair.substr(colon + 1), level)) return false;
    const auto ours = base::logLevels();
    const bool known =
        std::find(kEnvoyComponents.begin(), kEnvoyComponents.end(), name) !=
            kEnvoyComponents.end() ||
        std::any_of(ours.begin(), ours.end(), [&](const auto& each) { return each.first == name; });
    if (!known) return false;
    out.component_log_levels.emplace_back(name, level);
  }
  return true;
}

bool octalMode(Options& out, std::string_view value) {
  std::uint32_t mode = 0;
  if (value.empty() || value.size() > 4) return false;
  for (const char c : value) {
    if (c < '0' || c > '7') return false;
    mode = mode * 8 + static_cast<std::uint32_t>(c - '0');
  }
  out.socket_mode = mode;
  return mode <= 0777;
}

template <Options::Action action>
bool act(Options& out, std::string_view) {
  out.action = action;
  return true;
}

constexpr std::uint32_t kFlushKilobytesMax = 1024;
constexpr std::uint32_t kEpochMax = 1'000'000'000;

constexpr OptionFlag kFlags[] = {
    {"config-path", "c", "FILE", "bootstrap, YAML or JSON",
     [](Options& o, std::string_view v) { return !(o.config_path = v).empty(); }},
    {"config-yaml", "", "TEXT", "bootstrap as text, merged over the file",
     [](Options& o, std::string_view v) { return !(o.config_yaml = v).empty(); }},
    {"mode", "", "serve|validate", "validate: check the configuration and exit",
     [](Options& o, std::string_view v) {
       o.mode = v == "validate" ? Options::Mode::kValidate : Options::Mode::kServe;
       return v == "validate" || v == "serve";
     }},
    {"concurrency", "", "N",
     "worker threads; default: one per processor; 0: as the cgroup's quota allows",
     [](Options& o, std::string_view v) {
       if (!readNumber(v, o.concurrency) || o.concurrency > kWorkersMax) return false;
       if (o.concurrency == 0) o.concurrency = std::clamp(processorsOfQuota("/"), 1U, kWorkersMax);
       return true;
     }},
    {"cpuset-threads", "", "", "no effect: the default counts the processors of the cpuset", taken},
    {"log-level", "l", "LEVEL", "trace, debug, info, warning, error, critical or off",
     [](Options& o, std::string_view v) {
       base::LogLevel level{};
       o.log_level = v;
       return base::parseLogLevel(v, level);
     }},
    {"component-log-level", "", "NAME:LEVEL,...", "levels of single components", componentLevels},
    {"log-format", "", "FORMAT", "shape of log lines in spdlog's pattern syntax",
     [](Options& o, std::string_view v) {
       o.log_format = v;
       return base::LogFormat::parse(v).has_value();
     }},
    {"log-format-escaped", "", "", "write control characters of log texts as C does",
     yes<&Options::log_format_escaped>},
    {"log-path", "", "FILE", "log there instead of stderr; SIGUSR1 opens it again",
     text<&Options::log_path>},
    {"base-id", "", "N", "processes of one base id replace each other by hot restart; default 0",
     [](Options& o, std::string_view v) {
       o.hot_restart_asked = true;
       return readNumber(v, o.base_id);
     }},
    {"use-dynamic-base-id", "", "", "choose a free base id",
     yesForHotRestart<&Options::use_dynamic_base_id>},
    {"base-id-path", "", "FILE", "where to write the base id", text<&Options::base_id_path>},
    {"restart-epoch", "", "N",
     "0: the first process; N: takes over from the process of epoch N-1 with the same base id",
     [](Options& o, std::string_view v) {
       o.hot_restart_asked = true;
       return readNumber(v, o.restart_epoch) && o.restart_epoch <= kEpochMax;
     }},
    {"disable-hot-restart", "", "", "neither take over nor be replaced",
     yes<&Options::disable_hot_restart>},
    {"skip-hot-restart-on-no-parent", "", "", "start afresh when the process to replace is gone",
     yes<&Options::skip_hot_restart_on_no_parent>},
    {"skip-hot-restart-parent-stats", "", "", "do not take over statistics",
     yes<&Options::skip_hot_restart_parent_stats>},
    {"socket-path", "", "PATH", "start of the hot restart socket's name; @: abstract name space",
     [](Options& o, std::string_view v) {
       o.socket_path = v;
       return !v.empty() && v.size() <= kSocketPathBytesMax;
     }},
    {"socket-mode", "", "MODE", "permissions of a hot restart socket that is a file; default 600",
     octalMode},
    {"hot-restart-version", "", "", "print the hot restart compatibility version",
     act<Options::Action::kRestartVersion>},
    {"drain-time-s", "", "SECONDS",
     "what connections may take to end after their listener changed or went, after a hot restart "
     "and after SIGTERM; default 600",
     [](Options& o, std::string_view v) { return duration(v, o.drain_time); }},
    {"drain-strategy", "", "gradual|immediate",
     "gradual: connections are asked to end over the drain time; immediate: at once",
     [](Options& o, std::string_view v) {
       o.drain_immediately = v == "immediate";
       return v == "immediate" || v == "gradual";
     }},
    {"parent-shutdown-time-s", "", "SECONDS",
     "when a replaced process is ended, if it has not by itself; default 900",
     [](Options& o, std::string_view v) { return duration(v, o.parent_shutdown_time); }},
    {"file-flush-interval-msec", "", "MILLISECONDS",
     "how long access-log lines wait; default 100 (Envoy: 10000)",
     [](Options& o, std::string_view v) {
       return duration(v, o.file_flush_interval) && o.file_flush_interval.count() > 0;
     }},
    {"file-flush-min-size-kb", "", "KILOBYTES",
     "how many access-log bytes are written without waiting; default 64",
     [](Options& o, std::string_view v) {
       return readNumber(v, o.file_flush_min_size_kb) && o.file_flush_min_size_kb > 0 &&
              o.file_flush_min_size_kb <= kFlushKilobytesMax;
     }},
    {"service-node", "", "NAME", "node.id", text<&Options::service_node>},
    {"service-cluster", "", "NAME", "node.cluster", text<&Options::service_cluster>},
    {"service-zone", "", "NAME", "node.locality.zone", text<&Options::service_zone>},
    {"local-address-ip-version", "", "v4|v6", "told by /server_info; no other effect",
     [](Options& o, std::string_view v) {
       o.prefer_v6 = v == "v6";
       return v == "v4" || v == "v6";
     }},
    {"allow-unknown-static-fields", "", "",
     "leave out, with a warning, fields of the bootstrap that are unknown or not supported",
     yes<&Options::allow_unknown_static_fields>},
    {"reject-unknown-dynamic-fields", "", "", "refuse discovered resources with unknown fields",
     yes<&Options::reject_unknown_dynamic_fields>},
    {"ignore-unknown-dynamic-fields", "", "", "do not count unknown fields of discovered resources",
     yes<&Options::ignore_unknown_dynamic_fields>},
    {"skip-deprecated-logs", "", "", "no effect: use of deprecated fields is not logged",
     yes<&Options::skip_deprecated_logs>},
    {"enable-core-dump", "", "", "let a crash write its memory", yes<&Options::enable_core_dump>},
    {"admin-address-path", "", "FILE", "where to write the admin port's address",
     text<&Options::admin_address_path>},
    {"saved-config-path", "", "FOLDER",
     "keep the last accepted discovered configuration there and start from it",
     text<&Options::saved_config_path>},
    {"version", "", "", "print the version", act<Options::Action::kVersion>},
    {"help", "h", "", "print this text", act<Options::Action::kHelp>},
};

const OptionFlag* findFlag(std::string_view word) {
  for (const OptionFlag& flag : kFlags) {
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
  out.concurrency = std::min(processorsAllowed(), kWorkersMax);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view word = arguments[i];
    std::string_view value;
    const std::size_t equals = word.starts_with("--") ? word.find('=') : std::string_view::npos;
    const bool joined = equals != std::string_view::npos;
    if (joined) {
      value = word.substr(equals + 1);
      word = word.substr(0, equals);
    }
    const OptionFlag* flag = findFlag(word);
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
  if (out.disable_hot_restart) {
    if (out.restart_epoch != 0)
      return base::failConfig("--restart-epoch", "needs hot restart, which is disabled");
    out.hot_restart_asked = false;
  }
  if (out.use_dynamic_base_id && out.restart_epoch != 0) {
    return base::failConfig("--use-dynamic-base-id",
                            "needs --restart-epoch 0: later epochs are told the base id");
  }
  if (out.action == Options::Action::kRun && out.config_path.empty() && out.config_yaml.empty())
    return base::failConfig("", "--config-path or --config-yaml is required; see --help");
  return out;
}

std::string optionsHelp() {
  std::string out =
      "usage: postern-proxy -c FILE [flags]\n"
      "       postern-proxy sidecar|gateway|capture ...\n\n";
  for (const OptionFlag& flag : kFlags) {
    std::string names = *flag.letter != '\0' ? "-" + std::string(flag.letter) + ", " : "    ";
    names += "--" + std::string(flag.name);
    if (*flag.value != '\0') names += " " + std::string(flag.value);
    if (names.size() < 42) names.resize(42, ' ');
    out += "  " + names + " " + flag.help + "\n";
  }
  return out;
}

}  // namespace postern::proxy
