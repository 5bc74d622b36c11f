// Reading fields of JSON objects without exceptions: a wrong type reads as absent. Internal to this
// folder; includes nlohmann.
#pragma once

#include "model/types.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postern::model::fields {

using Json = nlohmann::json;

inline const Json& null() {
  static const Json value;
  return value;
}
inline const Json& at(const Json& object, const char* key) {
  if (!object.is_object()) return null();
  auto found = object.find(key);
  return found == object.end() ? null() : *found;
}
inline std::string text(const Json& value) {
  return value.is_string() ? value.get_ref<const std::string&>() : std::string();
}
inline std::string text(const Json& object, const char* key) { return text(at(object, key)); }
/// A number, also written as a string (proto JSON), or `fallback`.
inline double number(const Json& value, double fallback = 0) {
  if (value.is_number()) return value.get<double>();
  return fallback;
}
inline std::uint32_t unsignedOf(const Json& value, std::uint32_t fallback = 0) {
  const double n = number(value, -1);
  return n >= 0 && n <= 4294967295.0 ? static_cast<std::uint32_t>(n) : fallback;
}
inline bool truth(const Json& value) { return value.is_boolean() && value.get<bool>(); }
inline std::vector<std::string> texts(const Json& value) {
  std::vector<std::string> out;
  if (!value.is_array()) return out;
  for (const Json& item : value) {
    if (item.is_string()) out.push_back(text(item));
  }
  return out;
}
inline Labels labels(const Json& value) {
  Labels out;
  if (!value.is_object()) return out;
  for (const auto& [key, item] : value.items()) {
    if (item.is_string()) out.emplace(key, text(item));
  }
  return out;
}
/// The elements of an array; empty for anything else.
inline const Json::array_t& items(const Json& value) {
  static const Json::array_t empty;
  return value.is_array() ? value.get_ref<const Json::array_t&>() : empty;
}
inline std::string indexed(std::string_view path, std::size_t i) {
  return std::string(path) + "[" + std::to_string(i) + "]";
}

}  // namespace postern::model::fields
