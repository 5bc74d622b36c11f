#include "schema/structural.h"

#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <cmath>

namespace postern::schema {
namespace {

using json::Json;

class Validator {
 public:
  std::vector<Cause> causes;

  void node(const Json& value, const Json& schema, const std::string& path) {
    if (!schema.is_object() || causes.size() >= kCausesMax) return;
    if (value.is_null() && boolAt(schema, "nullable")) return;
    if (!type(value, schema, path)) return;
    enumeration(value, schema, path);
    if (value.is_number()) number(value, schema, path);
    if (value.is_string()) text(value, schema, path);
    if (value.is_array()) array(value, schema, path);
    if (value.is_object()) object(value, schema, path);
    combinations(value, schema, path);
  }

 private:
  static bool boolAt(const Json& schema, const char* name) {
    auto it = schema.find(name);
    return it != schema.end() && it->is_boolean() && it->get<bool>();
  }
  static const Json* at(const Json& schema, const char* name) {
    auto it = schema.find(name);
    return it == schema.end() ? nullptr : &*it;
  }
  static std::string shown(const Json& value) {
    if (value.is_object()) return "\"object\"";
    if (value.is_array()) return "\"array\"";
    return json::dump(value);
  }
  void add(const char* reason, const std::string& path, std::string message) {
    if (causes.size() < kCausesMax) causes.push_back({reason, path, std::move(message)});
  }
  void invalid(const Json& value, const std::string& path, const std::string& why) {
    std::string field = path.empty() ? "<nil>" : path;
    add("FieldValueInvalid", field,
        "Invalid value: " + shown(value) + ": " + field + " in body " + why);
  }

