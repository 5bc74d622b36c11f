#include "apiserver/table.h"

#include "apiserver/printers.h"
#include "base/strings.h"

#include <cmath>
#include <cstdio>
#include <ctime>

namespace postern::apiserver {
namespace {

Json column(const std::string& name, const std::string& type, const std::string& format,
            const std::string& description, int priority) {
  return {{"name", name},
          {"type", type},
          {"format", format},
          {"description", description},
          {"priority", priority}};
}

std::string arrayText(const Json& value, ArrayStyle style) {
  if (style == ArrayStyle::kJson || !value.is_array()) return json::dump(value);
  std::string text = "[";
  for (const Json& item : value) {
    if (text.size() > 1) text += ' ';
    text += item.is_string() ? item.get<std::string>() : json::dump(item);
  }
  return text + "]";
}

Json customCell(const Json& object, const Json& definition, const TableOptions& options) {
  std::string path = json::stringAt(definition, "jsonPath");
  if (path.empty()) path = json::stringAt(definition, "JSONPath");
  std::string type = json::stringAt(definition, "type");
  const Json* value = jsonPath(object, path);
  if (value == nullptr || value->is_null()) return nullptr;
  if (type == "date") {
    WallTime at;
    if (!value->is_string() || !parseTime(value->get<std::string>(), at)) return "<invalid>";
    return ageOf(value->get<std::string>(), options.now);
  }
  if (type == "integer") return value->is_number() ? Json(value->get<long long>()) : Json();
  if (type == "number") return value->is_number() ? *value : Json();
  if (type == "boolean") return value->is_boolean() ? *value : Json();
  if (value->is_string()) return *value;
  return arrayText(*value, options.arrays);
}

bool declared(const TableOptions& options) {
  return options.printer_columns != nullptr && options.printer_columns->is_array() &&
         !options.printer_columns->empty();
}

/// The items of an array that pass "@.a==b"; only equality with a literal is needed.
const Json* filtered(const Json& array, std::string_view condition) {
  std::size_t equals = condition.find("==");
  if (equals == std::string_view::npos || !condition.starts_with("@.")) return nullptr;
  std::string_view field = base::trim(condition.substr(2, equals - 2));
  std::string_view wanted = base::trim(condition.substr(equals + 2));
  if (wanted.size() >= 2 && (wanted.front() == '"' || wanted.front() == '\'')) {
    wanted = wanted.substr(1, wanted.size() - 2);
  }
  for (const Json& item : array) {
    const Json* at = json::find(item, field);
    if (at == nullptr) continue;
    if ((at->is_string() ? at->get<std::string>() : json::dump(*at)) == wanted) return &item;
  }
  return nullptr;
}

}  // namespace

const Json* jsonPath(const Json& object, std::string_view path) {
  if (path.starts_with('{') && path.ends_with('}')) path = path.substr(1, path.size() - 2);
  if (path.starts_with('$')) path.remove_prefix(1);
  const Json* at = &object;
  while (!path.empty()) {
    if (path.front() == '[') {
      std::size_t close = path.find(']');
      if (close == std::string_view::npos) return nullptr;
      std::string_view inside = path.substr(1, close - 1);
      path.remove_prefix(close + 1);
      if (inside.size() > 2 && inside.front() == '\'') {
        auto it = at->is_object() ? at->find(std::string(inside.substr(1, inside.size() - 2)))
                                  : at->end();
        if (it == at->end()) return nullptr;
        at = &*it;
        continue;
      }
      if (!at->is_array() || at->empty()) return nullptr;
      if (inside == "*") {
        at = &at->front();
      } else if (inside.starts_with("?(") && inside.ends_with(')')) {
        at = filtered(*at, inside.substr(2, inside.size() - 3));
        if (at == nullptr) return nullptr;
      } else {
        auto index = base::parseInteger<std::size_t>(inside);
        if (!index || *index >= at->size()) return nullptr;
        at = &(*at)[*index];
      }
      continue;
    }
    if (path.front() == '.') path.remove_prefix(1);
    std::string name;
    while (!path.empty() && path.front() != '.' && path.front() != '[') {
      if (path.front() == '\\' && path.size() > 1) path.remove_prefix(1);
      name += path.front();
      path.remove_prefix(1);
    }
    if (name.empty()) continue;
    if (!at->is_object()) return nullptr;
    auto it = at->find(name);
    if (it == at->end()) return nullptr;
    at = &*it;
  }
  return at;
}

std::string humanDuration(std::chrono::seconds age) {
  long long s = age.count();
  if (s < 0) return "0s";
  long long minutes = s / 60;
  long long hours = minutes / 60;
  long long days = hours / 24;
  auto two = [](long long a, const char* au, long long b, const char* bu) {
    std::string text = std::to_string(a) + au;
    return b == 0 ? text : text + std::to_string(b) + bu;
  };
  if (s < 120) return std::to_string(s) + "s";
  if (minutes < 10) return two(minutes, "m", s % 60, "s");
  if (hours < 3) return std::to_string(minutes) + "m";
  if (hours < 8) return two(hours, "h", minutes % 60, "m");
  if (hours < 48) return std::to_string(hours) + "h";
  if (days < 8) return two(days, "d", hours % 24, "h");
  if (days < 365 * 2) return std::to_string(days) + "d";
  if (days < 365 * 8) return two(days / 365, "y", days % 365, "d");
  return std::to_string(days / 365) + "y";
}

std::string formatTime(WallTime time) {
  std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

bool parseTime(std::string_view text, WallTime& out) {
  std::tm parts{};
  std::string copy(text);
  const char* rest = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return false;
  if (*rest == '.') {
    ++rest;
    while (*rest >= '0' && *rest <= '9') ++rest;
  }
  long offset = 0;
  if (*rest == '+' || *rest == '-') {
    int hours = 0;
    int minutes = 0;
    if (std::sscanf(rest + 1, "%2d:%2d", &hours, &minutes) != 2) return false;
    offset = (hours * 60L + minutes) * 60L * (*rest == '-' ? -1 : 1);
  } else if (*rest != 'Z') {
    return false;
  }
  out = std::chrono::system_clock::from_time_t(timegm(&parts) - offset);
  return true;
}

std::string ageOf(const std::string& timestamp, WallTime now) {
  WallTime at;
  if (!parseTime(timestamp, at)) return "<unknown>";
  return humanDuration(std::chrono::duration_cast<std::chrono::seconds>(now - at));
}

Json columnDefinitions(const schema::Kind& kind, const TableOptions& options) {
  Json columns = Json::array();
  columns.push_back(column("Name", "string", "name", "Name must be unique within a namespace.", 0));
  if (!kind.custom) {
    for (const PrinterColumn& c : printerOf(kind).columns) {
      columns.push_back(column(c.name, c.type, "", c.name, c.priority));
    }
    return columns;
  }
  if (!declared(options)) {
    columns.push_back(column("Age", "date", "", "Age of the object.", 0));
    return columns;
  }
  for (const Json& c : *options.printer_columns) {
    columns.push_back(column(json::stringAt(c, "name"), json::stringAt(c, "type"),
                             json::stringAt(c, "format"), json::stringAt(c, "description"),
                             static_cast<int>(json::integerAt(c, "priority"))));
  }
  return columns;
}

Json cellsOf(const schema::Kind& kind, const Json& object, const TableOptions& options) {
  Json cells = Json::array();
  cells.push_back(json::stringAt(object, "metadata.name"));
  std::string age = ageOf(json::stringAt(object, "metadata.creationTimestamp"), options.now);
  if (!kind.custom) {
    for (Json& cell : printerOf(kind).cells(object, age, options.now)) {
      cells.push_back(std::move(cell));
    }
    return cells;
  }
  if (!declared(options)) {
    cells.push_back(age);
    return cells;
  }
  for (const Json& c : *options.printer_columns) cells.push_back(customCell(object, c, options));
  return cells;
}

}  // namespace postern::apiserver
