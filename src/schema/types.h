// The Kubernetes types behind the built-in kinds: which fields an object may have, of which type,
// and their protobuf numbers. One table (builtin_types.inc) serves strict validation, protobuf
// bodies and the OpenAPI documents. Built on first use, then immutable; any thread.
#pragma once

#include "json/json.h"

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::schema {

enum class ValueKind : unsigned char {
  kMessage,
  kString,
  kBytes,  // base64 in JSON
  kBool,
  kInt32,
  kInt64,
  kUint32,
  kDouble,
  kTime,  // RFC 3339 in JSON
  kMicroTime,
  kQuantity,  // text in JSON, a number is taken too
  kIntOrString,
  kFieldsV1,  // any JSON
  kRaw,       // any JSON object
  kStrings,   // a list of strings, a message of its own in protobuf
  kAny,       // not described further
};

enum class Shape : unsigned char { kOne, kList, kMap };

struct Type;

struct Field {
  std::string_view name;
  std::uint32_t number = 0;
  ValueKind value = ValueKind::kAny;
  Shape shape = Shape::kOne;
  const Type* message = nullptr;  // of kMessage
  bool optional = false;          // absence differs from zero
  bool inlined = false;           // its fields stand in the parent
};

struct Type {
  std::string_view name;                       // "apps/v1.DeploymentSpec"
  std::vector<std::string_view> api_versions;  // of a kind; empty for parts
  std::vector<Field> fields;

  /// "DeploymentSpec".
  std::string_view shortName() const { return name.substr(name.rfind('.') + 1); }
  const Field* byNumber(std::uint32_t number) const;
  /// Also looks into inlined fields.
  const Field* byName(std::string_view name) const;
};

const std::deque<Type>& builtinTypes();
/// The type of a kind ("apps/v1", "Deployment"); null when it is not built in.
const Type* builtinType(std::string_view api_version, std::string_view kind);

inline constexpr std::size_t kUnknownFieldsMax = 50;

/// What an object has that its type does not allow.
struct TypeCheck {
  std::vector<std::string> unknown;  // paths: "spec.template.spec.foo"; at most kUnknownFieldsMax
  /// The first value of a wrong type, in the words of Kubernetes ("json: cannot unmarshal string
  /// into Go struct field DeploymentSpec.spec.replicas of type int32").
  std::optional<std::string> wrong;
};

/// Removes unknown fields and reports.
TypeCheck checkType(json::Json& object, const Type& type);

}  // namespace postern::schema