  bool type(const Json& value, const Json& schema, const std::string& path) {
    if (boolAt(schema, "x-kubernetes-int-or-string")) {
      if (value.is_number_integer() || value.is_string()) return true;
      wrongType(value, path, "integer or string");
      return false;
    }
    const Json* wanted = at(schema, "type");
    if (wanted == nullptr || !wanted->is_string()) return true;
    const std::string& name = wanted->get_ref<const std::string&>();
    bool whole =
        value.is_number_integer() ||
        (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());
    bool fits = (name == "object" && value.is_object()) || (name == "array" && value.is_array()) ||
                (name == "string" && value.is_string()) ||
                (name == "boolean" && value.is_boolean()) || (name == "integer" && whole) ||
                (name == "number" && value.is_number()) || name.empty();
    if (!fits) wrongType(value, path, name);
    return fits;
  }
  void wrongType(const Json& value, const std::string& path, const std::string& wanted) {
    std::string is = value.is_number_integer() ? "integer" : value.type_name();
    std::string field = path.empty() ? "<nil>" : path;
    add("FieldValueTypeInvalid", field,
        "Invalid value: \"" + is + "\": " + field + " in body must be of type " + wanted + ": \"" +
            is + "\"");
  }
  void enumeration(const Json& value, const Json& schema, const std::string& path) {
    const Json* values = at(schema, "enum");
    if (values == nullptr || !values->is_array()) return;
    std::string list;
    for (const Json& v : *values) {
      if (v == value) return;
      list += (list.empty() ? "" : ", ") + json::dump(v);
    }
    add("FieldValueNotSupported", path,
        "Unsupported value: " + shown(value) + ": supported values: " + list);
  }
  void number(const Json& value, const Json& schema, const std::string& path) {
    double v = value.get<double>();
    const Json* low = at(schema, "minimum");
    const Json* high = at(schema, "maximum");
    if (low != nullptr && low->is_number()) {
      bool exclusive = boolAt(schema, "exclusiveMinimum");
      double bound = low->get<double>();
      if (v < bound || (exclusive && v <= bound)) {
        invalid(value, path,
                std::string("should be greater than ") + (exclusive ? "" : "or equal to ") +
                    json::dump(*low));
      }
    }
    if (high != nullptr && high->is_number()) {
      bool exclusive = boolAt(schema, "exclusiveMaximum");
      double bound = high->get<double>();
      if (v > bound || (exclusive && v >= bound)) {
        invalid(value, path,
                std::string("should be less than ") + (exclusive ? "" : "or equal to ") +
                    json::dump(*high));
      }
    }
    const Json* step = at(schema, "multipleOf");
    if (step != nullptr && step->is_number() && step->get<double>() > 0 &&
        std::fmod(v, step->get<double>()) != 0) {
      invalid(value, path, "should be a multiple of " + json::dump(*step));
    }
  }
  static long long bound(const Json& schema, const char* name) {
    const Json* v = at(schema, name);
    return v != nullptr && v->is_number_integer() ? v->get<long long>() : -1;
  }
  void text(const Json& value, const Json& schema, const std::string& path) {
    const std::string& s = value.get_ref<const std::string&>();
    long long length = 0;
    for (char c : s) length += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
    long long least = bound(schema, "minLength");
    long long most = bound(schema, "maxLength");
    if (least >= 0 && length < least) {
      invalid(value, path, "should be at least " + std::to_string(least) + " chars long");
    }
    if (most >= 0 && length > most) {
      add("FieldValueTooLong", path,
          "Too long: may not be more than " + std::to_string(most) + " bytes");
    }
    const Json* pattern = at(schema, "pattern");
    if (pattern != nullptr && pattern->is_string()) {
      const std::string& p = pattern->get_ref<const std::string&>();
      RE2 compiled(p, RE2::Quiet);
      if (compiled.ok() && !RE2::PartialMatch(s, compiled)) {
        invalid(value, path, "should match '" + p + "'");
      }
    }
  }
  void array(const Json& value, const Json& schema, const std::string& path) {
    auto size = static_cast<long long>(value.size());
    long long least = bound(schema, "minItems");
    long long most = bound(schema, "maxItems");
    if (least >= 0 && size < least) {
      invalid(value, path, "should have at least " + std::to_string(least) + " items");
    }
    if (most >= 0 && size > most) {
      add("FieldValueTooMany", path,
          "Too many: " + std::to_string(size) + ": must have at most " + std::to_string(most) +
              " items");
    }
    duplicates(value, schema, path);
    const Json* items = at(schema, "items");
    for (std::size_t i = 0; items != nullptr && i < value.size(); ++i) {
      node(value[i], *items, path + "[" + std::to_string(i) + "]");
    }
  }
  void duplicates(const Json& value, const Json& schema, const std::string& path) {
    const Json* type = at(schema, "x-kubernetes-list-type");
    if (type == nullptr || (*type != Json("map") && *type != Json("set"))) return;
    const Json* keys = at(schema, "x-kubernetes-list-map-keys");
    std::vector<Json> seen;
    for (std::size_t i = 0; i < value.size(); ++i) {
      Json key = value[i];
      if (*type == Json("map") && keys != nullptr && keys->is_array()) {
        key = Json::object();
        for (const Json& k : *keys) {
          if (!k.is_string() || !value[i].is_object()) continue;
          auto it = value[i].find(k.get_ref<const std::string&>());
          if (it != value[i].end()) key[k.get<std::string>()] = *it;
        }
      }
      for (const Json& other : seen) {
        if (other != key) continue;
        add("FieldValueDuplicate", path + "[" + std::to_string(i) + "]",
            "Duplicate value: " + json::dump(key));
        break;
      }
      seen.push_back(std::move(key));
    }
  }
  void object(const Json& value, const Json& schema, const std::string& path) {
    std::string prefix = path.empty() ? "" : path + ".";
    const Json* required = at(schema, "required");
    if (required != nullptr && required->is_array()) {
      for (const Json& name : *required) {
        if (name.is_string() && !value.contains(name.get_ref<const std::string&>())) {
          add("FieldValueRequired", prefix + name.get<std::string>(), "Required value");
        }
      }
    }
    const Json* properties = at(schema, "properties");
    const Json* additional = at(schema, "additionalProperties");
    for (auto it = value.begin(); it != value.end(); ++it) {
      const Json* child = nullptr;
      if (properties != nullptr && properties->is_object())
        child = at(*properties, it.key().c_str());
      if (child == nullptr && additional != nullptr && additional->is_object()) child = additional;
      if (child != nullptr) node(*it, *child, prefix + it.key());
    }
    long long most = bound(schema, "maxProperties");
    if (most >= 0 && static_cast<long long>(value.size()) > most) {
      invalid(value, path, "should have at most " + std::to_string(most) + " properties");
    }
  }
  static bool holds(const Json& value, const Json& schema) {
    Validator inner;
    inner.node(value, schema, "");
    return inner.causes.empty();
  }
  void combinations(const Json& value, const Json& schema, const std::string& path) {
    auto matches = [&](const Json& list) {
      int count = 0;
      for (const Json& s : list) count += holds(value, s) ? 1 : 0;
      return count;
    };
    const Json* all = at(schema, "allOf");
    if (all != nullptr && all->is_array()) {
      for (const Json& s : *all) node(value, s, path);
    }
    const Json* any = at(schema, "anyOf");
    if (any != nullptr && any->is_array() && matches(*any) == 0) {
      invalid(value, path, "must validate at least one schema (anyOf)");
    }
    const Json* one = at(schema, "oneOf");
    if (one != nullptr && one->is_array() && matches(*one) != 1) {
      invalid(value, path, "must validate one and only one schema (oneOf)");
    }
    const Json* none = at(schema, "not");
    if (none != nullptr && none->is_object() && holds(value, *none)) {
      invalid(value, path, "must not validate the schema (not)");
    }
  }
};

}  // namespace

std::vector<Cause> validate(const Json& object, const Json& schema) {
  Validator validator;
  validator.node(object, schema, "");
  return std::move(validator.causes);
}

}  // namespace postern::schema
