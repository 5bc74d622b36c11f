// What a pod can ask about itself (fieldRef, resourceFieldRef), in environment and files. Pure.
#pragma once

#include "json/json.h"

#include <cstdint>
#include <ctime>
#include <expected>
#include <string>
#include <string_view>

namespace postern::node {

struct PodFacts {
  std::string pod_ip;
  std::string host_ip;
  std::int64_t cpu_milli = 1000;  // of the node: what a container without limits may use
  std::int64_t memory_bytes = 0;
};

/// The array or object at a path, or an empty one.
const json::Json& listAt(const json::Json& value, std::string_view path);
const json::Json& mapAt(const json::Json& value, std::string_view path);

/// "metadata.labels['app']", "status.podIP", …; the error is a text with the path.
std::expected<std::string, std::string> fieldValue(const json::Json& pod, std::string_view path,
                                                   const PodFacts& facts);
/// resourceFieldRef {containerName, resource, divisor}; `container` is used without a name.
std::expected<std::string, std::string> resourceValue(const json::Json& pod,
                                                      const json::Json& container,
                                                      const json::Json& reference,
                                                      const PodFacts& facts);
/// Guaranteed, Burstable or BestEffort.
std::string qosClass(const json::Json& pod);

/// RFC 3339 in UTC with seconds, as metav1.Time.
std::string timeText(std::int64_t ms);
std::int64_t nowMs();
/// 0 when it is no time.
std::int64_t parseTimeMs(const std::string& text);

}  // namespace postern::node
