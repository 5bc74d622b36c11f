#include "apiserver/openapi.h"

#include "apiserver/openapi_schemas.h"
#include "base/strings.h"
#include "tls/x509.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

constexpr std::string_view kProtobufV2 = "com.github.proto-openapi.spec.v2@v1.0+protobuf";

std::string openApiPath(const schema::Kind& kind, const std::string& version) {
  std::string base = kind.group.empty() ? "/api/" + version : "/apis/" + kind.group + "/" + version;
  if (kind.namespaced) base += "/namespaces/{namespace}";
  return base + "/" + kind.plural;
}

Json queryParameter(const char* name, OpenApiVersion form) {
  Json out = {{"in", "query"}, {"name", name}};
  if (form == OpenApiVersion::kV2) {
    out["type"] = "string";
    out["uniqueItems"] = true;
  } else {
    out["schema"] = {{"type", "string"}, {"uniqueItems", true}};
  }
  return out;
}

Json operation(const char* action, const schema::Kind& kind, const std::string& version,
               OpenApiVersion form) {
  Json out = {{"x-kubernetes-action", action},
              {"x-kubernetes-group-version-kind", groupVersionKind(kind.group, version, kind.kind)},
              {"responses", {{"200", {{"description", "OK"}}}}}};
  if (std::string_view(action) != "get") {
    out["parameters"] =
        Json::array({queryParameter("dryRun", form), queryParameter("fieldManager", form),
                     queryParameter("fieldValidation", form)});
  }
  return out;
}

void addPaths(const schema::Kind& kind, const std::string& version, OpenApiVersion form,
              Json& paths) {
  const std::string collection = openApiPath(kind, version);
  paths[collection]["post"] = operation("post", kind, version, form);
  Json& one = paths[collection + "/{name}"];
  one["get"] = operation("get", kind, version, form);
  one["put"] = operation("put", kind, version, form);
  one["patch"] = operation("patch", kind, version, form);
}

Json info() { return {{"title", "Kubernetes"}, {"version", "v1.36.0"}}; }

Json documentV2(const Catalog& catalog) {
  Json paths = Json::object();
  Json definitions = builtinDefinitions(OpenApiVersion::kV2);
  for (const auto& served : catalog.all()) {
    for (const std::string& version : served->kind.versions) {
      addPaths(served->kind, version, OpenApiVersion::kV2, paths);
      if (served->kind.custom)
        definitions[definitionName(served->kind, version)] =
            customDefinition(*served, version, OpenApiVersion::kV2);
    }
  }
  return {{"swagger", "2.0"},
          {"info", info()},
          {"paths", std::move(paths)},
          {"definitions", std::move(definitions)}};
}

Json documentV3(const Catalog& catalog, const std::string& group, const std::string& version) {
  Json paths = Json::object();
  Json schemas = Json::object();
  for (const auto& served : catalog.all()) {
    const schema::Kind& kind = served->kind;
    if (kind.group != group ||
        std::find(kind.versions.begin(), kind.versions.end(), version) == kind.versions.end())
      continue;
    addPaths(kind, version, OpenApiVersion::kV3, paths);
    const std::string name = definitionName(kind, version);
    if (kind.custom) {
      Json schema = customDefinition(*served, version, OpenApiVersion::kV3);
      addReferenced(schema, schemas);
      schemas[name] = std::move(schema);
    } else {
      addReferenced({{"$ref", "#/components/schemas/" + name}}, schemas);
    }
  }
  return {{"openapi", "3.0.0"},
          {"info", info()},
          {"paths", std::move(paths)},
          {"components", {{"schemas", std::move(schemas)}}}};
}

// The protobuf form of version 2 (the message openapi.v2.Document), as far as kubectl reads it.

std::string varint(std::uint64_t value) {
  std::string out;
  while (value >= 0x80) {
    out += static_cast<char>((value & 0x7f) | 0x80);
    value >>= 7;
  }
  return out += static_cast<char>(value);
}

void add(std::string& out, unsigned number, std::string_view bytes) {
  out += varint(number << 3 | 2U);
  out += varint(bytes.size());
  out += bytes;
}

/// NamedX {1 name, 2 value}.
std::string named(std::string_view name, std::string_view value) {
  std::string out;
  add(out, 1, name);
  add(out, 2, value);
  return out;
}

/// Vendor extensions as YAML text, which JSON is.
void addExtensions(const Json& from, unsigned number, std::string& out) {
  for (const auto& [name, value] : from.items()) {
    if (!name.starts_with("x-")) continue;
    std::string any;
    add(any, 2, json::dump(value));
    add(out, number, named(name, any));
  }
}

