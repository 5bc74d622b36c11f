#include "agent/environment.h"

#include "base/strings.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <map>
#include <optional>

namespace postern::agent {
namespace {

using base::ConfigResult;
using base::failConfig;
using json::Json;
using Variables = std::map<std::string, std::string, std::less<>>;

constexpr std::string_view kMetaPrefix = "ISTIO_META_";
constexpr std::string_view kMetaJsonPrefix = "ISTIO_METAJSON_";
constexpr std::size_t kPodInfoBytesMax = 1024 * 1024;

Variables toMap(const std::vector<std::string>& variables) {
  Variables out;
  for (const std::string& each : variables) {
    const std::size_t equals = each.find('=');
    if (equals != std::string::npos) out[each.substr(0, equals)] = each.substr(equals + 1);
  }
  return out;
}

std::string valueOf(const Variables& variables, std::string_view name, std::string fallback = "") {
  auto it = variables.find(name);
  return it == variables.end() || it->second.empty() ? std::move(fallback) : it->second;
}

/// "5", "5s", "500ms", "1m".
std::optional<std::chrono::seconds> parseSeconds(std::string_view text) {
  if (text.ends_with("ms")) {
    auto ms = base::parseInteger<unsigned>(text.substr(0, text.size() - 2));
    if (!ms) return std::nullopt;
    return std::chrono::seconds((*ms + 999) / 1000);
  }
  int unit = 1;
  if (text.ends_with('s')) {
    text.remove_suffix(1);
  } else if (text.ends_with('m')) {
    text.remove_suffix(1);
    unit = 60;
  }
  auto number = base::parseInteger<unsigned>(text);
  if (!number || *number > 86400) return std::nullopt;
  return std::chrono::seconds(static_cast<int>(*number) * unit);
}

ConfigResult<void> readSeconds(const Variables& variables, const char* name,
                               std::chrono::seconds& out) {
  const std::string text = valueOf(variables, name);
  if (text.empty()) return {};
  auto seconds = parseSeconds(text);
  if (!seconds) return failConfig(name, fmt::format("\"{}\" is not a duration", text));
  out = *seconds;
  return {};
}

ConfigResult<void> setAgentFlag(AgentOptions& out, std::string_view flag, std::string_view value) {
  const std::string text(value);
  if (flag == "--domain") {
    out.domain = text;
  } else if (flag == "--serviceCluster") {
    out.service_cluster = text;
  } else if (flag == "--proxyLogLevel") {
    out.proxy_log_level = text;
  } else if (flag == "--proxyComponentLogLevel") {
    out.proxy_component_log_level = text;
  } else if (flag == "--log_output_level") {
    // "default:info" of Istio's agent, or a bare level.
    out.log_level = text.substr(text.rfind(':') + 1);
  } else if (flag == "--binaryPath") {
    out.proxy_program = text;
  } else if (flag == "--concurrency") {
    auto number = base::parseInteger<int>(value);
    if (!number || *number < 0) return failConfig("--concurrency", "must be 0 or more");
    out.concurrency = *number;
  } else {
    return failConfig(std::string(flag), "unknown flag");
  }
  return {};
}

ConfigResult<void> readArguments(std::span<const std::string_view> arguments, AgentOptions& out) {
  if (!arguments.empty() && arguments.front() == "proxy") arguments = arguments.subspan(1);
  if (arguments.empty()) return failConfig("", "missing proxy type: sidecar or gateway");
  const std::string_view type = arguments.front();
  if (type == "gateway" || type == "router") {
    out.type = "router";
  } else if (type != "sidecar") {
    return failConfig("", fmt::format("unknown proxy type \"{}\": sidecar or gateway", type));
  }
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    std::string_view flag = arguments[i];
    const std::size_t equals = flag.find('=');
    if (equals != std::string_view::npos) {
      POSTERN_TRY_VOID(setAgentFlag(out, flag.substr(0, equals), flag.substr(equals + 1)));
    } else if (i + 1 < arguments.size()) {
      POSTERN_TRY_VOID(setAgentFlag(out, flag, arguments[++i]));
    } else {
      return failConfig(std::string(flag), "needs a value");
    }
  }
  return {};
}

ConfigResult<Json> metadata(const Variables& variables, const AgentOptions& options) {
  Json out = Json::object();
  for (const auto& [name, value] : variables) {
    if (name.starts_with(kMetaJsonPrefix)) {
      auto parsed = json::parse(value);
      if (!parsed) return failConfig(name, parsed.error().message());
      const std::string key = name.substr(kMetaJsonPrefix.size());
      if (parsed->is_object() && out.contains(key) && out[key].is_object()) {
        out[key].update(*parsed);
      } else {
        out[key] = std::move(*parsed);
      }
    } else if (name.starts_with(kMetaPrefix)) {
      out[name.substr(kMetaPrefix.size())] = value;
    }
  }
  Json labels = readPodInfo(options.paths.pod_info_dir + "/labels");
  if (out.contains("LABELS") && out["LABELS"].is_object()) labels.update(out["LABELS"]);
  out["LABELS"] = std::move(labels);
  out["ANNOTATIONS"] = readPodInfo(options.paths.pod_info_dir + "/annotations");
  out["NAME"] = options.pod_name;
  out["NAMESPACE"] = options.pod_namespace;
  out["INSTANCE_IPS"] = options.instance_ip;
  if (auto account = valueOf(variables, "SERVICE_ACCOUNT"); !account.empty())
    out["SERVICE_ACCOUNT"] = account;
  if (auto node = valueOf(variables, "NODE_NAME"); !node.empty()) out["NODE_NAME"] = node;
  out["ENVOY_STATUS_PORT"] = options.ready_port;
  out["ENVOY_PROMETHEUS_PORT"] = options.prometheus_port;
  return out;
}

}  // namespace

