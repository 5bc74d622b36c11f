#include "schema/types.h"

#include "base/check.h"
#include "base/strings.h"

#include <nlohmann/json.hpp>

#include <map>
#include <unordered_map>

namespace postern::schema {
namespace {

using json::Json;

constexpr std::string_view kTable =
#include "schema/builtin_types.inc"
    ;

constexpr int kDepthMax = 100;

constexpr std::pair<std::string_view, ValueKind> kScalars[] = {
    {"string", ValueKind::kString},
    {"bytes", ValueKind::kBytes},
    {"bool", ValueKind::kBool},
    {"int32", ValueKind::kInt32},
    {"int64", ValueKind::kInt64},
    {"uint32", ValueKind::kUint32},
    {"double", ValueKind::kDouble},
    {"time", ValueKind::kTime},
    {"microtime", ValueKind::kMicroTime},
    {"quantity", ValueKind::kQuantity},
    {"intorstring", ValueKind::kIntOrString},
    {"fieldsv1", ValueKind::kFieldsV1},
    {"raw", ValueKind::kRaw},
    {"strings", ValueKind::kStrings},
    {"any", ValueKind::kAny}};

class Reader {
 public:
  std::deque<Type> read() {
    std::vector<std::string_view> lines = base::split(kTable, '\n');
    for (std::string_view line : lines) {
      if (line.empty() || line.front() == ' ') continue;
      std::vector<std::string_view> words = base::split(line, ' ');
      Type& type = types_.emplace_back();
      type.name = words.front();
      type.api_versions.assign(words.begin() + 1, words.end());
      by_name_[type.name] = &type;
    }
    Type* type = nullptr;
    for (std::string_view line : lines) {
      if (line.empty()) continue;
      if (line.front() != ' ') {
        type = by_name_[line.substr(0, line.find(' '))];
      } else {
        type->fields.push_back(field(base::split(line.substr(1), ' ')));
      }
    }
    return std::move(types_);
  }

 private:
  Field field(const std::vector<std::string_view>& words) {
    Field out;
    out.inlined = words[0] == ".";
    out.name = words[0];
    out.number = base::parseInteger<std::uint32_t>(words[1]).value_or(0);
    std::string_view type = words[2];
    if (type.ends_with('?')) {
      out.optional = true;
      type.remove_suffix(1);
    }
    if (type.starts_with("[]")) out.shape = Shape::kList;
    if (type.starts_with("{}")) out.shape = Shape::kMap;
    if (out.shape != Shape::kOne) type.remove_prefix(2);
    for (const auto& [name, kind] : kScalars) {
      if (type != name) continue;
      out.value = kind;
      return out;
    }
    out.value = ValueKind::kMessage;
    auto it = by_name_.find(type);
    POSTERN_CHECK(it != by_name_.end());
    out.message = it->second;
    return out;
  }

  std::deque<Type> types_;  // addresses stay when the whole is moved
  std::unordered_map<std::string_view, Type*> by_name_;
};

std::string_view jsonKind(const Json& value) {
  if (value.is_string()) return "string";
  if (value.is_boolean()) return "bool";
  if (value.is_number()) return "number";
  return value.is_array() ? "array" : "object";
}

/// What Go calls the field's type, for messages.
std::string goType(const Field& field) {
  std::string one;
  switch (field.value) {
    case ValueKind::kMessage:
      one = std::string(field.message->name);
      if (std::size_t slash = one.find('/'); slash != std::string::npos) {
        one = one.substr(slash + 1);  // "v1.PodSpec"
      }
      break;
    case ValueKind::kBool:
      one = "bool";
      break;
    case ValueKind::kInt32:
      one = "int32";
      break;
    case ValueKind::kInt64:
      one = "int64";
      break;
    case ValueKind::kUint32:
      one = "uint32";
      break;
    case ValueKind::kDouble:
      one = "float64";
      break;
    case ValueKind::kBytes:
      one = "[]uint8";
      break;
    case ValueKind::kTime:
      one = "v1.Time";
      break;
    case ValueKind::kMicroTime:
      one = "v1.MicroTime";
      break;
    default:
      one = "string";
  }
  if (field.shape == Shape::kList) return "[]" + one;
  if (field.shape == Shape::kMap) return "map[string]" + one;
  return one;
}

bool fits(const Json& value, ValueKind kind) {
  switch (kind) {
    case ValueKind::kString:
    case ValueKind::kBytes:
    case ValueKind::kTime:
    case ValueKind::kMicroTime:
      return value.is_string();
    case ValueKind::kBool:
      return value.is_boolean();
    case ValueKind::kInt32:
      return value.is_number_integer() && value.get<std::int64_t>() >= INT32_MIN &&
             value.get<std::int64_t>() <= INT32_MAX;
    case ValueKind::kUint32:
      return value.is_number_integer() && value.get<std::int64_t>() >= 0 &&
             value.get<std::int64_t>() <= UINT32_MAX;
    case ValueKind::kInt64:
      return value.is_number_integer();
    case ValueKind::kDouble:
      return value.is_number();
    case ValueKind::kQuantity:
      return value.is_string() || value.is_number();
    case ValueKind::kIntOrString:
      return value.is_string() || value.is_number_integer();
    case ValueKind::kStrings:
      return value.is_array();
    case ValueKind::kMessage:
      return value.is_object();
    default:
      return true;
  }
}

/// Walks an object beside its type.
class Walker {
 public:
  TypeCheck result;

