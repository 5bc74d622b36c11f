#include "json/json.h"

#include <nlohmann/json.hpp>

namespace postern::json {
namespace {

int depthOf(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

base::ConfigResult<Json> parse(std::string_view text) {
  if (depthOf(text) > kDepthMax) return base::failConfig("", "exceeded max depth");
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::exception& e) {
    std::string message = e.what();
    std::size_t at = message.find("] ");
    return base::failConfig("", at == std::string::npos ? message : message.substr(at + 2));
  }
}

std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dumpPretty(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

const Json* find(const Json& value, std::string_view path) {
  const Json* at = &value;
  while (!path.empty()) {
    std::size_t dot = path.find('.');
    std::string_view step = path.substr(0, dot);
    path.remove_prefix(dot == std::string_view::npos ? path.size() : dot + 1);
    if (!at->is_object()) return nullptr;
    auto it = at->find(std::string(step));
    if (it == at->end()) return nullptr;
    at = &*it;
  }
  return at;
}

std::string stringAt(const Json& value, std::string_view path, std::string_view fallback) {
  const Json* at = find(value, path);
  return at != nullptr && at->is_string() ? at->get<std::string>() : std::string(fallback);
}

std::vector<std::string> stringsAt(const Json& value, std::string_view path) {
  std::vector<std::string> out;
  const Json* list = find(value, path);
  if (list == nullptr || !list->is_array()) return out;
  for (const Json& item : *list) {
    if (item.is_string()) out.push_back(item.get<std::string>());
  }
  return out;
}

long long integerAt(const Json& value, std::string_view path, long long fallback) {
  const Json* at = find(value, path);
  return at != nullptr && at->is_number() ? at->get<long long>() : fallback;
}

bool boolAt(const Json& value, std::string_view path, bool fallback) {
  const Json* at = find(value, path);
  return at != nullptr && at->is_boolean() ? at->get<bool>() : fallback;
}

}  // namespace postern::json
