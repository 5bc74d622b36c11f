// /logging and /runtime: what may be changed while the proxy runs, and what was set before.
#include "api/message.h"
#include "base/log.h"
#include "base/strings.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "proxy/admin.h"
#include "proxy/server.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

namespace postern::proxy {

namespace {

using json = nlohmann::json;

bool isComponent(std::string_view name) {
  const auto all = base::logLevels();
  return std::any_of(all.begin(), all.end(), [&](const auto& each) { return each.first == name; });
}

/// The error of a request to change levels; "" after a change, or when none was asked for.
std::string changeLevels(const http::Request& request) {
  const auto pieces =
      request.query.empty() ? std::vector<std::string_view>() : base::split(request.query, '&');
  if (pieces.size() > 1) return "error: invalid number of parameters\n";
  if (pieces.empty()) return "";
  const std::string name(pieces[0].substr(0, pieces[0].find('=')));
  const std::string value = request.parameter(name);
  base::LogLevel level{};
  if (name != "paths") {
    if (!base::parseLogLevel(value, level)) return "error: unknown logger level\n";
    if (name == "level") {
      base::setLogLevel(level);
    } else if (!isComponent(name)) {
      return "error: unknown logger name\n";
    } else {
      (void)base::setLogLevel(name, level);
    }
    return "";
  }
  std::vector<std::pair<std::string_view, base::LogLevel>> changes;
  for (const std::string_view pair : base::split(value, ',')) {
    const std::size_t colon = pair.find(':');
    if (colon == std::string_view::npos || colon == 0 || colon + 1 == pair.size())
      return "error: empty logger name or empty logger level\n";
    if (!base::parseLogLevel(pair.substr(colon + 1), level)) return "error: unknown logger level\n";
    if (!isComponent(pair.substr(0, colon))) return "error: unknown logger name\n";
    changes.emplace_back(pair.substr(0, colon), level);
  }
  for (const auto& [component, to] : changes) (void)base::setLogLevel(component, to);
  return "";
}

}  // namespace

void answerLogging(const http::Request& request, http::Responder& responder) {
  if (const std::string error = changeLevels(request); !error.empty()) {
    return respondText(
        responder, 400,
        error +
            "\nusage: /logging?<name>=<level> (change single level)\n"
            "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
            "usage: /logging?level=<level> (change all levels)\n"
            "levels: trace debug info warning error critical off\n");
  }
  std::string out = "active loggers:\n";
  for (const auto& [name, level] : base::logLevels())
    out += fmt::format("  {}: {}\n", name, base::toString(level));
  respondText(responder, 200, std::move(out));
}

namespace {

/// A value as the runtime's users wrote it; what is neither a number, a text nor a truth value is
/// one line of JSON.
std::string runtimeText(const json& value) {
  return value.is_string() ? value.get<std::string>() : postern::json::dump(value);
}

/// Leaves of a layer by their dotted names.
void flatten(const json& layer, const std::string& prefix,
             std::map<std::string, std::string>& out) {
  for (auto it = layer.begin(); it != layer.end(); ++it) {
    const std::string key = prefix.empty() ? it.key() : prefix + "." + it.key();
    const bool fraction = it->is_object() && it->contains("numerator");
    if (it->is_object() && !fraction) {
      flatten(*it, key, out);
    } else {
      out[key] = runtimeText(*it);
    }
  }
}

}  // namespace

void answerRuntime(Server& server, http::Responder& responder) {
  const auto& layers = server.bootstrap().layered_runtime().layers();
  json names = json::array();
  json entries = json::object();
  for (int i = 0; i < layers.size(); ++i) {
    names.push_back(layers[i].name());
    std::map<std::string, std::string> values;
    if (layers[i].has_static_layer()) {
      const json layer = api::toJson(layers[i].static_layer());
      if (layer.is_object()) flatten(layer, "", values);
    }
    for (const auto& [key, value] : values) {
      json& entry = entries[key];
      if (entry.is_null())
        entry["layer_values"] = std::vector<std::string>(static_cast<std::size_t>(layers.size()));
      entry["layer_values"][static_cast<std::size_t>(i)] = value;
      entry["final_value"] = value;
    }
  }
  respondJson(responder, {{"entries", std::move(entries)}, {"layers", std::move(names)}});
}

}  // namespace postern::proxy
