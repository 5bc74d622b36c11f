#include "api/message.h"
#include "api/registry.h"
#include "base/strings.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/arena.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <cmath>
#include <limits>

namespace postern::api {
namespace {

using base::ConfigResult;
using base::failConfig;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using json::Json;
using Field = const FieldDescriptor*;

/// How deep a value is nested, and what holds at any depth.
struct Depth {
  int value = 0;
  std::vector<std::string>* unknown = nullptr;  // null: refused
  Depth operator+(int more) const { return {value + more, unknown}; }
  bool operator>(int limit) const { return value > limit; }
};

ConfigResult<void> readMessage(const Json& value, Message& out, const std::string& path,
                               Depth depth);

std::string join(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : path + "." + std::string(name);
}

std::unexpected<base::ConfigError> wrongType(const std::string& path, std::string_view expected,
                                             const Json& got) {
  return failConfig(path, "must be " + std::string(expected) + ", is " + got.type_name());
}

template <class T>
ConfigResult<T> readInteger(const Json& value, const std::string& path) {
  T out{};
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
      return failConfig(path, "must be an integer in range, is \"" + text + "\"");
    }
    return out;
  }
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (std::in_range<T>(number)) return static_cast<T>(number);
  } else if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (std::in_range<T>(number)) return static_cast<T>(number);
  } else if (value.is_number_float()) {
    const double number = value.get<double>();
    if (number == std::trunc(number) && std::abs(number) < 9.0e15 &&
        std::in_range<T>(static_cast<std::int64_t>(number))) {
      return static_cast<T>(static_cast<std::int64_t>(number));
    }
  } else {
    return wrongType(path, "an integer", value);
  }
  return failConfig(path, "is out of range: " + json::dump(value));
}

ConfigResult<double> readDouble(const Json& value, const std::string& path) {
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (text == "Infinity") return std::numeric_limits<double>::infinity();
    if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
    double out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error == std::errc() && end == text.data() + text.size()) return out;
  }
  return wrongType(path, "a number", value);
}

ConfigResult<std::string> readBytes(const Json& value, const std::string& path) {
  if (!value.is_string()) return wrongType(path, "base64 text", value);
  std::string text = value.get<std::string>();
  for (char& c : text) {
    if (c == '-') c = '+';
    if (c == '_') c = '/';
  }
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  while (!text.empty() && text.back() == '=') text.pop_back();
  for (const char c : text) {
    static constexpr std::string_view kAlphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto digit = kAlphabet.find(c);
    if (digit == std::string_view::npos) return failConfig(path, "is not base64");
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>((bits >> count) & 0xff);
    }
  }
  return out;
}

ConfigResult<int> readEnum(const Json& value, Field field, const std::string& path) {
  const auto* type = field->enum_type();
  if (value.is_number_integer()) return readInteger<int>(value, path);
  if (!value.is_string()) return wrongType(path, "the name of a " + type->name(), value);
  const auto& name = value.get_ref<const std::string&>();
  const auto* found = type->FindValueByName(name);
  if (found == nullptr) return failConfig(path, "\"" + name + "\" is not a " + type->name());
  return found->number();
}

/// Sets a singular field, or appends to a repeated one.
ConfigResult<void> readScalar(const Json& value, Message& out, Field field, const std::string& path,
                              Depth depth) {
  const auto* r = out.GetReflection();
  const bool list = field->is_repeated();
#define POSTERN_STORE(Kind, v) (list ? r->Add##Kind(&out, field, v) : r->Set##Kind(&out, field, v))
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      POSTERN_TRY(const auto v, readInteger<std::int32_t>(value, path));
      POSTERN_STORE(Int32, v);
      return {};
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      POSTERN_TRY(const auto v, readInteger<std::int64_t>(value, path));
      POSTERN_STORE(Int64, v);
      return {};
    }
    case FieldDescriptor::CPPTYPE_UINT32: {
      POSTERN_TRY(const auto v, readInteger<std::uint32_t>(value, path));
      POSTERN_STORE(UInt32, v);
      return {};
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      POSTERN_TRY(const auto v, readInteger<std::uint64_t>(value, path));
      POSTERN_STORE(UInt64, v);
      return {};
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      POSTERN_TRY(const auto v, readDouble(value, path));
      POSTERN_STORE(Double, v);
      return {};
    }
    case FieldDescriptor::CPPTYPE_FLOAT: {
      POSTERN_TRY(const auto v, readDouble(value, path));
      POSTERN_STORE(Float, static_cast<float>(v));
      return {};
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      if (!value.is_boolean()) return wrongType(path, "true or false", value);
      POSTERN_STORE(Bool, value.get<bool>());
      return {};
    case FieldDescriptor::CPPTYPE_ENUM: {
      POSTERN_TRY(const auto v, readEnum(value, field, path));
      POSTERN_STORE(EnumValue, v);
      return {};
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      if (field->type() == FieldDescriptor::TYPE_BYTES) {
        POSTERN_TRY(auto v, readBytes(value, path));
        POSTERN_STORE(String, v);
        return {};
      }
      if (!value.is_string()) return wrongType(path, "text", value);
      POSTERN_STORE(String, value.get<std::string>());
      return {};
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return readMessage(value,
                         list ? *r->AddMessage(&out, field) : *r->MutableMessage(&out, field), path,
                         depth + 1);
  }
#undef POSTERN_STORE
  return failConfig(path, "has an unknown type");
}

