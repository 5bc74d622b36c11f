#include "schema/structural.h"

#include <nlohmann/json.hpp>

namespace postern::schema {
namespace {

using json::Json;

bool flag(const Json& schema, const char* name) {
  auto it = schema.find(name);
  return it != schema.end() && it->is_boolean() && it->get<bool>();
}

const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  auto it = object.find(name);
  return it == object.end() ? nullptr : &*it;
}

const Json* propertyOf(const Json& schema, const std::string& name) {
  const Json* properties = member(schema, "properties");
  return properties == nullptr ? nullptr : member(*properties, name.c_str());
}

std::string join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

bool isTypeMeta(const std::string& name) {
  return name == "apiVersion" || name == "kind" || name == "metadata";
}

void pruneNode(Json& value, const Json& schema, const std::string& path, bool root,
               std::vector<std::string>& removed) {
  if (value.is_array()) {
    const Json* items = member(schema, "items");
    if (items == nullptr) return;
    for (std::size_t i = 0; i < value.size(); ++i) {
      pruneNode(value[i], *items, path + "[" + std::to_string(i) + "]", false, removed);
    }
    return;
  }
  if (!value.is_object()) return;
  bool keep = flag(schema, "x-kubernetes-preserve-unknown-fields");
  root = root || flag(schema, "x-kubernetes-embedded-resource");
  const Json* additional = member(schema, "additionalProperties");
  for (auto it = value.begin(); it != value.end();) {
    if (root && isTypeMeta(it.key())) {
      ++it;
      continue;
    }
    const Json* child = propertyOf(schema, it.key());
    if (child == nullptr && additional != nullptr && additional->is_object()) child = additional;
    if (child != nullptr) {
      pruneNode(*it, *child, join(path, it.key()), false, removed);
      ++it;
    } else if (keep || (additional != nullptr && *additional != Json(false))) {
      ++it;
    } else {
      removed.push_back(join(path, it.key()));
      it = value.erase(it);
    }
  }
}

}  // namespace

std::vector<std::string> prune(Json& object, const Json& schema) {
  std::vector<std::string> removed;
  pruneNode(object, schema, "", true, removed);
  return removed;
}

void applyDefaults(Json& object, const Json& schema) {
  if (object.is_array()) {
    if (const Json* items = member(schema, "items")) {
      for (Json& item : object) applyDefaults(item, *items);
    }
    return;
  }
  if (!object.is_object()) return;
  const Json* properties = member(schema, "properties");
  if (properties != nullptr && properties->is_object()) {
    for (auto it = properties->begin(); it != properties->end(); ++it) {
      auto present = object.find(it.key());
      const Json* value = member(*it, "default");
      if (value != nullptr &&
          (present == object.end() || (present->is_null() && !flag(*it, "nullable")))) {
        object[it.key()] = *value;
        present = object.find(it.key());
      }
      if (present != object.end()) applyDefaults(*present, *it);
    }
  }
  const Json* additional = member(schema, "additionalProperties");
  if (additional == nullptr || !additional->is_object()) return;
  for (auto it = object.begin(); it != object.end(); ++it) {
    if (propertyOf(schema, it.key()) == nullptr) applyDefaults(*it, *additional);
  }
}

std::vector<Cause> checkStructural(const Json& schema, const std::string& path) {
  std::vector<Cause> causes;
  if (!schema.is_object()) return causes;
  bool free = flag(schema, "x-kubernetes-int-or-string") ||
              flag(schema, "x-kubernetes-preserve-unknown-fields");
  if (!free && (member(schema, "type") == nullptr || *member(schema, "type") == Json(""))) {
    causes.push_back({"FieldValueRequired", path + ".type",
                      "Required value: must not be empty for specified object fields"});
  }
  const Json* properties = member(schema, "properties");
  const Json* additional = member(schema, "additionalProperties");
  if (properties != nullptr && additional != nullptr) {
    causes.push_back({"FieldValueForbidden", path + ".additionalProperties",
                      "Forbidden: additionalProperties and properties are mutual exclusive"});
  }
  auto append = [&](std::vector<Cause> more) {
    causes.insert(causes.end(), more.begin(), more.end());
  };
  if (properties != nullptr && properties->is_object()) {
    for (auto it = properties->begin(); it != properties->end(); ++it) {
      append(checkStructural(*it, path + ".properties[" + it.key() + "]"));
    }
  }
  if (additional != nullptr && additional->is_object()) {
    append(checkStructural(*additional, path + ".additionalProperties"));
  }
  const Json* type = member(schema, "type");
  if (const Json* items = member(schema, "items")) {
    append(checkStructural(*items, path + ".items"));
  } else if (type != nullptr && *type == Json("array")) {
    causes.push_back({"FieldValueRequired", path + ".items", "Required value: must be specified"});
  }
  if (const Json* value = member(schema, "default")) {
    for (const Cause& cause : validate(*value, schema)) {
      causes.push_back({cause.reason, join(path + ".default", cause.field), cause.message});
    }
  }
  return causes;
}

}  // namespace postern::schema