  void object(Json& value, const Type& type, const std::string& path, int depth) {
    if (!value.is_object() || depth > kDepthMax || result.wrong) return;
    for (auto it = value.begin(); it != value.end();) {
      const std::string& name = it.key();
      const std::string at = path.empty() ? name : path + "." + name;
      const bool identity = name == "apiVersion" || name == "kind";
      if (const Field* field = type.byName(name); field != nullptr) {
        if (!it->is_null()) this->field(*it, *field, type, at, depth);
      } else if (type.api_versions.empty() || !identity) {
        if (result.unknown.size() < kUnknownFieldsMax) result.unknown.push_back(at);
        it = value.erase(it);
        continue;
      }
      ++it;
    }
  }

 private:
  void mismatch(const Json& value, const Field& field, const Type& type, const std::string& at) {
    if (result.wrong) return;
    std::string got(jsonKind(value));
    if (value.is_number() && !field.message) got += " " + json::dump(value);
    result.wrong = "json: cannot unmarshal " + got + " into Go struct field " +
                   std::string(type.shortName()) + "." + at + " of type " + goType(field);
  }
  void field(Json& value, const Field& field, const Type& type, const std::string& at, int depth) {
    if (field.shape == Shape::kOne) return one(value, field, type, at, depth);
    if (field.shape == Shape::kList ? !value.is_array() : !value.is_object())
      return mismatch(value, field, type, at);
    std::size_t i = 0;
    for (auto it = value.begin(); it != value.end(); ++it, ++i) {
      if (it->is_null()) continue;
      one(*it, field, type,
          field.shape == Shape::kMap ? at + "." + it.key() : at + "[" + std::to_string(i) + "]",
          depth);
    }
  }
  void one(Json& value, const Field& field, const Type& type, const std::string& at, int depth) {
    if (!fits(value, field.value)) return mismatch(value, field, type, at);
    if (field.value == ValueKind::kMessage) object(value, *field.message, at, depth + 1);
  }
};

}  // namespace

const Field* Type::byNumber(std::uint32_t wanted) const {
  for (const Field& field : fields) {
    if (field.number == wanted && wanted != 0) return &field;
  }
  return nullptr;
}

const Field* Type::byName(std::string_view wanted) const {
  for (const Field& field : fields) {
    if (field.inlined) {
      if (const Field* inner = field.message->byName(wanted)) return inner;
    } else if (field.name == wanted) {
      return &field;
    }
  }
  return nullptr;
}

const std::deque<Type>& builtinTypes() {
  static const std::deque<Type> types = Reader().read();
  return types;
}

const Type* builtinType(std::string_view api_version, std::string_view kind) {
  static const std::map<std::pair<std::string_view, std::string_view>, const Type*> kinds = [] {
    std::map<std::pair<std::string_view, std::string_view>, const Type*> out;
    for (const Type& type : builtinTypes()) {
      for (std::string_view version : type.api_versions) out[{version, type.shortName()}] = &type;
    }
    return out;
  }();
  auto it = kinds.find({api_version, kind});
  return it == kinds.end() ? nullptr : it->second;
}

TypeCheck checkType(Json& object, const Type& type) {
  Walker walker;
  walker.object(object, type, "", 0);
  return std::move(walker.result);
}

}  // namespace postern::schema
