#include "apiserver/selectors.h"

#include "base/strings.h"

#include <algorithm>
#include <map>

namespace postern::apiserver {
namespace {

/// Splits at commas that are not inside parentheses.
std::vector<std::string_view> terms(std::string_view text) {
  std::vector<std::string_view> out;
  int depth = 0;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      out.push_back(base::trim(text.substr(start, i - start)));
      start = i + 1;
    } else if (text[i] == '(') {
      ++depth;
    } else if (text[i] == ')') {
      --depth;
    }
  }
  return out;
}

bool isKey(std::string_view key) {
  if (key.empty()) return false;
  return std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == '/';
  });
}

const std::map<std::string, std::vector<std::string>, std::less<>>& extraFields() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> fields{
      {"/pods",
       {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"}},
      {"/events",
       {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
        "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
        "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"}},
      {"/secrets", {"type"}},
      {"/namespaces", {"status.phase"}},
      {"/nodes", {"spec.unschedulable"}},
      {"apps/replicasets", {"status.replicas"}}};
  return fields;
}

}  // namespace

ApiResult<LabelSelector> LabelSelector::parse(std::string_view text) {
  LabelSelector selector;
  if (base::trim(text).empty()) return selector;
  for (std::string_view term : terms(text)) {
    auto bad = [&] {
      return failed(badRequest("unable to parse requirement: invalid label selector term: " +
                               std::string(term)));
    };
    Requirement r{"", Op::kIn, {}};
    std::size_t open = term.find('(');
    if (open != std::string_view::npos) {
      if (term.back() != ')') return bad();
      std::string_view head = base::trim(term.substr(0, open));
      std::size_t space = head.find_last_of(" \t");
      if (space == std::string_view::npos) return bad();
      std::string_view word = head.substr(space + 1);
      if (word != "in" && word != "notin") return bad();
      r.op = word == "in" ? Op::kIn : Op::kNotIn;
      r.key = base::trim(head.substr(0, space));
      for (std::string_view v : base::split(term.substr(open + 1, term.size() - open - 2), ',')) {
        r.values.emplace_back(base::trim(v));
      }
    } else if (std::size_t equals = term.find('='); equals != std::string_view::npos) {
      bool negated = equals > 0 && term[equals - 1] == '!';
      std::string_view value = term.substr(equals + 1);
      if (!negated && value.starts_with('=')) value.remove_prefix(1);
      r.op = negated ? Op::kNotIn : Op::kIn;
      r.key = base::trim(term.substr(0, negated ? equals - 1 : equals));
      r.values.emplace_back(base::trim(value));
    } else if (term.starts_with('!')) {
      r.op = Op::kAbsent;
      r.key = base::trim(term.substr(1));
    } else {
      r.op = Op::kExists;
      r.key = term;
    }
    if (!isKey(r.key)) return bad();
    selector.requirements_.push_back(std::move(r));
  }
  return selector;
}

LabelSelector LabelSelector::fromJson(const Json& selector) {
  LabelSelector out;
  if (const Json* labels = json::find(selector, "matchLabels"); labels && labels->is_object()) {
    for (auto it = labels->begin(); it != labels->end(); ++it) {
      if (it->is_string())
        out.requirements_.push_back({it.key(), Op::kIn, {it->get<std::string>()}});
    }
  }
  const Json* expressions = json::find(selector, "matchExpressions");
  if (expressions == nullptr || !expressions->is_array()) return out;
  for (const Json& e : *expressions) {
    Requirement r{json::stringAt(e, "key"), Op::kExists, {}};
    std::string op = json::stringAt(e, "operator");
    if (op == "In") r.op = Op::kIn;
    if (op == "NotIn") r.op = Op::kNotIn;
    if (op == "DoesNotExist") r.op = Op::kAbsent;
    if (const Json* values = json::find(e, "values"); values && values->is_array()) {
      for (const Json& v : *values) {
        if (v.is_string()) r.values.push_back(v.get<std::string>());
      }
    }
    out.requirements_.push_back(std::move(r));
  }
  return out;
}

bool LabelSelector::matches(const Json& object) const {
  if (requirements_.empty()) return true;
  const Json* labels = json::find(object, "metadata.labels");
  return matchesLabels(labels == nullptr ? Json::object() : *labels);
}

bool LabelSelector::matchesLabels(const Json& labels) const {
  return std::all_of(requirements_.begin(), requirements_.end(), [&](const Requirement& r) {
    auto it = labels.is_object() ? labels.find(r.key) : labels.end();
    bool present = it != labels.end() && it->is_string();
    if (r.op == Op::kExists) return present;
    if (r.op == Op::kAbsent) return !present;
    bool in = present && std::find(r.values.begin(), r.values.end(),
                                   it->get_ref<const std::string&>()) != r.values.end();
    return r.op == Op::kIn ? in : !in;
  });
}

ApiResult<FieldSelector> FieldSelector::parse(std::string_view text, const schema::Kind& kind) {
  FieldSelector selector;
  if (base::trim(text).empty()) return selector;
  auto extra = extraFields().find(kind.storage);
  for (std::string_view term : base::split(text, ',')) {
    std::size_t equals = term.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return failed(badRequest("invalid field selector: \"" + std::string(term) + "\""));
    }
    bool equal = term[equals - 1] != '!';
    std::string_view value = term.substr(equals + 1);
    if (equal && value.starts_with('=')) value.remove_prefix(1);
    std::string path(base::trim(term.substr(0, equal ? equals : equals - 1)));
    bool known = path == "metadata.name" || path == "metadata.namespace";
    if (!known && extra != extraFields().end()) {
      known = std::find(extra->second.begin(), extra->second.end(), path) != extra->second.end();
    }
    if (!known) return failed(badRequest("field label not supported: " + path));
    if (path == "source") path = "source.component";
    selector.terms_.push_back({std::move(path), std::string(base::trim(value)), equal});
  }
  return selector;
}

bool FieldSelector::matches(const Json& object) const {
  return std::all_of(terms_.begin(), terms_.end(), [&](const Term& t) {
    const Json* at = json::find(object, t.path);
    std::string value;
    if (at != nullptr) value = at->is_string() ? at->get<std::string>() : json::dump(*at);
    if (at == nullptr && (t.path == "spec.unschedulable" || t.path == "spec.hostNetwork")) {
      value = "false";
    }
    return (value == t.value) == t.equal;
  });
}

}  // namespace postern::apiserver