ConfigResult<void> readMap(const Json& value, Message& out, Field field, const std::string& path,
                           Depth depth) {
  if (!value.is_object()) return wrongType(path, "an object", value);
  const auto* key = field->message_type()->map_key();
  const auto* mapped = field->message_type()->map_value();
  for (const auto& [name, item] : value.items()) {
    Message& entry = *out.GetReflection()->AddMessage(&out, field);
    const std::string at = path + "[" + name + "]";
    POSTERN_TRY_VOID(readScalar(Json(name), entry, key, at, depth));
    POSTERN_TRY_VOID(readScalar(item, entry, mapped, at, depth));
  }
  return {};
}

ConfigResult<void> readField(const Json& value, Message& out, Field field, const std::string& path,
                             Depth depth) {
  const bool is_value = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                        field->message_type()->full_name() == "google.protobuf.Value";
  if (value.is_null() && !is_value) return {};
  if (const auto* group = field->real_containing_oneof()) {
    if (const auto* other = out.GetReflection()->GetOneofFieldDescriptor(out, group)) {
      return failConfig(path, "is set together with " + other->name() + "; only one may be");
    }
  }
  if (field->is_map()) return readMap(value, out, field, path, depth);
  if (!field->is_repeated()) return readScalar(value, out, field, path, depth);
  if (!value.is_array()) return wrongType(path, "a list", value);
  for (std::size_t i = 0; i < value.size(); ++i) {
    POSTERN_TRY_VOID(readScalar(value[i], out, field, path + "[" + std::to_string(i) + "]", depth));
  }
  return {};
}

Field fieldOf(const Descriptor* type, const std::string& name) {
  if (const auto* field = type->FindFieldByName(name)) return field;
  for (int i = 0; i < type->field_count(); ++i) {
    if (type->field(i)->json_name() == name) return type->field(i);
  }
  return nullptr;
}

ConfigResult<void> readFields(const Json& value, Message& out, const std::string& path, Depth depth,
                              bool skip_type) {
  if (!value.is_object()) return wrongType(path, "an object", value);
  for (const auto& [name, item] : value.items()) {
    if (skip_type && name == "@type") continue;
    const Field field = fieldOf(out.GetDescriptor(), name);
    if (field == nullptr) {
      if (depth.unknown == nullptr)
        return failConfig(join(path, name), "unknown field of " + out.GetDescriptor()->full_name());
      depth.unknown->push_back(join(path, name));
      continue;
    }
    POSTERN_TRY_VOID(readField(item, out, field, join(path, name), depth));
  }
  return {};
}

ConfigResult<void> readAny(const Json& value, Message& out, const std::string& path, Depth depth) {
  if (!value.is_object()) return wrongType(path, "an object with @type", value);
  const std::string url = json::stringAt(value, "@type");
  auto* any = google::protobuf::DynamicCastToGenerated<google::protobuf::Any>(&out);
  if (url.empty() || any == nullptr) return failConfig(join(path, "@type"), "is required");
  google::protobuf::Arena arena;  // until it is packed
  Message* inner = makeMessage(url, arena);
  if (inner == nullptr) return failConfig(join(path, "@type"), "unknown type " + url);
  const bool wrapped = inner->GetDescriptor()->file()->package() == "google.protobuf";
  if (wrapped) {
    const auto found = value.find("value");
    if (found == value.end()) return failConfig(join(path, "value"), "is required");
    POSTERN_TRY_VOID(readMessage(*found, *inner, join(path, "value"), depth + 1));
  } else {
    POSTERN_TRY_VOID(readFields(value, *inner, path, depth + 1, true));
  }
  pack(*inner, *any);
  return {};
}

