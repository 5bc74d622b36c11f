#include "apiserver/openapi_schemas.h"

#include "base/strings.h"
#include "schema/merge_keys.h"

#include <algorithm>
#include <map>

namespace postern::apiserver {
namespace {

using schema::Field;
using schema::Shape;
using schema::Type;
using schema::ValueKind;

std::string refTo(const std::string& name, OpenApiVersion form) {
  return (form == OpenApiVersion::kV2 ? "#/definitions/" : "#/components/schemas/") + name;
}

/// By which field name a type is usually reached, for the merge keys.
const std::map<const Type*, std::string_view>& parents() {
  static const std::map<const Type*, std::string_view> map = [] {
    std::map<const Type*, std::string_view> out;
    for (const Type& type : schema::builtinTypes()) {
      for (const Field& field : type.fields) {
        if (field.message != nullptr && !field.inlined) out.emplace(field.message, field.name);
      }
    }
    return out;
  }();
  return map;
}

Json oneSchema(const Field& field, OpenApiVersion form) {
  switch (field.value) {
    case ValueKind::kMessage:
      return {{"$ref", refTo(definitionName(*field.message), form)}};
    case ValueKind::kString:
    case ValueKind::kQuantity:
      return {{"type", "string"}};
    case ValueKind::kBytes:
      return {{"type", "string"}, {"format", "byte"}};
    case ValueKind::kBool:
      return {{"type", "boolean"}};
    case ValueKind::kInt32:
      return {{"type", "integer"}, {"format", "int32"}};
    case ValueKind::kInt64:
    case ValueKind::kUint32:
      return {{"type", "integer"}, {"format", "int64"}};
    case ValueKind::kDouble:
      return {{"type", "number"}, {"format", "double"}};
    case ValueKind::kTime:
    case ValueKind::kMicroTime:
      return {{"type", "string"}, {"format", "date-time"}};
    case ValueKind::kIntOrString:
      if (form == OpenApiVersion::kV2) return {{"type", "string"}, {"format", "int-or-string"}};
      return {{"format", "int-or-string"},
              {"oneOf", Json::array({{{"type", "integer"}}, {{"type", "string"}}})}};
    case ValueKind::kFieldsV1:
    case ValueKind::kRaw:
      return {{"type", "object"}};
    case ValueKind::kStrings:
      return {{"type", "array"}, {"items", {{"type", "string"}}}};
    case ValueKind::kAny:
      break;
  }
  return Json::object();
}

Json fieldSchema(const Type& type, const Field& field, OpenApiVersion form) {
  Json one = oneSchema(field, form);
  if (field.shape == Shape::kMap) return {{"type", "object"}, {"additionalProperties", one}};
  if (field.shape == Shape::kOne) return one;
  Json list = {{"type", "array"}, {"items", std::move(one)}};
  auto it = parents().find(&type);
  const std::string_view parent = it == parents().end() ? "" : it->second;
  if (std::string_view key = schema::mergeKey(parent, field.name); !key.empty()) {
    list["x-kubernetes-patch-strategy"] = "merge";
    list["x-kubernetes-patch-merge-key"] = std::string(key);
    list["x-kubernetes-list-type"] = "map";
    list["x-kubernetes-list-map-keys"] = schema::applyKeys(parent, field.name);
  } else if (schema::mergesAsSet(parent, field.name)) {
    list["x-kubernetes-patch-strategy"] = "merge";
    list["x-kubernetes-list-type"] = "set";
  }
  return list;
}

void addProperties(const Type& type, const Type& naming, OpenApiVersion form, Json& out) {
  for (const Field& field : type.fields) {
    if (field.inlined) {
      addProperties(*field.message, naming, form, out);
    } else {
      out[std::string(field.name)] = fieldSchema(naming, field, form);
    }
  }
}

Json identity() { return {{"apiVersion", {{"type", "string"}}}, {"kind", {{"type", "string"}}}}; }

Json typeDefinition(const Type& type, OpenApiVersion form) {
  Json properties = type.api_versions.empty() ? Json::object() : identity();
  addProperties(type, type, form, properties);
  Json out = {{"type", "object"}};
  if (!properties.empty()) out["properties"] = std::move(properties);
  Json kinds = Json::array();
  for (std::string_view api_version : type.api_versions) {
    const std::size_t slash = api_version.find('/');
    const bool core = slash == std::string_view::npos;
    kinds.push_back(
        groupVersionKind(core ? "" : std::string(api_version.substr(0, slash)),
                         std::string(core ? api_version : api_version.substr(slash + 1)),
                         std::string(type.shortName())));
  }
  if (!kinds.empty()) out["x-kubernetes-group-version-kind"] = std::move(kinds);
  return out;
}

/// A structural schema in the form of version 2, which lacks nullable, oneOf and the like and whose
/// readers take an object without `properties` for one with any fields.
Json forV2(const Json& in) {
  Json out = Json::object();
  if (!in.is_object()) return out;
  if (json::boolAt(in, "x-kubernetes-int-or-string"))
    return {{"type", "string"}, {"format", "int-or-string"}};
  for (const char* key : {"type", "format", "description", "enum", "required"}) {
    if (in.contains(key)) out[key] = in[key];
  }
  if (json::boolAt(in, "x-kubernetes-preserve-unknown-fields")) return out;
  if (in.contains("items")) out["items"] = forV2(in["items"]);
  if (in.contains("additionalProperties") && in["additionalProperties"].is_object())
    out["additionalProperties"] = forV2(in["additionalProperties"]);
  if (const Json* properties = json::find(in, "properties"); properties != nullptr) {
    for (const auto& [name, property] : properties->items())
      out["properties"][name] = forV2(property);
  }
  return out;
}

const Type& objectMeta() {
  static const Type& type =
      *std::find_if(schema::builtinTypes().begin(), schema::builtinTypes().end(),
                    [](const Type& each) { return each.name == "meta/v1.ObjectMeta"; });
  return type;
}

const std::map<std::string, const Type*>& typesByDefinition() {
  static const std::map<std::string, const Type*> map = [] {
    std::map<std::string, const Type*> out;
    for (const Type& type : schema::builtinTypes()) out[definitionName(type)] = &type;
    return out;
  }();
  return map;
}

}  // namespace

std::string definitionName(const Type& type) {
  std::string name(type.name);
  std::replace(name.begin(), name.end(), '/', '.');
  if (name.starts_with("meta.")) return "io.k8s.apimachinery.pkg.apis." + name;
  if (name.starts_with("apiextensions.")) return "io.k8s.apiextensions-apiserver.pkg.apis." + name;
  if (name.starts_with("apiregistration.")) return "io.k8s.kube-aggregator.pkg.apis." + name;
  return "io.k8s.api." + name;
}

std::string definitionName(const schema::Kind& kind, const std::string& version) {
  if (const Type* type = schema::builtinType(kind.apiVersion(version), kind.kind))
    return definitionName(*type);
  std::string name;
  for (std::string_view part : base::split(kind.group, '.'))
    name = std::string(part) + (name.empty() ? "" : ".") + name;
  return name + "." + version + "." + kind.kind;
}

Json groupVersionKind(const std::string& group, const std::string& version,
                      const std::string& kind) {
  return {{"group", group}, {"version", version}, {"kind", kind}};
}

Json builtinDefinitions(OpenApiVersion form) {
  Json out = Json::object();
  for (const auto& [name, type] : typesByDefinition()) out[name] = typeDefinition(*type, form);
  return out;
}

void addReferenced(const Json& schema, Json& definitions) {
  if (schema.is_object()) {
    auto ref = schema.find("$ref");
    if (ref != schema.end() && ref->is_string()) {
      const std::string& path = ref->get_ref<const std::string&>();
      const std::string name = path.substr(path.rfind('/') + 1);
      auto it = typesByDefinition().find(name);
      if (it == typesByDefinition().end() || definitions.contains(name)) return;
      definitions[name] = typeDefinition(*it->second, OpenApiVersion::kV3);
      // A copy: adding to `definitions` may move what it holds.
      const Json added = definitions[name];
      addReferenced(added, definitions);
      return;
    }
  }
  if (schema.is_structured()) {
    for (const Json& each : schema) addReferenced(each, definitions);
  }
}

Json customDefinition(const Served& served, const std::string& version, OpenApiVersion form) {
  const ServedVersion* info = served.version(version);
  Json out = info != nullptr && info->schema.is_object() ? info->schema : Json{{"type", "object"}};
  if (form == OpenApiVersion::kV2) out = forV2(out);
  if (out.contains("properties")) {
    out["properties"].update(identity());
    out["properties"]["metadata"] = {{"$ref", refTo(definitionName(objectMeta()), form)}};
  }
  out["x-kubernetes-group-version-kind"] =
      Json::array({groupVersionKind(served.kind.group, version, served.kind.kind)});
  return out;
}

}  // namespace postern::apiserver
