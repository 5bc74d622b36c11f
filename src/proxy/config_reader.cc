#include "proxy/config_reader.h"

#include "base/strings.h"

#include <cmath>

namespace postern::proxy {

namespace {
const json& emptyObject() {
  static const json kEmpty = json::object();
  return kEmpty;
}
}  // namespace

Fields::Fields(const json& value, std::string path, ConfigErrors& errors)
    : value_(value.is_object() ? value : emptyObject()), path_(std::move(path)), errors_(errors) {
  if (!value.is_object() && !value.is_null()) errors_.add(path_, "must be a message");
}

const json* Fields::get(const char* name) {
  seen_.insert(name);
  auto it = value_.find(name);
  return it == value_.end() || it->is_null() ? nullptr : &*it;
}

std::string Fields::text(const char* name, std::string_view fallback) {
  const json* value = get(name);
  if (value == nullptr) return std::string(fallback);
  if (value->is_string()) return *value->get_ptr<const std::string*>();
  fail(name, "must be a string");
  return {};
}

std::uint64_t Fields::number(const char* name, std::uint64_t fallback, std::uint64_t max) {
  const json* value = get(name);
  if (value == nullptr) return fallback;
  std::uint64_t number = 0;
  if (value->is_number_unsigned()) {
    number = *value->get_ptr<const std::uint64_t*>();
  } else if (value->is_number_integer() && *value->get_ptr<const std::int64_t*>() >= 0) {
    number = static_cast<std::uint64_t>(*value->get_ptr<const std::int64_t*>());
  } else {
    fail(name, "must be a whole number");
    return fallback;
  }
  if (number > max) fail(name, "must be at most " + std::to_string(max));
  return number;
}

bool Fields::flag(const char* name, bool fallback) {
  const json* value = get(name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return *value->get_ptr<const bool*>();
  fail(name, "must be true or false");
  return fallback;
}

std::chrono::milliseconds Fields::duration(const char* name, std::chrono::milliseconds fallback) {
  if (get(name) == nullptr) return fallback;
  const std::string written = text(name);
  double seconds = -1;
  if (written.ends_with('s')) {
    const char* end = written.data() + written.size() - 1;
    auto [stop, error] = std::from_chars(written.data(), end, seconds);
    if (error != std::errc{} || stop != end) seconds = -1;
  }
  if (!(seconds >= 0 && seconds < 1e9)) {
    fail(name, "must be a duration such as \"1.5s\"");
    return fallback;
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::llround(seconds * 1000)));
}

Fields Fields::message(const char* name) {
  const json* value = get(name);
  return Fields(value == nullptr ? emptyObject() : *value, at(name), errors_);
}

const json* Fields::array(const char* name) {
  const json* value = get(name);
  if (value == nullptr || value->is_array()) return value;
  fail(name, "must be a list");
  return nullptr;
}

std::vector<std::string> Fields::texts(const char* name) {
  std::vector<std::string> out;
  const json* value = array(name);
  if (value == nullptr) return out;
  for (const json& each : *value) {
    if (each.is_string()) {
      out.push_back(*each.get_ptr<const std::string*>());
    } else {
      fail(name, "must be a list of strings");
    }
  }
  return out;
}

void Fields::accept(std::initializer_list<const char*> names) {
  for (const char* name : names) seen_.insert(name);
}

void Fields::finish() {
  for (auto it = value_.begin(); it != value_.end(); ++it) {
    if (!seen_.contains(it.key())) fail(it.key().c_str(), "is not supported");
  }
}

}  // namespace postern::proxy
