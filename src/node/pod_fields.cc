#include "node/pod_fields.h"

#include "base/strings.h"
#include "node/quantity.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdlib>

namespace postern::node {
namespace {

using json::Json;

// Go's %q, which the downward API writes values with.
std::string goQuoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

std::string mapText(const Json& map) {
  std::string out;
  for (const auto& [key, value] : map.items()) {  // nlohmann's objects are sorted
    if (!value.is_string()) continue;
    if (!out.empty()) out += "\n";
    out += key + "=" + goQuoted(value.get_ref<const std::string&>());
  }
  return out;
}

/// The key of "prefix['key']"; null when the path is of another form.
std::optional<std::string_view> subscript(std::string_view path, std::string_view prefix) {
  if (!path.starts_with(prefix)) return {};
  path.remove_prefix(prefix.size());
  if (path.size() < 4 || !path.starts_with("['") || !path.ends_with("']")) return {};
  return path.substr(2, path.size() - 4);
}

std::int64_t divide(std::int64_t milli, const std::string& divisor) {
  std::int64_t by = quantityMilli(divisor).value_or(1000);
  if (by <= 0) by = 1000;
  return milli / by + (milli % by > 0 ? 1 : 0);
}

}  // namespace

const Json& listAt(const Json& value, std::string_view path) {
  static const Json kEmpty = Json::array();
  const Json* found = json::find(value, path);
  return found != nullptr && found->is_array() ? *found : kEmpty;
}

const Json& mapAt(const Json& value, std::string_view path) {
  static const Json kEmpty = Json::object();
  const Json* found = json::find(value, path);
  return found != nullptr && found->is_object() ? *found : kEmpty;
}

std::expected<std::string, std::string> fieldValue(const Json& pod, std::string_view path,
                                                   const PodFacts& facts) {
  for (const char* map : {"metadata.labels", "metadata.annotations"}) {
    if (path == map) return mapText(mapAt(pod, map));
    if (const auto key = subscript(path, map)) {
      const Json& entries = mapAt(pod, map);
      const auto it = entries.find(std::string(*key));
      return it != entries.end() && it->is_string() ? it->get<std::string>() : "";
    }
  }
  for (const char* plain : {"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
                            "spec.serviceAccountName"}) {
    if (path == plain) return json::stringAt(pod, path);
  }
  if (path == "status.podIP" || path == "status.podIPs") return facts.pod_ip;
  if (path == "status.hostIP" || path == "status.hostIPs") return facts.host_ip;
  return std::unexpected(fmt::format("unsupported fieldPath: {}", path));
}

std::expected<std::string, std::string> resourceValue(const Json& pod, const Json& container,
                                                      const Json& reference,
                                                      const PodFacts& facts) {
  const std::string name = json::stringAt(reference, "containerName");
  const Json* of = &container;
  if (!name.empty()) {
    of = nullptr;
    for (const char* list : {"spec.containers", "spec.initContainers"}) {
      for (const Json& each : listAt(pod, list)) {
        if (json::stringAt(each, "name") == name) of = &each;
      }
    }
    if (of == nullptr) return std::unexpected("container " + name + " not found");
  }
  const std::string resource = json::stringAt(reference, "resource");
  const Json* divisor = json::find(reference, "divisor");
  std::string by = divisor != nullptr && divisor->is_string() ? divisor->get<std::string>() : "1";
  if (by == "0") by = "1";
  const std::string path = "resources." + resource;
  const Json* set = json::find(*of, path);
  std::int64_t milli = 0;
  if (set != nullptr) {
    const auto value = quantityMilli(set->is_string() ? set->get<std::string>() : json::dump(*set));
    if (!value) return std::unexpected("bad quantity in " + path);
    milli = *value;
  } else if (resource == "limits.cpu") {
    milli = facts.cpu_milli;
  } else if (resource == "limits.memory") {
    milli = facts.memory_bytes * 1000;
  } else if (!resource.starts_with("requests.") && !resource.starts_with("limits.")) {
    return std::unexpected("unsupported container resource : " + resource);
  }
  return std::to_string(divide(milli, by));
}

std::string qosClass(const Json& pod) {
  bool any = false;
  bool guaranteed = true;
  for (const char* list : {"spec.initContainers", "spec.containers"}) {
    for (const Json& container : listAt(pod, list)) {
      const Json& requests = mapAt(container, "resources.requests");
      const Json& limits = mapAt(container, "resources.limits");
      for (const char* resource : {"cpu", "memory"}) {
        const bool limited = limits.contains(resource);
        any = any || limited || requests.contains(resource);
        guaranteed = guaranteed && limited &&
                     (!requests.contains(resource) || requests[resource] == limits[resource]);
      }
    }
  }
  return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

std::string timeText(std::int64_t ms) {
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text, size};
}

std::int64_t nowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::int64_t parseTimeMs(const std::string& text) {
  std::tm parts{};
  if (::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts) == nullptr) return 0;
  return static_cast<std::int64_t>(::timegm(&parts)) * 1000;
}

}  // namespace postern::node
