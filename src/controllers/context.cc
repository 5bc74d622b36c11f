#include "controllers/context.h"

#include "base/strings.h"

#include <algorithm>

namespace postern::controllers {

kube::Informer& Context::informer(const kube::ResourceType& type) {
  std::lock_guard lock(mutex_);
  for (auto& informer : informers_) {
    if (informer->type() == type) return *informer;
  }
  return *informers_.emplace_back(kube::Informer::start(client, type));
}

Context::~Context() {
  while (!informers_.empty()) informers_.pop_back();
}

void Context::record(const Json& object, std::string_view component, std::string_view type,
                     std::string_view reason, std::string_view message) {
  std::string ns = json::stringAt(object, "metadata.namespace", "default");
  unsigned long long number = 0;
  {
    std::lock_guard lock(mutex_);
    number = ++events_;
  }
  std::string now = nowText();
  auto ticks = std::chrono::system_clock::now().time_since_epoch().count();
  Json event{{"apiVersion", "v1"},
             {"kind", "Event"},
             {"metadata",
              {{"name",
                fmt::format("{}.{:x}{:x}", json::stringAt(object, "metadata.name"), ticks, number)},
               {"namespace", ns}}},
             {"involvedObject",
              {{"apiVersion", json::stringAt(object, "apiVersion")},
               {"kind", json::stringAt(object, "kind")},
               {"name", json::stringAt(object, "metadata.name")},
               {"namespace", ns},
               {"uid", json::stringAt(object, "metadata.uid")},
               {"resourceVersion", json::stringAt(object, "metadata.resourceVersion")}}},
             {"reason", reason},
             {"message", message},
             {"type", type},
             {"count", 1},
             {"firstTimestamp", now},
             {"lastTimestamp", now},
             {"source", {{"component", component}}}};
  if (auto made = client.create(kube::types::kEvent, ns, event); !made) {
    kLog.debug("event {} on {}: {}", reason, kube::keyOf(object), made.error().message);
  }
}

std::string timeText(std::time_t at) {
  std::tm parts{};
  gmtime_r(&at, &parts);
  char text[32];
  std::size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text, n};
}

std::string nowText() { return timeText(std::time(nullptr)); }

std::time_t parseTime(const std::string& text) {
  std::tm parts{};
  if (strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts) == nullptr) return 0;
  return timegm(&parts);
}

const Json& objectAt(const Json& object, std::string_view path) {
  static const Json kEmpty = Json::object();
  const Json* found = json::find(object, path);
  return found != nullptr && found->is_object() ? *found : kEmpty;
}

const Json& arrayAt(const Json& object, std::string_view path) {
  static const Json kEmpty = Json::array();
  const Json* found = json::find(object, path);
  return found != nullptr && found->is_array() ? *found : kEmpty;
}

std::string entryAt(const Json& object, std::string_view path, const std::string& key) {
  const Json& map = objectAt(object, path);
  auto it = map.find(key);
  return it != map.end() && it->is_string() ? it->get<std::string>() : "";
}

bool deleting(const Json& object) {
  return !json::stringAt(object, "metadata.deletionTimestamp").empty();
}

Json ownerReference(const Json& owner, const kube::ResourceType& type) {
  return {{"apiVersion", type.apiVersion()},
          {"kind", type.kind},
          {"name", json::stringAt(owner, "metadata.name")},
          {"uid", json::stringAt(owner, "metadata.uid")},
          {"controller", true},
          {"blockOwnerDeletion", true}};
}

std::string controllerUid(const Json& object) {
  for (const Json& reference : arrayAt(object, "metadata.ownerReferences")) {
    if (json::boolAt(reference, "controller")) return json::stringAt(reference, "uid");
  }
  return "";
}

namespace {

bool expressionMatches(const Json& expression, const Json& labels) {
  std::string how = json::stringAt(expression, "operator");
  auto label = labels.find(json::stringAt(expression, "key"));
  bool present = label != labels.end();
  if (how == "Exists") return present;
  if (how == "DoesNotExist") return !present;
  const Json& values = arrayAt(expression, "values");
  bool listed = present && std::find(values.begin(), values.end(), *label) != values.end();
  if (how == "In") return listed;
  return how == "NotIn" && !listed;
}

bool containsAll(const Json& wanted, const Json& labels) {
  for (const auto& [key, value] : wanted.items()) {
    auto it = labels.find(key);
    if (it == labels.end() || *it != value) return false;
  }
  return true;
}

}  // namespace

