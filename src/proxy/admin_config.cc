// The answers that show configuration: /config_dump, /listeners, /server_info.
#include "api/message.h"
#include "base/log.h"
#include "base/strings.h"
#include "envoy/admin/v3/config_dump.pb.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "proxy/admin.h"
#include "proxy/server.h"

#include <fmt/format.h>
#include <google/protobuf/timestamp.pb.h>
#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace postern::proxy {

namespace {

using json = nlohmann::json;
namespace dump = envoy::admin::v3;

void set(google::protobuf::Timestamp& out, base::WallTime time) {
  const auto nanos =
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  out.set_seconds(nanos / 1'000'000'000);
  out.set_nanos(static_cast<std::int32_t>(nanos % 1'000'000'000));
}

void fill(dump::UpdateFailureState& out, const ResourceError& error) {
  *out.mutable_failed_configuration() = error.message;
  set(*out.mutable_last_update_attempt(), error.at);
  out.set_details(error.details);
  out.set_version_info(error.version);
}

dump::SecretsConfigDump dumpSecrets(const SecretStore& secrets) {
  dump::SecretsConfigDump out;
  for (const auto& [name, record] : secrets.fixed()) {
    auto& each = *out.add_static_secrets();
    each.set_name(name);
    set(*each.mutable_last_updated(), record.text.updated);
    *each.mutable_secret() = record.text.message;
  }
  const auto add = [](dump::SecretsConfigDump::DynamicSecret& each, const std::string& name,
                      const SecretStore::Record& record) {
    each.set_name(name);
    each.set_version_info(record.text.version.empty() ? "uninitialized" : record.text.version);
    set(*each.mutable_last_updated(), record.text.updated);
    *each.mutable_secret() = record.text.message;
    if (record.error) fill(*each.mutable_error_state(), *record.error);
  };
  for (const auto* records : {&secrets.discovered(), &secrets.files()}) {
    for (const auto& [name, record] : *records) {
      add(record.secret != nullptr ? *out.add_dynamic_active_secrets()
                                   : *out.add_dynamic_warming_secrets(),
          record.file.empty() ? name : name.substr(name.rfind('|') + 1), record);
    }
  }
  return out;
}

template <class State>
void fillState(State& out, google::protobuf::Any& resource, const ResourceText& text) {
  resource = text.message;
  set(*out.mutable_last_updated(), text.updated);
}

dump::ClustersConfigDump dumpClusters(const ConfigStore& store) {
  dump::ClustersConfigDump out;
  out.set_version_info(store.version(api::kClusterType));
  for (const auto& [name, record] : store.clusters()) {
    if (record.is_static) {
      auto& each = *out.add_static_clusters();
      fillState(each, *each.mutable_cluster(),
                record.active != nullptr ? record.active_text : record.warming_text);
      continue;
    }
    const auto add = [&](dump::ClustersConfigDump::DynamicCluster& each, const ResourceText& text) {
      each.set_version_info(text.version);
      fillState(each, *each.mutable_cluster(), text);
      if (record.error) fill(*each.mutable_error_state(), *record.error);
    };
    if (record.active != nullptr) add(*out.add_dynamic_active_clusters(), record.active_text);
    if (record.warming != nullptr) add(*out.add_dynamic_warming_clusters(), record.warming_text);
  }
  return out;
}

dump::ListenersConfigDump dumpListeners(const ConfigStore& store) {
  dump::ListenersConfigDump out;
  out.set_version_info(store.version(api::kListenerType));
  for (const auto& [name, record] : store.listeners()) {
    if (record.is_static) {
      auto& each = *out.add_static_listeners();
      fillState(each, *each.mutable_listener(),
                record.active.config != nullptr ? record.active_text : record.warming_text);
      continue;
    }
    auto& each = *out.add_dynamic_listeners();
    each.set_name(name);
    const auto add = [](dump::ListenersConfigDump::DynamicListenerState& state,
                        const ResourceText& text) {
      state.set_version_info(text.version);
      fillState(state, *state.mutable_listener(), text);
    };
    if (record.active.config != nullptr) add(*each.mutable_active_state(), record.active_text);
    if (record.warming.config != nullptr) add(*each.mutable_warming_state(), record.warming_text);
    if (record.error) fill(*each.mutable_error_state(), *record.error);
  }
  return out;
}

/// Routes that stand in a listener count as static.
void addInlineRoutes(dump::RoutesConfigDump& out, const ResourceText& text) {
  envoy::config::listener::v3::Listener listener;
  if (!api::unpack(text.message, listener)) return;
  const auto add = [&](const envoy::config::listener::v3::FilterChain& chain) {
    for (const auto& filter : chain.filters()) {
      envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager http;
      if (!api::unpack(filter.typed_config(), http) || !http.has_route_config()) continue;
      auto& each = *out.add_static_route_configs();
      api::pack(http.route_config(), *each.mutable_route_config());
      set(*each.mutable_last_updated(), text.updated);
    }
  };
  for (const auto& chain : listener.filter_chains()) add(chain);
  if (listener.has_default_filter_chain()) add(listener.default_filter_chain());
}

dump::RoutesConfigDump dumpRoutes(const ConfigStore& store) {
  dump::RoutesConfigDump out;
  for (const auto& [name, record] : store.routes()) {
    if (record.text.message.type_url().empty() && !record.error) continue;
    auto& each = *out.add_dynamic_route_configs();
    each.set_version_info(record.text.version);
    fillState(each, *each.mutable_route_config(), record.text);
    if (record.error) fill(*each.mutable_error_state(), *record.error);
  }
  for (const auto& [name, record] : store.listeners()) {
    if (record.active.config != nullptr) addInlineRoutes(out, record.active_text);
  }
  return out;
}

dump::EndpointsConfigDump dumpEndpoints(const ConfigStore& store) {
  dump::EndpointsConfigDump out;
  for (const auto& [name, record] : store.endpoints()) {
    if (record.text.message.type_url().empty()) continue;
    auto& each = *out.add_dynamic_endpoint_configs();
    each.set_version_info(record.text.version);
    fillState(each, *each.mutable_endpoint_config(), record.text);
  }
  return out;
}

/// Nobody who may look at the configuration gets a key by it.
json asAny(google::protobuf::Message&& message) {
  redactSecrets(message);
  json out = api::toJson(message);
  if (!out.is_object()) out = json::object();
  out["@type"] = std::string(api::kTypeUrlPrefix) + message.GetDescriptor()->full_name();
  return out;
}

/// The repeated fields of the sections and the types of their elements.
const std::map<std::string, std::string_view> kElements = {
    {"static_clusters", "ClustersConfigDump.StaticCluster"},
    {"dynamic_active_clusters", "ClustersConfigDump.DynamicCluster"},
    {"dynamic_warming_clusters", "ClustersConfigDump.DynamicCluster"},
    {"static_listeners", "ListenersConfigDump.StaticListener"},
    {"dynamic_listeners", "ListenersConfigDump.DynamicListener"},
    {"static_route_configs", "RoutesConfigDump.StaticRouteConfig"},
    {"dynamic_route_configs", "RoutesConfigDump.DynamicRouteConfig"},
    {"static_endpoint_configs", "EndpointsConfigDump.StaticEndpointConfig"},
    {"dynamic_endpoint_configs", "EndpointsConfigDump.DynamicEndpointConfig"},
    {"static_secrets", "SecretsConfigDump.StaticSecret"},
    {"dynamic_active_secrets", "SecretsConfigDump.DynamicSecret"},
    {"dynamic_warming_secrets", "SecretsConfigDump.DynamicSecret"}};

/// Private keys and passwords that stand in resources are nobody's to see.
void redactJson(json& value, bool secret) {
  static const std::set<std::string, std::less<>> kSecret = {"private_key", "pkcs12", "password",
                                                             "keys",        "secret", "secrets"};
  if (value.is_array()) {
    for (json& each : value) redactJson(each, secret);
  }
  if (!value.is_object()) return;
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (secret && it.key() == "inline_string") it.value() = "[redacted]";
    if (secret && it.key() == "inline_bytes") it.value() = "W3JlZGFjdGVkXQ==";
    redactJson(it.value(), secret || kSecret.contains(it.key()));
  }
}

/// The sections in Envoy's order.
json sections(Server& server, bool endpoints) {
  json out = json::array();
  dump::BootstrapConfigDump bootstrap;
  *bootstrap.mutable_bootstrap() = server.bootstrap();
  set(*bootstrap.mutable_last_updated(), server.started());
  out.push_back(asAny(std::move(bootstrap)));
  out.push_back(asAny(dumpClusters(server.store())));
  if (endpoints) out.push_back(asAny(dumpEndpoints(server.store())));
  out.push_back(asAny(dumpListeners(server.store())));
  json scoped = {{"@type", "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump"}};
  out.push_back(std::move(scoped));
  out.push_back(asAny(dumpRoutes(server.store())));
  out.push_back(asAny(dumpSecrets(server.store().secrets())));
  for (json& each : out) redactJson(each, false);
  return out;
}

/// The name of an entry of a section, for ?name_regex and for people.
std::string entryName(const json& entry) {
  for (const char* at : {"name", "cluster.name", "listener.name", "route_config.name",
                         "endpoint_config.cluster_name"}) {
    std::string name = postern::json::stringAt(entry, at);
    if (!name.empty()) return name;
  }
  return "";
}

/// Keeps of `value` what the paths of a field mask name.
json masked(const json& value, const std::string& mask) {
  json out = json::object();
  for (const std::string_view path : base::split(mask, ',')) {
    const json* from = &value;
    json* to = &out;
    const auto steps = base::split(path, '.');
    for (std::size_t i = 0; i < steps.size() && from != nullptr; ++i) {
      const std::string step(steps[i]);
      if (!from->is_object() || !from->contains(step)) break;
      from = &(*from)[step];
      to = &(*to)[step];
      if (i + 1 == steps.size()) *to = *from;
    }
  }
  return out;
}

}  // namespace

void answerConfigDump(Server& server, const http::Request& request, http::Responder& responder) {
  const std::string resource = request.parameter("resource");
  const std::string mask = request.parameter("mask");
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 name(request.parameter("name_regex"), options);
  if (!name.ok())
    return respondText(responder, 400, "Error while parsing name_regex: " + name.error());
  if (resource == "bootstrap" || resource == "last_updated" || resource == "version_info") {
    return respondText(
        responder, 400,
        fmt::format("{0} is not a repeated field. Use ?mask={0} to get only this field", resource));
  }
  const bool endpoints = ("&" + request.query).find("&include_eds") != std::string::npos ||
                         resource.find("endpoint") != std::string::npos;
  json all = sections(server, endpoints);
  if (resource.empty()) {
    if (!mask.empty()) {
      json kept = json::array();
      for (json& section : all) {
        json part = masked(section, mask);
        if (part.empty()) continue;
        part["@type"] = section["@type"];
        kept.push_back(std::move(part));
      }
      if (kept.empty()) {
        return respondText(
            responder, 400,
            fmt::format("FieldMask {} could not be successfully applied to any configs.", mask));
      }
      all = std::move(kept);
    }
    return respondJson(responder, {{"configs", std::move(all)}});
  }
  const auto known = kElements.find(resource);
  if (known == kElements.end())
    return respondText(responder, 404, fmt::format("{} not found in config dump", resource));
  json found = json::array();
  for (json& section : all) {
    const auto it = section.find(resource);
    if (it == section.end()) continue;
    for (json& entry : *it) {
      if (!name.pattern().empty() && !RE2::FullMatch(entryName(entry), name)) continue;
      json kept = mask.empty() ? std::move(entry) : masked(entry, mask);
      kept["@type"] = fmt::format("{}envoy.admin.v3.{}", api::kTypeUrlPrefix, known->second);
      found.push_back(std::move(kept));
    }
  }
  if (found.empty()) return respondJson(responder, json::object());
  respondJson(responder, {{"configs", std::move(found)}});
}

void answerServerInfo(Server& server, http::Responder& responder) {
  const Options& options = server.options();
  const auto seconds = [](base::Duration time) {
    return fmt::format("{}s", std::chrono::duration_cast<std::chrono::seconds>(time).count());
  };
  const std::string uptime = seconds(server.uptime());
  json line = {
      {"base_id", std::to_string(server.baseId())},
      {"use_dynamic_base_id", options.use_dynamic_base_id},
      {"base_id_path", options.base_id_path},
      {"skip_hot_restart_on_no_parent", options.skip_hot_restart_on_no_parent},
      {"skip_hot_restart_parent_stats", options.skip_hot_restart_parent_stats},
      {"socket_path", options.socket_path},
      {"socket_mode", options.socket_mode},
      {"ignore_unknown_dynamic_fields", options.ignore_unknown_dynamic_fields},
      {"skip_deprecated_logs", options.skip_deprecated_logs},
      {"enable_core_dump", options.enable_core_dump},
      {"log_format_escaped", options.log_format_escaped},
      {"log_path", options.log_path},
      {"file_flush_min_size", options.file_flush_min_size_kb},
      {"concurrency", options.concurrency},
      {"config_path", options.config_path},
      {"config_yaml", options.config_yaml},
      {"allow_unknown_static_fields", options.allow_unknown_static_fields},
      {"reject_unknown_dynamic_fields", options.reject_unknown_dynamic_fields},
      {"admin_address_path", options.admin_address_path},
      {"local_address_ip_version", options.prefer_v6 ? "v6" : "v4"},
      {"log_level", options.log_level},
      {"component_log_level", options.component_log_level},
      {"log_format", options.log_format},
      {"service_cluster", options.service_cluster},
      {"service_node", options.service_node},
      {"service_zone", options.service_zone},
      {"file_flush_interval",
       fmt::format("{:.3f}s", static_cast<double>(options.file_flush_interval.count()) / 1000)},
      {"drain_time", seconds(options.drain_time)},
      {"drain_strategy", options.drain_immediately ? "Immediate" : "Gradual"},
      {"parent_shutdown_time", seconds(options.parent_shutdown_time)},
      {"mode", "Serve"},
      {"disable_hot_restart", options.disable_hot_restart},
      {"restart_epoch", options.restart_epoch}};
  json node = api::toJson(server.bootstrap().node());
  if (node.is_null()) node = json::object();
  node["user_agent_name"] = "postern";
  respondJson(responder,
              {{"version", options.version},
               {"state", std::string(toString(server.state()))},
               {"uptime_current_epoch", uptime},
               {"uptime_all_epochs", seconds(server.loop().clock().wall() - server.firstStart())},
               {"hot_restart_version", server.hotRestarts() ? kHotRestartVersion : "disabled"},
               {"command_line_options", std::move(line)},
               {"node", std::move(node)}});
}

void answerListeners(Server& server, const http::Request& request,
                     std::unique_ptr<http::Responder> responder) {
  const bool as_json = request.parameter("format") == "json";
  json statuses = json::array();
  std::string text;
  for (const auto& [name, entry] : server.store().snapshot().listeners) {
    const net::Address& address = entry.config->address;
    statuses.push_back({{"name", name}, {"local_address", addressJson(address)}});
    text += name + "::" + address.toString() + "\n";
  }
  if (as_json) return respondJson(*responder, {{"listener_statuses", std::move(statuses)}});
  respondText(*responder, 200, std::move(text));
}

}  // namespace postern::proxy