std::string AgentOptions::nodeId() const {
  return fmt::format("{}~{}~{}.{}~{}", type, instance_ip, pod_name, pod_namespace, domain);
}

Json readPodInfo(const std::string& file) {
  Json out = Json::object();
  std::ifstream in(file);
  std::string line;
  std::size_t bytes = 0;
  while (std::getline(in, line) && (bytes += line.size()) <= kPodInfoBytesMax) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    // The value is a Go-quoted string, which JSON reads except for escapes that labels never have.
    auto value = json::parse(line.substr(equals + 1));
    if (value && value->is_string()) out[line.substr(0, equals)] = *value;
  }
  return out;
}

ConfigResult<AgentOptions> readEnvironment(std::span<const std::string_view> arguments,
                                           const std::vector<std::string>& variable_list,
                                           const Paths& paths) {
  AgentOptions out;
  out.paths = paths;
  POSTERN_TRY_VOID(readArguments(arguments, out));
  const Variables variables = toMap(variable_list);
  out.pod_name = valueOf(variables, "POD_NAME");
  out.pod_namespace = valueOf(variables, "POD_NAMESPACE");
  out.instance_ip = valueOf(variables, "INSTANCE_IP");
  for (const auto& [name, value] :
       {std::pair{"POD_NAME", &out.pod_name}, std::pair{"POD_NAMESPACE", &out.pod_namespace},
        std::pair{"INSTANCE_IP", &out.instance_ip}}) {
    if (value->empty()) return failConfig(name, "must be set in the environment");
  }
  if (out.domain.empty()) out.domain = out.pod_namespace + ".svc.cluster.local";
  if (out.service_cluster.empty()) {
    out.service_cluster =
        valueOf(variables, "ISTIO_META_WORKLOAD_NAME", out.pod_name) + "." + out.pod_namespace;
  }
  const std::string discovery =
      valueOf(variables, "DISCOVERY_ADDRESS", "istiod.istio-system.svc:15012");
  const std::size_t colon = discovery.rfind(':');
  auto port =
      colon == std::string::npos
          ? std::optional<std::uint16_t>()
          : base::parseInteger<std::uint16_t>(std::string_view(discovery).substr(colon + 1));
  if (!port || *port == 0 || colon == 0) {
    return failConfig("DISCOVERY_ADDRESS", fmt::format("\"{}\" is not host:port", discovery));
  }
  out.discovery_host = discovery.substr(0, colon);
  out.discovery_port = *port;
  POSTERN_TRY_VOID(readSeconds(variables, "TERMINATION_DRAIN_DURATION_SECONDS", out.drain_max));
  POSTERN_TRY_VOID(readSeconds(variables, "MINIMUM_DRAIN_DURATION", out.drain_min));
  out.exit_when_idle = valueOf(variables, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true") == "true";
  out.probers_json = valueOf(variables, "ISTIO_KUBE_APP_PROBERS");
  POSTERN_TRY(Json meta, metadata(variables, out));
  out.metadata_json = json::dump(meta);
  return out;
}

}  // namespace postern::agent
