// Every field of every message that can come in: honoured (honoured_*.inc), or refused by its path.
// That a honoured one has an effect is shown by the test it names; tools/check_fields.py wants it.
#include "proxy/honoured_fields.h"

#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "proxy/bootstrap.h"
#include "proxy/config_build.h"
#include "proxy/config_http.h"
#include "proxy/tls_socket.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>

namespace postern::proxy {
namespace {

using google::protobuf::Any;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr const char* kKey = "k";  // of each entry of a map

struct Root {
  const Descriptor* type;
  Door door;
  base::ConfigResult<void> (*build)(const Message&);
};

template <class T>
const T& as(const Message& message) {
  return *google::protobuf::DynamicCastToGenerated<const T>(&message);
}
template <class T>
base::ConfigResult<void> only(base::ConfigResult<T> result) {
  if (!result) return std::unexpected(result.error());
  return {};
}

const std::vector<Root>& roots() {
  namespace conf = envoy::config;
  using Secret = envoy::extensions::transport_sockets::tls::v3::Secret;
  using Assignment = conf::endpoint::v3::ClusterLoadAssignment;
  static const std::vector<Root> all = {
      {conf::bootstrap::v3::Bootstrap::descriptor(), Door::kBootstrap,
       [](const Message& m) { return only(readBootstrap(as<conf::bootstrap::v3::Bootstrap>(m))); }},
      {conf::listener::v3::Listener::descriptor(), Door::kListener,
       [](const Message& m) {
         return only(buildListener(as<conf::listener::v3::Listener>(m), ""));
       }},
      {conf::route::v3::RouteConfiguration::descriptor(), Door::kListener,
       [](const Message& m) {
         return only(buildRoutes(as<conf::route::v3::RouteConfiguration>(m), ""));
       }},
      {conf::cluster::v3::Cluster::descriptor(), Door::kCluster,
       [](const Message& m) { return only(buildCluster(as<conf::cluster::v3::Cluster>(m), "")); }},
      {Assignment::descriptor(), Door::kCluster,
       [](const Message& m) { return only(buildAssignment(as<Assignment>(m), "")); }},
      {Secret::descriptor(), Door::kSecret,
       [](const Message& m) { return checkSecret(as<Secret>(m), ""); }},
  };
  return all;
}

bool isOpaque(const Descriptor* type) { return type->file()->package() == "google.protobuf"; }

/// The way from a root to a message: fields; where one is an Any, the type that it holds there.
struct Step {
  const FieldDescriptor* field;
  const Descriptor* held;  // null: what the field is declared to hold
};
using Way = std::vector<Step>;

/// What a field holds, of a map the values; null for plain values.
const Descriptor* inside(const FieldDescriptor* field) {
  if (field->is_map()) field = field->message_type()->map_value();
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE ? field->message_type() : nullptr;
}

/// Sets a field to something that is not its default; messages are there, and empty.
Message* setField(Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  if (field->is_map()) {
    Message* entry = reflection->AddMessage(&message, field);
    (void)setField(*entry, field->message_type()->map_key());
    return setField(*entry, field->message_type()->map_value());
  }
  const bool list = field->is_repeated();
  const auto put = [&](auto add, auto set, auto value) {
    if (list) {
      (reflection->*add)(&message, field, value);
    } else {
      (reflection->*set)(&message, field, value);
    }
  };
  using R = google::protobuf::Reflection;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return list ? reflection->AddMessage(&message, field)
                  : reflection->MutableMessage(&message, field);
    case FieldDescriptor::CPPTYPE_STRING:
      put(&R::AddString, &R::SetString, std::string(kKey));
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      put(&R::AddBool, &R::SetBool, true);
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      put(&R::AddEnumValue, &R::SetEnumValue, 1);
      break;
    case FieldDescriptor::CPPTYPE_INT32:
      put(&R::AddInt32, &R::SetInt32, 1);
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      put(&R::AddInt64, &R::SetInt64, 1);
      break;
    case FieldDescriptor::CPPTYPE_UINT32:
      put(&R::AddUInt32, &R::SetUInt32, 1U);
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      put(&R::AddUInt64, &R::SetUInt64, 1U);
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      put(&R::AddDouble, &R::SetDouble, 1.0);
      break;
    case FieldDescriptor::CPPTYPE_FLOAT:
      put(&R::AddFloat, &R::SetFloat, 1.0F);
      break;
  }
  return nullptr;
}

/// A message in which nothing is set but one field at the end of a way.
void fill(Message& message, std::span<const Step> way, const FieldDescriptor* last) {
  if (way.empty()) {
    (void)setField(message, last);
    return;
  }
  Message* inner = setField(message, way.front().field);
  if (way.front().held == nullptr) return fill(*inner, way.subspan(1), last);
  const auto held = api::makeMessage("x/" + way.front().held->full_name());
  ASSERT_NE(held, nullptr) << way.front().held->full_name();
  fill(*held, way.subspan(1), last);
  api::pack(*held, *google::protobuf::DynamicCastToGenerated<Any>(inner));
}

std::string pathOf(const Way& way, const FieldDescriptor* last) {
  std::string out;
  for (const Step& step : way) {
    out = config::joinPath(out, step.field->name());
    if (step.field->is_repeated()) out += step.field->is_map() ? "[k]" : "[0]";
  }
  return config::joinPath(out, last->name());
}

/// The shortest way to each message that can come in at a root. Types that only an Any can hold are
/// reached by the first Any there is: where it stands makes no difference to the check.
std::map<const Descriptor*, Way> reach(const Root& root) {
  std::map<const Descriptor*, Way> out = {{root.type, {}}};
  std::deque<const Descriptor*> left = {root.type};
  std::map<std::string_view, const Descriptor*> held;
  for (const auto& [name, fields] : honouredFields(root.door).types()) {
    const auto message = api::makeMessage("x/" + std::string(name));
    if (message != nullptr) held.emplace(name, message->GetDescriptor());
  }
  const auto go = [&](Way way, Step step, const Descriptor* to) {
    way.push_back(step);
    if (out.emplace(to, std::move(way)).second) left.push_back(to);
  };
  Way any;
  while (!left.empty()) {
    const Descriptor* type = left.front();
    left.pop_front();
    const auto& known = honouredFields(root.door).types();
    const auto listed = known.find(type->full_name());
    for (int i = 0; listed != known.end() && i < type->field_count(); ++i) {
      const FieldDescriptor* field = type->field(i);
      const Descriptor* to = inside(field);
      if (to == nullptr || !listed->second.contains(field->name())) continue;
      if (to == Any::descriptor() && any.empty()) {
        any = out[type];
        any.push_back({field, nullptr});
      }
      if (!isOpaque(to)) go(out[type], {field, nullptr}, to);
    }
    if (!left.empty() || any.empty()) continue;
    const Way before(any.begin(), any.end() - 1);
    for (const auto& [name, to] : held) {
      if (!out.contains(to)) go(before, {any.back().field, to}, to);
    }
  }
  return out;
}

TEST(HonouredFields, EveryOtherFieldIsRefusedByItsPath) {
  int honoured = 0;
  int refused = 0;
  for (const Root& root : roots()) {
    const auto& known = honouredFields(root.door).types();
    for (const auto& [type, way] : reach(root)) {
      const auto listed = known.find(type->full_name());
      if (listed != known.end() && listed->second.contains(config::kCheckedElsewhere)) continue;
      for (int i = 0; i < type->field_count(); ++i) {
        const FieldDescriptor* field = type->field(i);
        const auto message = api::makeMessage("x/" + root.type->full_name());
        fill(*message, way, field);
        const auto built = root.build(*message);
        const std::string error = built ? "" : built.error().message();
        const std::string refusal = pathOf(way, field) + ": is not supported";
        if (listed != known.end() && listed->second.contains(field->name())) {
          EXPECT_NE(error, refusal) << root.type->name();
          ++honoured;
        } else {
          EXPECT_EQ(error, refusal) << root.type->name();
          ++refused;
        }
      }
    }
  }
  // As many as there are fields, so that the walk cannot quietly end early.
  EXPECT_GT(honoured, 600);
  EXPECT_GT(refused, 600);
}

TEST(HonouredFields, EveryLineNamesAFieldThatCanComeIn) {
  std::set<std::string> reached;
  for (const Root& root : roots()) {
    for (const auto& [type, way] : reach(root)) reached.insert(type->full_name());
  }
  for (const Door door : {Door::kBootstrap, Door::kListener, Door::kCluster, Door::kSecret}) {
    for (const auto& [name, fields] : honouredFields(door).types()) {
      EXPECT_TRUE(reached.contains(std::string(name))) << name;
      const auto* type = google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(
          std::string(name));
      ASSERT_NE(type, nullptr) << name;
      for (const std::string_view field : fields) {
        EXPECT_TRUE(field == config::kCheckedElsewhere ||
                    type->FindFieldByName(std::string(field)) != nullptr)
            << name << "." << field;
      }
    }
  }
}

}  // namespace
}  // namespace postern::proxy
