// Reads one JSON message field by field: records what was asked for, so that what was not can be
// refused. Internal to the configuration builder; one thread, short-lived.
#pragma once

#include "base/error.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>

namespace postern::proxy {

using nlohmann::json;

/// The first error of a whole build; later ones are dropped.
class ConfigErrors {
 public:
  void add(std::string path, std::string text) {
    if (failed_) return;
    failed_ = true;
    error_ = {std::move(path), std::move(text)};
  }
  bool failed() const { return failed_; }
  const base::ConfigError& error() const { return error_; }

 private:
  bool failed_ = false;
  base::ConfigError error_;
};

class Fields {
 public:
  Fields(const json& value, std::string path, ConfigErrors& errors);

  const json* get(const char* name);
  std::string text(const char* name, std::string_view fallback = "");
  std::uint64_t number(const char* name, std::uint64_t fallback, std::uint64_t max);
  bool flag(const char* name, bool fallback);
  std::chrono::milliseconds duration(const char* name, std::chrono::milliseconds fallback);
  Fields message(const char* name);
  /// Calls `each(Fields)` for the messages of a list.
  template <class F>
  void list(const char* name, F&& each) {
    const json* value = array(name);
    if (value == nullptr) return;
    for (std::size_t i = 0; i < value->size(); ++i)
      each(Fields((*value)[i], at(name) + "[" + std::to_string(i) + "]", errors_));
  }
  std::vector<std::string> texts(const char* name);
  /// Fields that have no effect on what this proxy does (names for humans, statistics).
  void accept(std::initializer_list<const char*> names);
  /// Refuses every field nobody asked for.
  void finish();
  bool present() const { return value_.is_object() && !value_.empty(); }
  void fail(const char* name, std::string text) { errors_.add(at(name), std::move(text)); }
  const json& value() const { return value_; }
  const std::string& path() const { return path_; }
  ConfigErrors& errors() { return errors_; }

 private:
  const json* array(const char* name);
  std::string at(const char* name) const { return path_.empty() ? name : path_ + "." + name; }
  const json& value_;
  std::string path_;
  ConfigErrors& errors_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace postern::proxy
