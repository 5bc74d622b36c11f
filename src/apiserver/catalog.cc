#include "apiserver/catalog.h"

#include "base/strings.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

constexpr const char* kDefinitions = "apiextensions.k8s.io/customresourcedefinitions";

bool isEstablished(const Json& definition) {
  const Json* conditions = json::find(definition, "status.conditions");
  if (conditions == nullptr || !conditions->is_array()) return false;
  return std::any_of(conditions->begin(), conditions->end(), [](const Json& c) {
    return json::stringAt(c, "type") == "Established" && json::stringAt(c, "status") == "True";
  });
}

Json condition(const char* type, const char* reason, const char* message, const std::string& now) {
  return {{"type", type},
          {"status", "True"},
          {"reason", reason},
          {"message", message},
          {"lastTransitionTime", now}};
}

std::shared_ptr<const Served> servedOf(const Json& definition) {
  auto served = std::make_shared<Served>();
  schema::Kind& k = served->kind;
  k.custom = true;
  k.generation = true;
  k.group = json::stringAt(definition, "spec.group");
  k.plural = json::stringAt(definition, "spec.names.plural");
  k.singular = json::stringAt(definition, "spec.names.singular");
  k.kind = json::stringAt(definition, "spec.names.kind");
  k.list_kind = json::stringAt(definition, "spec.names.listKind");
  k.short_names = json::stringsAt(definition, "spec.names.shortNames");
  k.categories = json::stringsAt(definition, "spec.names.categories");
  k.namespaced = json::stringAt(definition, "spec.scope") == "Namespaced";
  k.storage = k.group + "/" + k.plural;
  const Json* versions = json::find(definition, "spec.versions");
  if (versions == nullptr || !versions->is_array()) return served;
  for (const Json& v : *versions) {
    if (!json::boolAt(v, "served", true)) continue;
    std::string name = json::stringAt(v, "name");
    ServedVersion info;
    if (const Json* s = json::find(v, "schema.openAPIV3Schema")) info.schema = *s;
    if (const Json* c = json::find(v, "additionalPrinterColumns")) info.printer_columns = *c;
    if (const Json* c = json::find(v, "subresources.scale")) info.scale = *c;
    info.status = json::find(v, "subresources.status") != nullptr;
    k.status = k.status || info.status;
    k.scale = k.scale || !info.scale.is_null();
    if (json::boolAt(v, "storage")) k.storage_version = k.apiVersion(name);
    k.versions.push_back(name);
    served->versions[name] = std::move(info);
  }
  // Preference: stable before beta before alpha, higher numbers first.
  auto rank = [](const std::string& v) {
    int stage = v.find("alpha") != std::string::npos  ? 0
                : v.find("beta") != std::string::npos ? 1
                                                      : 2;
    return std::make_pair(stage, v);
  };
  std::sort(k.versions.begin(), k.versions.end(),
            [&](const auto& a, const auto& b) { return rank(a) > rank(b); });
  return served;
}

}  // namespace

Catalog::Catalog(event::Loop& loop, store::Store& store)
    : loop_(loop), store_(store), later_(loop, [this] { rebuild(); }) {
  rebuild();
  subscription_ = store_.subscribe(
      kDefinitions, [this](const store::Change&) { later_.arm(std::chrono::milliseconds(0)); });
}

void Catalog::rebuild() {
  all_.clear();
  for (const schema::Kind& kind : schema::builtinKinds()) {
    auto served = std::make_shared<Served>();
    served->kind = kind;
    all_.push_back(std::move(served));
  }
  for (const store::ObjectPtr& definition : store_.list(kDefinitions)) {
    if (!isEstablished(*definition)) {
      accept(*definition);
      continue;  // the write above brings us here again
    }
    all_.push_back(servedOf(*definition));
  }
  ++generation_;
}

void Catalog::accept(const Json& definition) {
  std::string now = formatTime(loop_.clock().wall());
  Json updated = definition;
  Json status = Json::object();
  status["acceptedNames"] = *json::find(definition, "spec.names");
  status["conditions"] = {condition("NamesAccepted", "NoConflicts", "no conflicts found", now),
                          condition("Established", "InitialNamesAccepted",
                                    "the initial names have been accepted", now)};
  status["storedVersions"] = Json::array();
  for (const Json& v : *json::find(definition, "spec.versions")) {
    if (json::boolAt(v, "storage")) status["storedVersions"].push_back(json::stringAt(v, "name"));
  }
  updated["status"] = std::move(status);
  (void)store_.put(kDefinitions, "", json::stringAt(definition, "metadata.name"),
                   std::move(updated));
}

