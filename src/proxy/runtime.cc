#include "proxy/runtime.h"

#include "api/message.h"
#include "envoy/config/accesslog/v3/accesslog.pb.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/core/v3/base.pb.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/struct.pb.h>

#include <limits>
#include <vector>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Percent = envoy::type::v3::FractionalPercent;

template <class T>
T* layerAs(Message& message) {
  return google::protobuf::DynamicCastToGenerated<T>(&message);
}

std::uint64_t wholeOf(const google::protobuf::Value& value) {
  const double number = value.number_value();
  return number >= 0 && number <= std::numeric_limits<std::uint32_t>::max()
             ? static_cast<std::uint64_t>(number)
             : 0;
}

}  // namespace

Runtime::Runtime(const envoy::config::bootstrap::v3::LayeredRuntime& message) {
  for (const auto& layer : message.layers()) read("", layer.static_layer());
}

void Runtime::read(const std::string& prefix, const google::protobuf::Struct& layer) {
  for (const auto& [name, value] : layer.fields()) {
    const std::string key = prefix.empty() ? name : prefix + "." + name;
    if (value.kind_case() == google::protobuf::Value::kNumberValue)
      values_[key] = {wholeOf(value), {}};
    if (!value.has_struct_value()) continue;
    const auto& fields = value.struct_value().fields();
    const auto numerator = fields.find("numerator");
    if (numerator == fields.end()) {
      read(key, value.struct_value());
      continue;
    }
    Percent::DenominatorType denominator = Percent::HUNDRED;
    if (const auto it = fields.find("denominator"); it != fields.end())
      (void)Percent::DenominatorType_Parse(it->second.string_value(), &denominator);
    values_[key] = {wholeOf(numerator->second), denominator};
  }
}

const Runtime::Value* Runtime::find(const std::string& key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

bool Runtime::applyHere(Message& message, bool& changed) const {
  if (auto* share = layerAs<core::RuntimeFractionalPercent>(message)) {
    if (const Value* value = find(share->runtime_key())) {
      Percent& out = *share->mutable_default_value();
      out.set_numerator(static_cast<std::uint32_t>(value->number));
      out.set_denominator(
          static_cast<Percent::DenominatorType>(value->denominator.value_or(Percent::HUNDRED)));
      changed = true;
    }
    return true;
  }
  if (auto* number = layerAs<core::RuntimeUInt32>(message)) {
    if (const Value* value = find(number->runtime_key()); value != nullptr && !value->denominator) {
      number->set_default_value(static_cast<std::uint32_t>(value->number));
      changed = true;
    }
    return true;
  }
  if (auto* filter = layerAs<envoy::config::accesslog::v3::RuntimeFilter>(message)) {
    if (const Value* value = find(filter->runtime_key())) {
      // A plain number is of the filter's own denominator.
      Percent& out = *filter->mutable_percent_sampled();
      out.set_numerator(static_cast<std::uint32_t>(value->number));
      if (value->denominator)
        out.set_denominator(static_cast<Percent::DenominatorType>(*value->denominator));
      changed = true;
    }
    return true;
  }
  if (auto* any = layerAs<google::protobuf::Any>(message)) {
    const auto held = api::unpack(*any);
    if (held && apply(**held)) {
      api::pack(**held, *any);
      changed = true;
    }
    return true;
  }
  return false;
}

bool Runtime::apply(Message& message) const {
  bool changed = false;
  if (empty() || applyHere(message, changed)) return changed;
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> set;
  reflection->ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      changed = apply(*reflection->MutableMessage(&message, field)) || changed;
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i)
      changed = apply(*reflection->MutableRepeatedMessage(&message, field, i)) || changed;
  }
  return changed;
}

}  // namespace postern::proxy
