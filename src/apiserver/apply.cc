#include "apiserver/apply.h"

#include "schema/merge_keys.h"

#include <algorithm>
#include <map>
#include <set>

namespace postern::apiserver {
namespace {

using Path = std::vector<std::string>;  // FieldsV1 steps: "f:spec", "k:{…}"
using Leaves = std::map<Path, Json>;    // leaf path → value

const Json* member(const Json* schema, const char* name) {
  if (schema == nullptr || !schema->is_object()) return nullptr;
  auto it = schema->find(name);
  return it == schema->end() ? nullptr : &*it;
}

const Json* childSchema(const Json* schema, const std::string& field) {
  if (const Json* properties = member(schema, "properties")) {
    if (const Json* child = member(properties, field.c_str())) return child;
  }
  return member(schema, "additionalProperties");
}

std::vector<std::string> keysOf(const Json* schema, bool custom, const std::string& parent,
                                const std::string& field) {
  if (!custom || parent == "metadata") return schema::applyKeys(parent, field);
  const Json* type = member(schema, "x-kubernetes-list-type");
  const Json* keys = member(schema, "x-kubernetes-list-map-keys");
  if (type == nullptr || *type != Json("map") || keys == nullptr || !keys->is_array()) return {};
  std::vector<std::string> out;
  for (const Json& k : *keys) {
    if (k.is_string()) out.push_back(k.get<std::string>());
  }
  return out;
}

std::string keyStep(const Json& item, const std::vector<std::string>& keys) {
  Json key = Json::object();
  for (const std::string& k : keys) {
    if (item.contains(k))
      key[k] = item[k];
    else if (k == "protocol")
      key[k] = "TCP";
  }
  return "k:" + json::dump(key);
}

bool owned(const Path& path) {  // fields nobody manages
  if (path.size() == 1 && (path[0] == "f:apiVersion" || path[0] == "f:kind")) return false;
  static const std::set<std::string> kSystem{"f:name",          "f:namespace",
                                             "f:uid",           "f:resourceVersion",
                                             "f:generation",    "f:creationTimestamp",
                                             "f:managedFields", "f:deletionTimestamp",
                                             "f:selfLink",      "f:deletionGracePeriodSeconds"};
  return !(path.size() == 2 && path[0] == "f:metadata" && kSystem.contains(path[1]));
}

void collect(const Json& value, const Json* schema, bool custom, const std::string& parent,
             const std::string& field, Path& path, Leaves& out) {
  bool atomic = custom && member(schema, "x-kubernetes-map-type") != nullptr &&
                *member(schema, "x-kubernetes-map-type") == Json("atomic");
  if (value.is_object() && !value.empty() && !atomic &&
      (custom || !schema::isAtomicMap(parent, field))) {
    for (auto it = value.begin(); it != value.end(); ++it) {
      path.push_back("f:" + it.key());
      if (owned(path)) {
        const std::string& next_parent = field;
        collect(*it, childSchema(schema, it.key()), custom, next_parent, it.key(), path, out);
      }
      path.pop_back();
    }
    return;
  }
  std::vector<std::string> keys =
      value.is_array() ? keysOf(schema, custom, parent, field) : std::vector<std::string>();
  bool keyed = !keys.empty() && std::all_of(value.begin(), value.end(),
                                            [](const Json& item) { return item.is_object(); });
  if (!keyed) {
    out[path] = value;
    return;
  }
  for (const Json& item : value) {
    path.push_back(keyStep(item, keys));
    collect(item, member(schema, "items"), custom, parent, field, path, out);
    path.pop_back();
  }
}

Leaves leavesOf(const Json& object, const Json* schema) {
  Leaves out;
  Path path;
  if (object.is_object() && !object.empty()) {
    collect(object, schema, schema != nullptr, "", "", path, out);
  }
  return out;
}

Json toFields(const std::set<Path>& paths) {
  Json fields = Json::object();
  for (const Path& path : paths) {
    Json* at = &fields;
    for (const std::string& step : path) {
      at = &(*at)[step];
      if (at->is_null()) *at = Json::object();
      if (step.starts_with("k:")) (*at)["."] = Json::object();
    }
  }
  return fields;
}

void fromFields(const Json& fields, Path& path, std::set<Path>& out) {
  bool leaf = true;
  for (auto it = fields.begin(); it != fields.end(); ++it) {
    if (it.key() == ".") continue;
    leaf = false;
    path.push_back(it.key());
    fromFields(*it, path, out);
    path.pop_back();
  }
  if (leaf && !path.empty()) out.insert(path);
}

std::set<Path> pathsOf(const Json& entry) {
  std::set<Path> out;
  Path path;
  const Json* fields = json::find(entry, "fieldsV1");
  if (fields != nullptr && fields->is_object()) fromFields(*fields, path, out);
  return out;
}

std::string shown(const Path& path) {
  std::string out;
  for (const std::string& step : path) {
    out += step.starts_with("f:") ? "." + step.substr(2) : "[" + step.substr(2) + "]";
  }
  return out;
}

bool matches(const Json& item, const Json& key) {
  if (!item.is_object()) return false;
  for (auto it = key.begin(); it != key.end(); ++it) {
    Json have = item.value(it.key(), it.key() == "protocol" ? Json("TCP") : Json());
    if (have != *it) return false;
  }
  return true;
}

void assign(Json& root, const Path& path, const Json& value) {
  Json* at = &root;
  for (const std::string& step : path) {
    if (step.starts_with("f:")) {
      if (!at->is_object()) *at = Json::object();
      at = &(*at)[step.substr(2)];
      continue;
    }
    Json key = json::parse(step.substr(2)).value_or(Json::object());
    if (!at->is_array()) *at = Json::array();
    auto it = std::find_if(at->begin(), at->end(), [&](const Json& i) { return matches(i, key); });
    if (it == at->end()) {
      at->push_back(key);
      at = &at->back();
    } else {
      at = &*it;
    }
  }
  *at = value;
}

void erase(Json& at, const Path& path, std::size_t depth) {
  const std::string& step = path[depth];
  bool last = depth + 1 == path.size();
  if (step.starts_with("f:")) {
    auto it = at.is_object() ? at.find(step.substr(2)) : at.end();
    if (it == at.end()) return;
    if (!last) erase(*it, path, depth + 1);
    if (last || (it->is_structured() && it->empty())) at.erase(it);
    return;
  }
  if (!at.is_array()) return;
  Json key = json::parse(step.substr(2)).value_or(Json::object());
  for (auto it = at.begin(); it != at.end(); ++it) {
    if (!matches(*it, key)) continue;
    if (!last) erase(*it, path, depth + 1);
    if (last || it->size() <= key.size()) at.erase(it);
    return;
  }
}

bool below(const std::set<Path>& paths, const Path& prefix) {
  auto it = paths.lower_bound(prefix);
  return it != paths.end() && it->size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), it->begin());
}