std::shared_ptr<const Served> Catalog::find(const std::string& group, const std::string& version,
                                            const std::string& plural) const {
  for (const auto& served : all_) {
    const schema::Kind& k = served->kind;
    if (k.group == group && k.plural == plural &&
        std::find(k.versions.begin(), k.versions.end(), version) != k.versions.end()) {
      return served;
    }
  }
  return nullptr;
}

bool Catalog::hasVersion(const std::string& group, const std::string& version) const {
  return std::any_of(all_.begin(), all_.end(), [&](const auto& served) {
    const schema::Kind& k = served->kind;
    return k.group == group &&
           std::find(k.versions.begin(), k.versions.end(), version) != k.versions.end();
  });
}

void completeDefinition(Json& definition) {
  if (!definition.contains("spec") || !definition["spec"].is_object()) return;
  Json& spec = definition["spec"];
  if (!spec.contains("versions") && spec.contains("version")) {
    spec["versions"] =
        Json::array({{{"name", spec["version"]}, {"served", true}, {"storage", true}}});
  }
  spec.erase("version");
  if (spec.contains("versions") && spec["versions"].is_array()) {
    for (Json& v : spec["versions"]) {
      if (!v.is_object()) continue;
      if (spec.contains("validation") && !v.contains("schema")) v["schema"] = spec["validation"];
      for (const char* name : {"subresources", "additionalPrinterColumns"}) {
        if (spec.contains(name) && !v.contains(name)) v[name] = spec[name];
      }
      if (json::stringAt(definition, "apiVersion").ends_with("v1beta1") && !v.contains("schema")) {
        v["schema"]["openAPIV3Schema"] = {{"type", "object"},
                                          {"x-kubernetes-preserve-unknown-fields", true}};
      }
      if (v.contains("additionalPrinterColumns") && v["additionalPrinterColumns"].is_array()) {
        for (Json& c : v["additionalPrinterColumns"]) {
          if (c.is_object() && c.contains("JSONPath")) {
            c["jsonPath"] = c["JSONPath"];
            c.erase("JSONPath");
          }
        }
      }
    }
  }
  for (const char* name :
       {"validation", "subresources", "additionalPrinterColumns", "preserveUnknownFields"}) {
    spec.erase(name);
  }
  if (!spec.contains("names") || !spec["names"].is_object()) return;
  Json& names = spec["names"];
  std::string kind = json::stringAt(names, "kind");
  if (!names.contains("singular")) names["singular"] = base::toLower(kind);
  if (!names.contains("listKind")) names["listKind"] = kind + "List";
  if (!spec.contains("conversion")) spec["conversion"] = {{"strategy", "None"}};
  if (!spec.contains("scope")) spec["scope"] = "Namespaced";
  definition["apiVersion"] = "apiextensions.k8s.io/v1";
}

std::vector<schema::Cause> checkDefinition(const Json& definition) {
  std::vector<schema::Cause> causes;
  auto required = [&](const char* path) {
    if (json::stringAt(definition, path).empty()) {
      causes.push_back({"FieldValueRequired", path, "Required value"});
    }
  };
  for (const char* path : {"spec.group", "spec.names.plural", "spec.names.kind", "spec.scope"}) {
    required(path);
  }
  std::string name = json::stringAt(definition, "spec.names.plural") + "." +
                     json::stringAt(definition, "spec.group");
  std::string actual = json::stringAt(definition, "metadata.name");
  if (name != actual) {
    causes.push_back(
        {"FieldValueInvalid", "metadata.name",
         "Invalid value: \"" + actual + "\": must be spec.names.plural+\".\"+spec.group"});
  }
  const Json* versions = json::find(definition, "spec.versions");
  if (versions == nullptr || !versions->is_array() || versions->empty()) {
    causes.push_back({"FieldValueRequired", "spec.versions", "Required value"});
    return causes;
  }
  std::size_t stored = 0;
  for (std::size_t i = 0; i < versions->size(); ++i) {
    const Json& v = (*versions)[i];
    std::string at = "spec.versions[" + std::to_string(i) + "]";
    stored += json::boolAt(v, "storage") ? 1 : 0;
    const Json* s = json::find(v, "schema.openAPIV3Schema");
    if (s == nullptr) {
      causes.push_back({"FieldValueRequired", at + ".schema.openAPIV3Schema",
                        "Required value: schemas are required"});
      continue;
    }
    for (schema::Cause& c : schema::checkStructural(*s, at + ".schema.openAPIV3Schema")) {
      causes.push_back(std::move(c));
    }
  }
  if (stored != 1) {
    causes.push_back({"FieldValueInvalid", "spec.versions",
                      "Invalid value: \"array\": must have exactly one version marked as storage "
                      "version"});
  }
  return causes;
}

}  // namespace postern::apiserver