std::string schemaMessage(const Json& schema) {
  std::string out;
  if (std::string ref = json::stringAt(schema, "$ref"); !ref.empty()) add(out, 1, ref);
  if (std::string format = json::stringAt(schema, "format"); !format.empty()) add(out, 2, format);
  if (std::string text = json::stringAt(schema, "description"); !text.empty()) add(out, 4, text);
  for (const Json& each : schema.value("required", Json::array()))
    if (each.is_string()) add(out, 19, each.get<std::string>());
  if (schema.contains("additionalProperties")) {
    std::string item;
    add(item, 1, schemaMessage(schema["additionalProperties"]));
    add(out, 21, item);
  }
  if (std::string type = json::stringAt(schema, "type"); !type.empty()) {
    std::string item;
    add(item, 1, type);
    add(out, 22, item);
  }
  if (schema.contains("items")) {
    std::string item;
    add(item, 1, schemaMessage(schema["items"]));
    add(out, 23, item);
  }
  if (schema.contains("properties")) {
    std::string all;
    for (const auto& [name, property] : schema["properties"].items())
      add(all, 1, named(name, schemaMessage(property)));
    add(out, 25, all);
  }
  addExtensions(schema, 31, out);
  return out;
}

std::string operationMessage(const Json& operation) {
  std::string out;
  for (const Json& parameter : operation.value("parameters", Json::array())) {
    std::string query;
    add(query, 2, json::stringAt(parameter, "in"));
    add(query, 4, json::stringAt(parameter, "name"));
    add(query, 6, json::stringAt(parameter, "type"));
    std::string non_body;
    add(non_body, 3, query);
    std::string wrapper;
    add(wrapper, 2, non_body);
    std::string item;
    add(item, 1, wrapper);
    add(out, 8, item);
  }
  addExtensions(operation, 13, out);
  return out;
}

std::string protobufV2(const Json& document) {
  std::string information;
  add(information, 1, json::stringAt(document, "info.title"));
  add(information, 2, json::stringAt(document, "info.version"));
  std::string paths;
  for (const auto& [path, operations] : document["paths"].items()) {
    std::string item;
    for (const auto& [method, number] : {std::pair{"get", 2U}, std::pair{"put", 3U},
                                         std::pair{"post", 4U}, std::pair{"patch", 8U}}) {
      if (operations.contains(method)) add(item, number, operationMessage(operations[method]));
    }
    add(paths, 2, named(path, item));
  }
  std::string definitions;
  for (const auto& [name, schema] : document["definitions"].items())
    add(definitions, 1, named(name, schemaMessage(schema)));
  std::string out;
  add(out, 1, json::stringAt(document, "swagger"));
  add(out, 2, information);
  add(out, 8, paths);
  add(out, 9, definitions);
  return out;
}

/// ("api/v1", "apis/apps/v1", …): key of the index and rest of the path.
std::string groupPath(const std::string& group, const std::string& version) {
  return group.empty() ? "api/" + version : "apis/" + group + "/" + version;
}

}  // namespace

/// The place for a body; empty when it is to be made.
std::string& OpenApi::cached(const std::string& key, const Catalog& catalog) {
  if (generation_ != catalog.generation()) {
    bodies_.clear();
    generation_ = catalog.generation();
  }
  return bodies_[key];
}

std::optional<Document> OpenApi::answer(const Call& call, const Catalog& catalog) {
  const auto& p = call.path;
  if (p.size() < 2 || p[0] != "openapi") return std::nullopt;
  if (p.size() == 2 && p[1] == "v2") {
    const bool protobuf = call.accept().find(kProtobufV2) != std::string::npos;
    std::string& body = cached(protobuf ? "v2+protobuf" : "v2", catalog);
    if (body.empty()) {
      const Json document = documentV2(catalog);
      body = protobuf ? protobufV2(document) : json::dump(document);
    }
    return Document{200, protobuf ? "application/octet-stream" : "application/json", body};
  }
  if (p[1] != "v3") return std::nullopt;
  if (p.size() == 2) {
    Json paths = Json::object();
    for (const auto& served : catalog.all()) {
      for (const std::string& version : served->kind.versions) {
        const std::string path = groupPath(served->kind.group, version);
        std::string& body = cached(path, catalog);
        if (body.empty()) body = json::dump(documentV3(catalog, served->kind.group, version));
        if (!paths.contains(path)) {
          paths[path] = {{"serverRelativeURL", "/openapi/v3/" + path + "?hash=" +
                                                   base::toHex(tls::sha256(body)).substr(0, 32)}};
        }
      }
    }
    return Document{200, "application/json", json::dump(Json{{"paths", std::move(paths)}})};
  }
  const bool core = p.size() == 4 && p[2] == "api";
  if (!core && !(p.size() == 5 && p[2] == "apis")) return std::nullopt;
  const std::string group = core ? "" : p[3];
  const std::string& version = p.back();
  if (!catalog.hasVersion(group, version)) return std::nullopt;
  std::string& body = cached(groupPath(group, version), catalog);
  if (body.empty()) body = json::dump(documentV3(catalog, group, version));
  return Document{200, "application/json", body};
}

}  // namespace postern::apiserver