/// What goes with a field that its applier no longer names: the list item it is in, when nobody
/// owns any of it (the item's defaulted fields belong to nobody), else the field.
Path removal(const Path& path, const std::set<Path>& mine, const std::set<Path>& others) {
  for (std::size_t size = 1; size < path.size(); ++size) {
    if (!path[size - 1].starts_with("k:")) continue;
    Path item(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(size));
    if (!below(mine, item) && !below(others, item)) return item;
  }
  return path;
}

Json entry(const std::string& manager, const char* operation, const std::string& api_version,
           const std::string& subresource, const std::set<Path>& paths) {
  Json e = {{"manager", manager},
            {"operation", operation},
            {"apiVersion", api_version},
            {"fieldsType", "FieldsV1"},
            {"fieldsV1", toFields(paths)}};
  if (!subresource.empty()) e["subresource"] = subresource;
  return e;
}

Json managedOf(const Json& object) {
  const Json* managed = json::find(object, "metadata.managedFields");
  return managed != nullptr && managed->is_array() ? *managed : Json::array();
}

}  // namespace

ApiResult<Json> applyPatch(const Json& live, const Json& config, const std::string& manager,
                           const std::string& subresource, bool force, const Json* schema) {
  if (json::find(config, "metadata.managedFields") != nullptr) {
    return failed(badRequest("metadata.managedFields must be nil"));
  }
  const Json* rules = schema != nullptr && schema->is_object() ? schema : nullptr;
  Leaves wanted = leavesOf(config, rules);
  Leaves have = live.is_object() ? leavesOf(live, rules) : Leaves();
  Json managed = managedOf(live);
  std::set<Path> before;
  std::set<Path> others;
  Json kept = Json::array();
  Json causes = Json::array();
  std::string who;
  for (const Json& e : managed) {
    bool own = json::stringAt(e, "manager") == manager &&
               json::stringAt(e, "operation") == "Apply" &&
               json::stringAt(e, "subresource") == subresource;
    std::set<Path> paths = pathsOf(e);
    if (own) {
      before = std::move(paths);
      continue;
    }
    for (const auto& [path, value] : wanted) {
      auto current = have.find(path);
      if (!paths.contains(path) || current == have.end() || current->second == value) continue;
      if (force) {
        paths.erase(path);
        continue;
      }
      std::string name = json::stringAt(e, "manager");
      who = "conflict with \"" + name + "\": " + shown(path);
      causes.push_back({{"reason", "FieldManagerConflict"},
                        {"message", "conflict with \"" + name + "\""},
                        {"field", shown(path)}});
    }
    others.insert(paths.begin(), paths.end());
    if (paths.empty()) continue;
    Json changed = e;
    changed["fieldsV1"] = toFields(paths);
    kept.push_back(std::move(changed));
  }
  if (!causes.empty()) {
    std::string count = std::to_string(causes.size());
    std::string message =
        "Apply failed with " + count + (causes.size() == 1 ? " conflict: " + who : " conflicts");
    return failed({409, "Conflict", std::move(message), {{"causes", std::move(causes)}}});
  }
  Json merged = live.is_object() ? live : config;
  std::set<Path> mine;
  for (const auto& [path, value] : wanted) {
    mine.insert(path);
    if (live.is_object()) assign(merged, path, value);
  }
  for (const Path& path : before) {
    if (mine.contains(path) || others.contains(path)) continue;
    erase(merged, removal(path, mine, others), 0);
  }
  kept.push_back(entry(manager, "Apply", json::stringAt(config, "apiVersion"), subresource, mine));
  merged["metadata"]["managedFields"] = std::move(kept);
  std::string version = json::stringAt(config, "metadata.resourceVersion");
  if (!version.empty()) merged["metadata"]["resourceVersion"] = version;
  return merged;
}

