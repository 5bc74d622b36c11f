// From descriptors to structural schemas.
#include "crds/crds.h"
#include "postern/schema.pb.h"

#include <google/protobuf/descriptor.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <limits>
#include <map>

namespace postern::crds {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using json::Json;

constexpr int kNestingMax = 30;

Json schemaOf(const Descriptor& message, int depth);

Json intOrString() {
  return {{"x-kubernetes-int-or-string", true},
          {"anyOf", Json::array({{{"type", "integer"}}, {{"type", "string"}}})}};
}

/// Values of "A,B,": the last, empty one allows "".
Json valueList(const std::string& text) {
  Json out = Json::array();
  std::size_t start = 0;
  for (std::size_t comma = text.find(','); comma != std::string::npos;
       comma = text.find(',', start)) {
    out.push_back(text.substr(start, comma - start));
    start = comma + 1;
  }
  out.push_back(text.substr(start));
  return out;
}

Json wellKnown(const Descriptor& message) {
  static const std::map<std::string, Json> kinds = {
      {"Duration", {{"type", "string"}}},
      {"Timestamp", {{"type", "string"}, {"format", "date-time"}}},
      {"Struct", {{"type", "object"}, {"x-kubernetes-preserve-unknown-fields", true}}},
  };
  if (auto found = kinds.find(message.name()); found != kinds.end()) return found->second;
  const FieldDescriptor* value = message.FindFieldByName("value");  // the wrappers
  if (value == nullptr) return {{"type", "object"}};
  Json out;
  switch (value->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      out = {{"type", "boolean"}};
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      out = {{"type", "number"}};
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      out = {{"type", "string"}};
      break;
    default:
      out = {{"type", "integer"}};
  }
  if (value->cpp_type() == FieldDescriptor::CPPTYPE_UINT64) out["minimum"] = 0;
  if (value->cpp_type() == FieldDescriptor::CPPTYPE_UINT32) {
    out["minimum"] = 0;
    out["maximum"] = std::numeric_limits<std::uint32_t>::max();
  }
  out["nullable"] = true;
  return out;
}

Json scalar(const FieldDescriptor& field, int depth) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return {{"type", "boolean"}};
    case FieldDescriptor::CPPTYPE_INT32:
      return {{"type", "integer"}, {"format", "int32"}};
    case FieldDescriptor::CPPTYPE_UINT32:
      return {{"type", "integer"},
              {"minimum", 0},
              {"maximum", std::numeric_limits<std::uint32_t>::max()}};
    case FieldDescriptor::CPPTYPE_UINT64:
      return {{"type", "integer"}, {"minimum", 0}};
    case FieldDescriptor::CPPTYPE_INT64:
      return intOrString();
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return {{"type", "number"}, {"format", "double"}};
    case FieldDescriptor::CPPTYPE_ENUM: {
      Json values = Json::array();
      for (int i = 0; i < field.enum_type()->value_count(); ++i) {
        values.push_back(field.enum_type()->value(i)->name());
      }
      return {{"type", "string"}, {"enum", std::move(values)}};
    }
    case FieldDescriptor::CPPTYPE_STRING:
      if (field.type() == FieldDescriptor::TYPE_BYTES)
        return {{"type", "string"}, {"format", "byte"}};
      return {{"type", "string"}};
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return schemaOf(*field.message_type(), depth + 1);
  }
  return {};
}

void number(Json& schema, const char* key, const std::string& text) {
  if (!text.empty()) schema[key] = std::stoll(text);  // written by us in a .proto, and tested
}

/// What the options say about one value of the field.
void refine(Json& schema, const google::protobuf::FieldOptions& options) {
  if (options.GetExtension(int_or_string)) schema = intOrString();
  if (options.HasExtension(pattern)) schema["pattern"] = options.GetExtension(pattern);
  if (options.HasExtension(values)) schema["enum"] = valueList(options.GetExtension(values));
  number(schema, "minimum", options.GetExtension(minimum));
  number(schema, "maximum", options.GetExtension(maximum));
}

Json fieldSchema(const FieldDescriptor& field, int depth) {
  const auto& options = field.options();
  if (field.is_map()) {
    Json value = scalar(*field.message_type()->map_value(), depth);
    refine(value, options);
    return {{"type", "object"}, {"additionalProperties", std::move(value)}};
  }
  Json value = scalar(field, depth);
  refine(value, options);
  if (!field.is_repeated()) return value;
  Json list = {{"type", "array"}, {"items", std::move(value)}};
  if (options.HasExtension(items_min)) list["minItems"] = options.GetExtension(items_min);
  if (options.HasExtension(items_max)) list["maxItems"] = options.GetExtension(items_max);
  return list;
}

/// At most one member of each oneof: none of them, or exactly one.
Json alternatives(const Descriptor& message) {
  Json all = Json::array();
  for (int i = 0; i < message.real_oneof_decl_count(); ++i) {
    const auto& group = *message.oneof_decl(i);
    Json members = Json::array();
    for (int j = 0; j < group.field_count(); ++j) {
      members.push_back({{"required", {group.field(j)->json_name()}}});
    }
    Json choice = Json::array({{{"not", {{"anyOf", members}}}}});
    for (Json& member : members) choice.push_back(std::move(member));
    all.push_back({{"oneOf", std::move(choice)}});
  }
  return all;
}

Json schemaOf(const Descriptor& message, int depth) {
  if (message.file()->package() == "google.protobuf") return wellKnown(message);
  Json out = {{"type", "object"}};
  if (depth > kNestingMax) return out;
  Json properties = Json::object();
  Json wanted = Json::array();
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    properties[field.json_name()] = fieldSchema(field, depth);
    if (field.options().GetExtension(required)) wanted.push_back(field.json_name());
  }
  out["properties"] = std::move(properties);
  if (!wanted.empty()) out["required"] = std::move(wanted);
  Json groups = alternatives(message);
  if (groups.size() == 1) {
    out["oneOf"] = groups[0]["oneOf"];
  } else if (!groups.empty()) {
    out["allOf"] = std::move(groups);
  }
  return out;
}

}  // namespace

Json schemaOf(const std::string& message) {
  const Descriptor* found =
      google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(message);
  return found == nullptr ? Json() : schemaOf(*found, 0);
}

}  // namespace postern::crds
