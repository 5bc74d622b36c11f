#include "config/supported.h"

#include "json/json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>

#include <vector>

namespace postern::config {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

bool isWellKnown(const Message& message) {
  return message.GetDescriptor()->file()->package() == "google.protobuf";
}

/// Calls `visit(inner, suffix)` for each message in a field; stops at the first error.
template <class F>
base::ConfigResult<void> eachMessage(const Message& message, const FieldDescriptor* field,
                                     F&& visit) {
  const auto* reflection = message.GetReflection();
  if (!field->is_repeated()) return visit(reflection->GetMessage(message, field), std::string());
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& each = reflection->GetRepeatedMessage(message, field, i);
    if (!field->is_map()) {
      POSTERN_TRY_VOID(visit(each, "[" + std::to_string(i) + "]"));
      continue;
    }
    const auto* value = field->message_type()->map_value();
    if (value->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const auto* key = field->message_type()->map_key();
    const std::string name = key->cpp_type() == FieldDescriptor::CPPTYPE_STRING
                                 ? each.GetReflection()->GetString(each, key)
                                 : std::to_string(i);
    POSTERN_TRY_VOID(visit(each.GetReflection()->GetMessage(each, value), "[" + name + "]"));
  }
  return {};
}

}  // namespace

SupportedFields::SupportedFields(std::initializer_list<std::pair<std::string_view, Fields>> types) {
  for (const auto& [type, fields] : types) {
    auto& names = types_[std::string(type)];
    for (const std::string_view name : fields) names.emplace(name);
  }
}

SupportedFields& SupportedFields::include(const SupportedFields& other) {
  for (const auto& [type, fields] : other.types_) types_[type].insert(fields.begin(), fields.end());
  return *this;
}

base::ConfigResult<void> SupportedFields::check(const Message& message,
                                                std::string_view path) const {
  return walk(message, std::string(path), 0);
}

base::ConfigResult<void> SupportedFields::walk(const Message& message, const std::string& path,
                                               int depth) const {
  if (depth > json::kDepthMax) return base::failConfig(path, "is nested too deep");
  if (isWellKnown(message)) return {};
  const auto found = types_.find(message.GetDescriptor()->full_name());
  if (found != types_.end() && found->second.contains("*")) return {};
  std::vector<const FieldDescriptor*> set;
  message.GetReflection()->ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    const std::string at = joinPath(path, field->name());
    if (found == types_.end() || !found->second.contains(field->name())) {
      if (Tolerance::takes(at)) continue;
      return base::failConfig(at, "is not supported");
    }
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    POSTERN_TRY_VOID(
        eachMessage(message, field, [&](const Message& inner, const std::string& suffix) {
          return walk(inner, at + suffix, depth + 1);
        }));
  }
  return {};
}

namespace {
// Builders are many and deep; what is tolerated is a matter of the whole build, not of any of them.
thread_local Tolerance* tolerance = nullptr;
}  // namespace

Tolerance::Tolerance() { tolerance = this; }
Tolerance::~Tolerance() { tolerance = nullptr; }

bool Tolerance::takes(std::string_view path) {
  if (tolerance == nullptr) return false;
  tolerance->paths_.emplace_back(path);
  return true;
}

std::size_t countUnknownFields(const Message& message) {
  std::size_t out =
      static_cast<std::size_t>(message.GetReflection()->GetUnknownFields(message).field_count());
  std::vector<const FieldDescriptor*> set;
  message.GetReflection()->ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    (void)eachMessage(message, field,
                      [&](const Message& inner, const std::string&) -> base::ConfigResult<void> {
                        out += countUnknownFields(inner);
                        return {};
                      });
  }
  return out;
}

std::string joinPath(std::string_view parent, std::string_view name) {
  std::string out(parent);
  if (!out.empty()) out += '.';
  return out.append(name);
}

std::string joinPath(std::string_view parent, std::string_view name, int index) {
  return joinPath(parent, name) + "[" + std::to_string(index) + "]";
}

}  // namespace postern::config