void trackUpdate(const Json* old, Json& object, const std::string& manager,
                 const std::string& subresource, const std::string& now) {
  Json managed = managedOf(object);
  if (managed.empty() && old != nullptr) managed = managedOf(*old);
  if (managed.empty()) return;
  // An apply has just written its own entry; it needs only the time.
  bool applied = old == nullptr || managed != managedOf(*old);
  if (!applied) {
    Leaves before = leavesOf(*old, nullptr);
    std::set<Path> changed;
    for (const auto& [path, value] : leavesOf(object, nullptr)) {
      auto it = before.find(path);
      if (it == before.end() || it->second != value) changed.insert(path);
    }
    Json kept = Json::array();
    for (const Json& e : managed) {
      std::set<Path> paths = pathsOf(e);
      if (json::stringAt(e, "manager") == manager && json::stringAt(e, "operation") == "Update" &&
          json::stringAt(e, "subresource") == subresource) {
        changed.insert(paths.begin(), paths.end());
        continue;
      }
      for (const Path& path : changed) paths.erase(path);
      if (paths.empty()) continue;
      Json copy = e;
      copy["fieldsV1"] = toFields(paths);
      kept.push_back(std::move(copy));
    }
    if (!changed.empty()) {
      kept.push_back(
          entry(manager, "Update", json::stringAt(object, "apiVersion"), subresource, changed));
    }
    managed = std::move(kept);
  }
  for (Json& e : managed) {
    if (!e.contains("time")) e["time"] = now;
  }
  object["metadata"]["managedFields"] = std::move(managed);
}

}  // namespace postern::apiserver
