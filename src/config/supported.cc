#include "config/supported.h"

#include "api/message.h"
#include "json/json.h"

#include <google/protobuf/any.pb.h>
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

/// Calls `visit(inner, index)` for each message in a field; stops at the first error.
template <class F>
base::ConfigResult<void> eachMessage(const Message& message, const FieldDescriptor* field,
                                     F&& visit) {
  constexpr int kSingle = -1;
  const auto* reflection = message.GetReflection();
  if (!field->is_repeated()) return visit(reflection->GetMessage(message, field), kSingle);
  const auto* value = field->is_map() ? field->message_type()->map_value() : nullptr;
  if (value != nullptr && value->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return {};
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& each = reflection->GetRepeatedMessage(message, field, i);
    POSTERN_TRY_VOID(
        visit(value == nullptr ? each : each.GetReflection()->GetMessage(each, value), i));
  }
  return {};
}

/// One look at a message. Paths are only written when there is something to say.
class Walk {
 public:
  Walk(const SupportedFields& fields, std::string_view path) : fields_(fields), path_(path) {}

  base::ConfigResult<void> walk(const Message& message) {
    if (trail_.size() > json::kDepthMax) return base::failConfig(at(), "is nested too deep");
    if (const auto* any =
            google::protobuf::DynamicCastToGenerated<const google::protobuf::Any>(&message)) {
      return walkAny(*any);
    }
    if (isWellKnown(message)) return {};
    const auto known = fields_.types().find(message.GetDescriptor()->full_name());
    const bool has = known != fields_.types().end();
    if (has && known->second.contains(kCheckedElsewhere)) return {};
    std::vector<const FieldDescriptor*> set;
    message.GetReflection()->ListFields(message, &set);
    for (const FieldDescriptor* each : set) {
      POSTERN_TRY_VOID(walkField(message, each, has && known->second.contains(each->name())));
    }
    return {};
  }

 private:
  struct Step {
    const Message* message;
    const FieldDescriptor* field;
    int index;  // of a repeated field, else below 0
  };

  base::ConfigResult<void> walkAny(const google::protobuf::Any& any) {
    const std::string_view url = any.type_url();
    if (!fields_.types().contains(url.substr(url.rfind('/') + 1))) return {};
    const auto inner = api::unpack(any);
    return inner ? walk(**inner) : base::failConfig(at(), "is malformed");
  }

  base::ConfigResult<void> walkField(const Message& message, const FieldDescriptor* field,
                                     bool honoured) {
    trail_.push_back({&message, field, -1});
    base::ConfigResult<void> out;
    if (!honoured) {
      const std::string path = at();
      if (!Tolerance::takes(path)) out = base::failConfig(path, "is not supported");
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      out = eachMessage(message, field, [&](const Message& inner, int index) {
        trail_.back().index = index;
        return walk(inner);
      });
    }
    trail_.pop_back();
    return out;
  }

  /// Where the walk is.
  std::string at() const {
    std::string out(path_);
    for (const Step& step : trail_) {
      out = joinPath(out, step.field->name());
      if (step.index < 0) continue;
      out.append("[").append(nameOf(step)).append("]");
    }
    return out;
  }

  /// The key of a map's entry, the place in a list.
  static std::string nameOf(const Step& step) {
    const auto* key = step.field->is_map() ? step.field->message_type()->map_key() : nullptr;
    if (key == nullptr || key->cpp_type() != FieldDescriptor::CPPTYPE_STRING)
      return std::to_string(step.index);
    const Message& entry =
        step.message->GetReflection()->GetRepeatedMessage(*step.message, step.field, step.index);
    return entry.GetReflection()->GetString(entry, key);
  }

  const SupportedFields& fields_;
  const std::string_view path_;
  std::vector<Step> trail_;
};

}  // namespace

SupportedFields::SupportedFields(std::initializer_list<Lines> lists) {
  for (const Lines lines : lists) {
    Fields* fields = nullptr;
    for (const auto& [type, field] : lines) {
      if (!type.empty()) fields = &types_[type];
      if (!field.empty()) fields->insert(field);
    }
  }
}

base::ConfigResult<void> SupportedFields::check(const Message& message,
                                                std::string_view path) const {
  return Walk(*this, path).walk(message);
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
    (void)eachMessage(message, field, [&](const Message& inner, int) -> base::ConfigResult<void> {
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
