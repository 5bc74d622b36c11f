#include "config/supported.h"

#include "api/message.h"
#include "json/json.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>
#include <google/protobuf/wire_format_lite.h>

#include <cstdint>
#include <string>
#include <vector>

namespace postern::config {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

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

/// One look at a message, at its bytes: what is not set costs nothing there, while a search among a
/// type's fields was a quarter of a start with many routes. Paths are only written when there is
/// something to say.
class Walk {
 public:
  Walk(const SupportedFields& fields, std::string_view path) : fields_(fields), path_(path) {}

  base::ConfigResult<void> walk(const Descriptor& type, std::string_view bytes) {
    if (trail_.size() > json::kDepthMax) return base::failConfig(at(), "is nested too deep");
    if (type.file()->package() == "google.protobuf") {
      if (type.full_name() != google::protobuf::Any::descriptor()->full_name()) return {};
      google::protobuf::Any any;
      if (!api::parseBytes(bytes, any)) return base::failConfig(at(), "is malformed");
      return walkAny(any);
    }
    const auto known = fields_.types().find(type.full_name());
    const bool has = known != fields_.types().end();
    if (has && known->second.contains(kCheckedElsewhere)) return {};
    const FieldDescriptor* field = nullptr;
    int index = 0;  // of a repeated field, whose elements follow each other
    CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                        static_cast<int>(bytes.size()));
    while (const std::uint32_t tag = in.ReadTag()) {
      const FieldDescriptor* next = fieldOf(type, tag);
      const bool again = next != nullptr && next == field;
      index = again ? index + 1 : 0;
      field = next;
      if (next == nullptr) {  // countUnknownFields() is for those
        if (!WireFormatLite::SkipField(&in, tag)) return base::failConfig(at(), "is malformed");
        continue;
      }
      const bool honoured = has && known->second.contains(next->name());
      if (!honoured && !again) POSTERN_TRY_VOID(refuse(*next));
      if (!honoured || next->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
        if (!WireFormatLite::SkipField(&in, tag)) return base::failConfig(at(), "is malformed");
        continue;
      }
      std::uint32_t size = 0;
      const int from = in.ReadVarint32(&size) ? in.CurrentPosition() : 0;
      if (!in.Skip(static_cast<int>(size))) return base::failConfig(at(), "is malformed");
      POSTERN_TRY_VOID(walkInner(*next, index, bytes.substr(static_cast<std::size_t>(from), size)));
    }
    return {};
  }

 private:
  struct Step {
    const FieldDescriptor* field;
    int index;               // of a repeated field, else below 0
    std::string_view bytes;  // of a map's entry
  };

  base::ConfigResult<void> walkAny(const google::protobuf::Any& any) {
    const std::string_view url = any.type_url();
    if (!fields_.types().contains(url.substr(url.rfind('/') + 1))) return {};
    const auto inner = api::unpack(any);
    if (!inner) return base::failConfig(at(), "is malformed");
    // Not the bytes of the Any: a sender may have written a field twice, or one after another.
    return walk(*(*inner)->GetDescriptor(), (*inner)->SerializePartialAsString());
  }

  base::ConfigResult<void> walkInner(const FieldDescriptor& field, int index,
                                     std::string_view bytes) {
    trail_.push_back({&field, field.is_repeated() ? index : -1, bytes});
    base::ConfigResult<void> out;
    if (!field.is_map()) {
      out = walk(*field.message_type(), bytes);
    } else if (const FieldDescriptor& value = *field.message_type()->map_value();
               value.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      out = walk(*value.message_type(), partOf(bytes, value.number()));
    }
    trail_.pop_back();
    return out;
  }

  base::ConfigResult<void> refuse(const FieldDescriptor& field) {
    trail_.push_back({&field, -1, {}});
    const std::string path = at();
    trail_.pop_back();
    if (Tolerance::takes(path)) return {};
    return base::failConfig(path, "is not supported");
  }

  /// Null for a number, or an encoding of it, that the type does not know.
  static const FieldDescriptor* fieldOf(const Descriptor& type, std::uint32_t tag) {
    const FieldDescriptor* out = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (out == nullptr) return nullptr;
    const auto coding = WireFormatLite::GetTagWireType(tag);
    const auto own = WireFormatLite::WireTypeForFieldType(
        static_cast<WireFormatLite::FieldType>(static_cast<int>(out->type())));
    if (coding == own) return out;
    const bool packed = out->is_packable() && coding == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    return packed ? out : nullptr;
  }

  /// A text or message in a message's bytes; nothing when it is not there.
  static std::string_view partOf(std::string_view bytes, int number) {
    CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                        static_cast<int>(bytes.size()));
    while (const std::uint32_t tag = in.ReadTag()) {
      if (WireFormatLite::GetTagFieldNumber(tag) != number) {
        if (!WireFormatLite::SkipField(&in, tag)) return {};
        continue;
      }
      std::uint32_t size = 0;
      if (!in.ReadVarint32(&size)) return {};
      return bytes.substr(static_cast<std::size_t>(in.CurrentPosition()), size);
    }
    return {};
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
    return std::string(partOf(step.bytes, key->number()));
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
  return Walk(*this, path).walk(*message.GetDescriptor(), message.SerializePartialAsString());
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
