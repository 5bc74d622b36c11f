// The answers that show configuration: /config_dump, /clusters, /listeners, /server_info, /logging.
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

#include <optional>

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
  const std::string name = request.parameter("name_regex");
  const bool endpoints = ("&" + request.query).find("&include_eds") != std::string::npos ||
                         resource.find("endpoint") != std::string::npos;
  json all = sections(server, endpoints);
  if (resource.empty()) {
    if (!mask.empty()) {
      for (json& section : all) {
        json kept = masked(section, mask);
        kept["@type"] = section["@type"];
        section = std::move(kept);
      }
    }
    return respondJson(responder, {{"configs", std::move(all)}});
  }
  json found = json::array();
  bool known = false;
  for (const json& section : all) {
    const std::string type = postern::json::stringAt(section, "@type");
    const auto it = section.find(resource);
    static const std::map<std::string, std::string> kOwners = {
        {"static_clusters", "ClustersConfigDump"},
        {"dynamic_active_clusters", "ClustersConfigDump"},
        {"dynamic_warming_clusters", "ClustersConfigDump"},
        {"static_listeners", "ListenersConfigDump"},
        {"dynamic_listeners", "ListenersConfigDump"},
        {"static_route_configs", "RoutesConfigDump"},
        {"dynamic_route_configs", "RoutesConfigDump"},
        {"static_endpoint_configs", "EndpointsConfigDump"},
        {"dynamic_endpoint_configs", "EndpointsConfigDump"},
        {"static_secrets", "SecretsConfigDump"},
        {"dynamic_active_secrets", "SecretsConfigDump"},
        {"dynamic_warming_secrets", "SecretsConfigDump"},
        {"bootstrap", "BootstrapConfigDump"}};
    const auto owner = kOwners.find(resource);
    known = known || owner != kOwners.end();
    if (it == section.end()) continue;
    json entries = it->is_array() ? *it : json::array({*it});
    for (json& entry : entries) {
      if (!name.empty() && entryName(entry).find(name) == std::string::npos) continue;
      json kept = mask.empty() ? std::move(entry) : masked(entry, mask);
      kept["@type"] = type;
      found.push_back(std::move(kept));
    }
  }
  if (!known) {
    return respondText(responder, 404, fmt::format("{} not found in config dump\n", resource));
  }
  respondJson(responder, {{"configs", std::move(found)}});
}

void answerServerInfo(Server& server, http::Responder& responder) {
  const Options& options = server.options();
  const auto seconds = [](base::Duration time) {
    return fmt::format("{}s", std::chrono::duration_cast<std::chrono::seconds>(time).count());
  };
  const std::string uptime = seconds(server.uptime());
  json line = {
      {"base_id", std::to_string(options.base_id)},
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
      {"disable_hot_restart", true},
      {"restart_epoch", options.restart_epoch}};
  json node = api::toJson(server.bootstrap().node());
  if (node.is_null()) node = json::object();
  node["user_agent_name"] = "postern";
  respondJson(responder, {{"version", options.version},
                          {"state", std::string(toString(server.state()))},
                          {"uptime_current_epoch", uptime},
                          {"uptime_all_epochs", uptime},
                          {"hot_restart_version", "disabled"},
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

void answerLogging(const http::Request& request, http::Responder& responder) {
  const auto bad = [&](std::string_view what) {
    respondText(responder, 400, fmt::format("error: {}\n", what));
  };
  for (const std::string_view piece : base::split(request.query, '&')) {
    if (piece.empty()) continue;
    const std::size_t equals = piece.find('=');
    const std::string name(piece.substr(0, equals));
    const std::string value = request.parameter(name);
    base::LogLevel level{};
    if (name == "paths") {
      for (const std::string_view pair : base::split(value, ',')) {
        const std::size_t colon = pair.find(':');
        if (colon == std::string_view::npos ||
            !base::parseLogLevel(pair.substr(colon + 1), level) ||
            !base::setLogLevel(pair.substr(0, colon), level)) {
          return bad("unknown logger or level in paths");
        }
      }
      continue;
    }
    if (!base::parseLogLevel(value, level)) return bad("unknown logger level");
    if (name == "level") {
      base::setLogLevel(level);
    } else if (!base::setLogLevel(name, level)) {
      return bad("unknown logger name");
    }
  }
  std::string out = "active loggers:\n";
  for (const auto& [name, level] : base::logLevels())
    out += fmt::format("  {}: {}\n", name, base::toString(level));
  respondText(responder, 200, std::move(out));
}

}  // namespace postern::proxy
