#include "apiserver/patch.h"

#include "schema/merge_keys.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

constexpr std::string_view kOrder = "$setElementOrder/";
constexpr std::string_view kDelete = "$deleteFromPrimitiveList/";

const Json* directive(const Json& patch, const char* name) {
  if (!patch.is_object()) return nullptr;
  auto it = patch.find(name);
  return it == patch.end() ? nullptr : &*it;
}

void dropItem(Json& list, const std::string& key, const Json& value) {
  for (auto it = list.begin(); it != list.end();) {
    it = it->is_object() && it->value(key, Json()) == value ? list.erase(it) : it + 1;
  }
}

/// Items named by `order` in that order; the others keep their place relative to the item that
/// came before them.
void sortBy(Json& list, const std::string& key, const Json& order) {
  auto keyOf = [&](const Json& item) {
    return key.empty() ? item : (item.is_object() ? item.value(key, Json()) : Json());
  };
  Json sorted = Json::array();
  std::vector<bool> used(list.size(), false);
  for (const Json& wanted : order) {
    Json value = key.empty() ? wanted : keyOf(wanted);
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (!used[i] && keyOf(list[i]) == value) {
        sorted.push_back(list[i]);
        used[i] = true;
        break;
      }
    }
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (used[i]) continue;
    std::size_t at = 0;
    for (std::size_t s = 0; s < sorted.size() && i > 0; ++s) {
      if (sorted[s] == list[i - 1]) at = s + 1;
    }
    if (i > 0 && at == 0) at = sorted.size();
    sorted.insert(sorted.begin() + static_cast<std::ptrdiff_t>(at), list[i]);
  }
  list = std::move(sorted);
}

class Strategic {
 public:
  ApiResult<Json> object(Json current, const Json& patch, const std::string& field) {
    if (!current.is_object()) current = Json::object();
    if (const Json* how = directive(patch, "$patch")) {
      if (*how == Json("delete")) return Json();
      if (*how == Json("replace")) {
        Json replaced = patch;
        replaced.erase("$patch");
        return replaced;
      }
    }
    if (const Json* keep = directive(patch, "$retainKeys"); keep && keep->is_array()) {
      for (auto it = current.begin(); it != current.end();) {
        bool kept = std::find(keep->begin(), keep->end(), Json(it.key())) != keep->end();
        it = kept ? std::next(it) : current.erase(it);
      }
    }
    for (auto it = patch.begin(); it != patch.end(); ++it) {
      const std::string& name = it.key();
      if (name.starts_with('$')) continue;
      if (it->is_null()) {
        current.erase(name);
      } else if (it->is_object()) {
        Json child = current.contains(name) ? current[name] : Json::object();
        auto merged = object(std::move(child), *it, name);
        if (!merged) return merged;
        if (merged->is_null())
          current.erase(name);
        else
          current[name] = std::move(*merged);
      } else if (it->is_array()) {
        Json list = current.contains(name) ? current[name] : Json();
        auto merged = array(std::move(list), *it, field, name);
        if (!merged) return merged;
        current[name] = std::move(*merged);
      } else {
        current[name] = *it;
      }
    }
    directives(current, patch, field);
    return current;
  }

 private:
  static void directives(Json& current, const Json& patch, const std::string& field) {
    for (auto it = patch.begin(); it != patch.end(); ++it) {
      std::string_view name = it.key();
      if (name.starts_with(kDelete) && it->is_array()) {
        std::string list(name.substr(kDelete.size()));
        if (!current.contains(list) || !current[list].is_array()) continue;
        Json kept = Json::array();
        for (const Json& item : current[list]) {
          if (std::find(it->begin(), it->end(), item) == it->end()) kept.push_back(item);
        }
        current[list] = std::move(kept);
      }
      if (name.starts_with(kOrder) && it->is_array()) {
        std::string list(name.substr(kOrder.size()));
        if (!current.contains(list) || !current[list].is_array()) continue;
        sortBy(current[list], std::string(schema::mergeKey(field, list)), *it);
      }
    }
  }

  ApiResult<Json> array(Json current, const Json& patch, const std::string& parent,
                        const std::string& field) {
    std::string key(schema::mergeKey(parent, field));
    bool is_set = schema::mergesAsSet(parent, field);
    Json plain = Json::array();
    bool replace = key.empty() && !is_set;
    for (const Json& item : patch) {
      if (const Json* how = directive(item, "$patch"); how && *how == Json("replace"))
        replace = true;
      else
        plain.push_back(item);
    }
    if (replace) return plain;
    if (!current.is_array()) current = Json::array();
    if (is_set) {
      for (const Json& item : patch) {
        if (std::find(current.begin(), current.end(), item) == current.end()) {
          current.push_back(item);
        }
      }
      return current;
    }
    Json added = Json::array();
    for (const Json& item : patch) {
      if (!item.is_object() || !item.contains(key)) {
        return failed(badRequest("map: " + json::dump(item) +
                                 " does not contain declared merge key: " + key));
      }
      if (const Json* how = directive(item, "$patch"); how && *how == Json("delete")) {
        dropItem(current, key, item[key]);
        continue;
      }
      auto same = std::find_if(current.begin(), current.end(), [&](const Json& c) {
        return c.is_object() && c.value(key, Json()) == item[key];
      });
      auto merged = object(same == current.end() ? Json::object() : *same, item, field);
      if (!merged) return merged;
      if (same == current.end())
        added.push_back(std::move(*merged));
      else
        *same = std::move(*merged);
    }
    for (const Json& item : current) added.push_back(item);  // new items come first, as upstream
    return added;
  }
};

}  // namespace

ApiResult<Json> jsonPatch(const Json& object, const Json& patch) {
  if (!patch.is_array()) return failed(badRequest("a JSON patch must be an array of operations"));
  if (patch.size() > kPatchOperationsMax) {
    return failed(badRequest("the JSON patch has more than " + std::to_string(kPatchOperationsMax) +
                             " operations"));
  }
  try {
    return object.patch(patch);
  } catch (const nlohmann::json::parse_error& e) {
    return failed(badRequest(e.what()));
  } catch (const nlohmann::json::exception&) {
    return failed(unprocessable());
  }
}

Json mergePatch(const Json& object, const Json& patch) {
  Json result = object;
  result.merge_patch(patch);
  return result;
}

ApiResult<Json> strategicPatch(const Json& object, const Json& patch) {
  if (!patch.is_object()) return failed(badRequest("a strategic merge patch must be an object"));
  return Strategic().object(object, patch, "");
}

}  // namespace postern::apiserver