ConfigResult<void> readValue(const Json& value, google::protobuf::Value& out, Depth depth) {
  if (depth > json::kDepthMax) return failConfig("", "is nested too deep");
  if (value.is_null()) {
    out.set_null_value(google::protobuf::NULL_VALUE);
  } else if (value.is_boolean()) {
    out.set_bool_value(value.get<bool>());
  } else if (value.is_number()) {
    out.set_number_value(value.get<double>());
  } else if (value.is_string()) {
    out.set_string_value(value.get<std::string>());
  } else if (value.is_array()) {
    auto& list = *out.mutable_list_value();
    for (const Json& item : value) POSTERN_TRY_VOID(readValue(item, *list.add_values(), depth + 1));
  } else {
    auto& fields = *out.mutable_struct_value()->mutable_fields();
    for (const auto& [name, item] : value.items()) {
      POSTERN_TRY_VOID(readValue(item, fields[name], depth + 1));
    }
  }
  return {};
}

/// Messages of package google.protobuf, which have their own JSON forms.
ConfigResult<void> readWellKnown(const Json& value, Message& out, const std::string& path,
                                 Depth depth) {
  namespace pb = google::protobuf;
  const std::string& name = out.GetDescriptor()->name();
  if (name == "Any") return readAny(value, out, path, depth);
  if (auto* duration = pb::DynamicCastToGenerated<pb::Duration>(&out)) {
    if (!value.is_string()) return wrongType(path, "a duration such as \"10s\"", value);
    auto nanos = parseDuration(value.get_ref<const std::string&>());
    if (!nanos) return failConfig(path, std::move(nanos).error().text);
    duration->set_seconds(*nanos / 1'000'000'000);
    duration->set_nanos(static_cast<std::int32_t>(*nanos % 1'000'000'000));
    return {};
  }
  if (auto* time = pb::DynamicCastToGenerated<pb::Timestamp>(&out)) {
    if (value.is_string() && pb::util::TimeUtil::FromString(value.get<std::string>(), time))
      return {};
    return failConfig(path, "must be a time as in RFC 3339");
  }
  if (auto* object = pb::DynamicCastToGenerated<pb::Struct>(&out)) {
    if (!value.is_object()) return wrongType(path, "an object", value);
    pb::Value holder;
    POSTERN_TRY_VOID(readValue(value, holder, depth));
    *object = std::move(*holder.mutable_struct_value());
    return {};
  }
  if (auto* any_value = pb::DynamicCastToGenerated<pb::Value>(&out)) {
    return readValue(value, *any_value, depth);
  }
  if (name == "Empty") return readFields(value, out, path, depth, false);
  if (const auto* field = out.GetDescriptor()->FindFieldByName("value")) {  // a wrapper
    return readScalar(value, out, field, path, depth);
  }
  return failConfig(path, "cannot be given as JSON: " + name);
}

ConfigResult<void> readMessage(const Json& value, Message& out, const std::string& path,
                               Depth depth) {
  if (depth > json::kDepthMax) return failConfig(path, "is nested too deep");
  if (out.GetDescriptor()->file()->package() == "google.protobuf") {
    return readWellKnown(value, out, path, depth);
  }
  return readFields(value, out, path, depth, false);
}

}  // namespace

ConfigResult<void> fromJson(const Json& value, Message& out, std::vector<std::string>* unknown) {
  out.Clear();
  const bool typed = value.is_object() && value.contains("@type");
  if (typed && makeMessage(json::stringAt(value, "@type")) != nullptr &&
      makeMessage(json::stringAt(value, "@type"))->GetDescriptor() == out.GetDescriptor()) {
    return readFields(value, out, "", {0, unknown}, true);
  }
  return readMessage(value, out, "", {0, unknown});
}

ConfigResult<std::int64_t> parseDuration(std::string_view text) {
  const std::string whole(text);
  const auto bad = [&] { return failConfig("", "not a duration: \"" + whole + "\""); };
  double total = 0;
  if (text == "0") return 0;
  if (text.empty()) return bad();
  while (!text.empty()) {
    double number = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc() || number < 0) return bad();
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    double unit = 0;
    std::size_t length = 1;
    if (text.starts_with("ms")) {
      unit = 1e6;
      length = 2;
    } else if (text.starts_with("us")) {
      unit = 1e3;
      length = 2;
    } else if (text.starts_with("ns")) {
      unit = 1;
      length = 2;
    } else if (text.starts_with("s")) {
      unit = 1e9;
    } else if (text.starts_with("m")) {
      unit = 60e9;
    } else if (text.starts_with("h")) {
      unit = 3600e9;
    } else {
      return bad();
    }
    text.remove_prefix(length);
    total += number * unit;
    if (total > 9.0e18) return bad();
  }
  return static_cast<std::int64_t>(std::llround(total));
}

}  // namespace postern::api