bool selectorMatches(const Json* selector, const Json& labels) {
  if (selector == nullptr || !selector->is_object()) return false;
  if (!containsAll(objectAt(*selector, "matchLabels"), labels)) return false;
  const Json& expressions = arrayAt(*selector, "matchExpressions");
  return std::all_of(expressions.begin(), expressions.end(),
                     [&](const Json& e) { return expressionMatches(e, labels); });
}

bool mapMatches(const Json& selector, const Json& labels) {
  return selector.is_object() && !selector.empty() && containsAll(selector, labels);
}

const Json* findCondition(const Json& conditions, std::string_view type) {
  if (!conditions.is_array()) return nullptr;
  for (const Json& condition : conditions) {
    if (json::stringAt(condition, "type") == type) return &condition;
  }
  return nullptr;
}

bool setCondition(Json& conditions, const std::string& type, bool status, const std::string& reason,
                  const std::string& message) {
  if (!conditions.is_array()) conditions = Json::array();
  std::string text = status ? "True" : "False";
  std::string now = nowText();
  for (Json& condition : conditions) {
    if (json::stringAt(condition, "type") != type) continue;
    bool same_status = json::stringAt(condition, "status") == text;
    if (same_status && json::stringAt(condition, "reason") == reason &&
        json::stringAt(condition, "message") == message) {
      return false;
    }
    condition["status"] = text;
    condition["reason"] = reason;
    condition["message"] = message;
    if (condition.contains("lastUpdateTime")) condition["lastUpdateTime"] = now;
    if (!same_status) condition["lastTransitionTime"] = now;
    return true;
  }
  conditions.push_back({{"type", type},
                        {"status", text},
                        {"reason", reason},
                        {"message", message},
                        {"lastTransitionTime", now}});
  return true;
}

bool podReady(const Json& pod) {
  const Json* ready = findCondition(arrayAt(pod, "status.conditions"), "Ready");
  return ready != nullptr && json::stringAt(*ready, "status") == "True";
}

bool podFinished(const Json& pod) {
  std::string phase = json::stringAt(pod, "status.phase");
  return phase == "Succeeded" || phase == "Failed";
}

bool podAvailable(const Json& pod, long long min_ready_seconds, std::time_t now) {
  if (!podReady(pod)) return false;
  if (min_ready_seconds <= 0) return true;
  const Json* ready = findCondition(arrayAt(pod, "status.conditions"), "Ready");
  return parseTime(json::stringAt(*ready, "lastTransitionTime")) + min_ready_seconds <= now;
}

long long resolvePercent(const Json* value, long long total, bool round_up, long long fallback) {
  if (value != nullptr && value->is_number_integer()) return value->get<long long>();
  if (value == nullptr || !value->is_string()) return fallback;
  const auto& text = value->get_ref<const std::string&>();
  if (!text.ends_with('%')) return fallback;
  auto percent = base::parseInteger<int>(std::string_view(text).substr(0, text.size() - 1));
  if (!percent) return fallback;
  return (total * *percent + (round_up ? 99 : 0)) / 100;
}

kube::Outcome retryAfter(std::string_view what, const std::string& key,
                         const kube::ApiError& error) {
  if (error.notFound() || error.conflict() || error.alreadyExists() || error.code == 0) {
    kLog.debug("{} {}: {}", what, key, error.message);
  } else {
    kLog.warning("{} {}: {} (code {})", what, key, error.message, error.code);
  }
  return kube::Outcome::retry();
}

kube::ApiResult<void> writeStatus(Context& context, const kube::ResourceType& type,
                                  const Json& object, Json status) {
  if (objectAt(object, "status") == status) return {};
  Json changed = object;
  changed["status"] = std::move(status);
  changed["apiVersion"] = type.apiVersion();
  changed["kind"] = type.kind;
  kube::WriteOptions options;
  options.subresource = "status";
  auto written =
      context.client.update(type, json::stringAt(object, "metadata.namespace"), changed, options);
  if (!written) return std::unexpected(written.error());
  return {};
}

}  // namespace postern::controllers
