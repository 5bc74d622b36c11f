#include "api/message.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>
#include <nlohmann/json.hpp>

namespace postern::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using json::Json;

std::string base64(std::string_view in) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < in.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      bits = (bits << 8) | (i + k < in.size() ? static_cast<unsigned char>(in[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k <= in.size() ? kAlphabet[(bits >> (18 - 6 * k)) & 63] : '=';
    }
  }
  return out;
}

/// One value: of a singular field (index -1) or an element.
Json scalar(const Message& m, const FieldDescriptor* f, int i) {
  const auto* r = m.GetReflection();
#define POSTERN_LOAD(Kind) (i < 0 ? r->Get##Kind(m, f) : r->GetRepeated##Kind(m, f, i))
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return POSTERN_LOAD(Int32);
    case FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(POSTERN_LOAD(Int64));
    case FieldDescriptor::CPPTYPE_UINT32:
      return POSTERN_LOAD(UInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return std::to_string(POSTERN_LOAD(UInt64));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return POSTERN_LOAD(Double);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return POSTERN_LOAD(Float);
    case FieldDescriptor::CPPTYPE_BOOL:
      return POSTERN_LOAD(Bool);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = POSTERN_LOAD(EnumValue);
      const auto* known = f->enum_type()->FindValueByNumber(number);
      return known != nullptr ? Json(known->name()) : Json(number);
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = POSTERN_LOAD(String);
      return f->type() == FieldDescriptor::TYPE_BYTES ? base64(text) : text;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return toJson(POSTERN_LOAD(Message));
  }
#undef POSTERN_LOAD
  return nullptr;
}

Json fieldJson(const Message& m, const FieldDescriptor* f) {
  if (!f->is_repeated()) return scalar(m, f, -1);
  const auto* r = m.GetReflection();
  const int size = r->FieldSize(m, f);
  if (f->is_map()) {
    Json out = Json::object();
    for (int i = 0; i < size; ++i) {
      const Message& entry = r->GetRepeatedMessage(m, f, i);
      const Json key = scalar(entry, f->message_type()->map_key(), -1);
      out[key.is_string() ? key.get<std::string>() : json::dump(key)] =
          scalar(entry, f->message_type()->map_value(), -1);
    }
    return out;
  }
  Json out = Json::array();
  for (int i = 0; i < size; ++i) out.push_back(scalar(m, f, i));
  return out;
}

Json valueJson(const google::protobuf::Value& value) {
  using google::protobuf::Value;
  switch (value.kind_case()) {
    case Value::kBoolValue:
      return value.bool_value();
    case Value::kNumberValue: {
      const double number = value.number_value();
      const auto whole =
          static_cast<std::int64_t>(number > -9.0e15 && number < 9.0e15 ? number : 0);
      return static_cast<double>(whole) == number ? Json(whole) : Json(number);
    }
    case Value::kStringValue:
      return value.string_value();
    case Value::kStructValue:
      return toJson(value.struct_value());
    case Value::kListValue: {
      Json out = Json::array();
      for (const auto& item : value.list_value().values()) out.push_back(valueJson(item));
      return out;
    }
    default:
      return nullptr;
  }
}

Json anyJson(const google::protobuf::Any& any) {
  Json out = Json::object();
  const auto inner = makeMessage(any.type_url());
  if (inner == nullptr || !parseBytes(any.value(), *inner)) {
    out["value"] = base64(any.value());
  } else if (inner->GetDescriptor()->file()->package() == "google.protobuf") {
    out["value"] = toJson(*inner);
  } else {
    out = toJson(*inner);
  }
  out["@type"] = any.type_url();
  return out;
}

}  // namespace

Json toJson(const Message& message) {
  namespace pb = google::protobuf;
  if (const auto* any = pb::DynamicCastToGenerated<pb::Any>(&message)) return anyJson(*any);
  if (const auto* d = pb::DynamicCastToGenerated<pb::Duration>(&message)) {
    return pb::util::TimeUtil::ToString(*d);
  }
  if (const auto* t = pb::DynamicCastToGenerated<pb::Timestamp>(&message)) {
    return pb::util::TimeUtil::ToString(*t);
  }
  if (const auto* v = pb::DynamicCastToGenerated<pb::Value>(&message)) return valueJson(*v);
  if (const auto* object = pb::DynamicCastToGenerated<pb::Struct>(&message)) {
    Json out = Json::object();
    for (const auto& [name, value] : object->fields()) out[name] = valueJson(value);
    return out;
  }
  const auto* type = message.GetDescriptor();
  if (type->file()->package() == "google.protobuf" && type->name().ends_with("Value")) {
    return scalar(message, type->FindFieldByName("value"), -1);
  }
  Json out = Json::object();
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const auto* field : fields) out[field->name()] = fieldJson(message, field);
  return out;
}

std::string serialize(const Message& message) {
  std::string out;
  {
    google::protobuf::io::StringOutputStream stream(&out);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializePartialToCodedStream(&coded);
  }
  return out;
}

bool parseBytes(std::string_view bytes, Message& out) {
  // Partial: our messages require no field, and looking for one walks all of them by reflection.
  return bytes.size() < (1U << 30) &&
         out.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

void pack(const Message& message, google::protobuf::Any& out) {
  out.set_type_url(std::string(kTypeUrlPrefix) + message.GetDescriptor()->full_name());
  out.set_value(serialize(message));
}

base::ConfigResult<void> unpack(const google::protobuf::Any& any, Message& out) {
  const std::string& url = any.type_url();
  const auto slash = url.rfind('/');
  if (url.substr(slash == std::string::npos ? 0 : slash + 1) != out.GetDescriptor()->full_name()) {
    return base::failConfig("", "is a " + url + ", expected " + out.GetDescriptor()->full_name());
  }
  if (!parseBytes(any.value(), out)) return base::failConfig("", "malformed bytes of " + url);
  return {};
}

base::ConfigResult<std::unique_ptr<Message>> unpack(const google::protobuf::Any& any) {
  auto out = makeMessage(any.type_url());
  if (out == nullptr) return base::failConfig("", "unknown type " + any.type_url());
  if (!parseBytes(any.value(), *out))
    return base::failConfig("", "malformed bytes of " + any.type_url());
  return out;
}

}  // namespace postern::api
