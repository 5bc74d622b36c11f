#include "schema/merge_keys.h"

namespace postern::schema {
namespace {

struct Row {
  std::string_view parent;  // "" matches any
  std::string_view field;
  std::string_view key;
};

constexpr Row kRows[] = {
    {"", "containers", "name"},
    {"", "initContainers", "name"},
    {"", "ephemeralContainers", "name"},
    {"", "env", "name"},
    {"containers", "ports", "containerPort"},
    {"initContainers", "ports", "containerPort"},
    {"spec", "ports", "port"},
    {"", "volumeMounts", "mountPath"},
    {"", "volumeDevices", "devicePath"},
    {"", "volumes", "name"},
    {"", "imagePullSecrets", "name"},
    {"", "topologySpreadConstraints", "topologyKey"},
    {"", "conditions", "type"},
    {"", "ownerReferences", "uid"},
    {"status", "addresses", "type"},
    {"", "secrets", "name"},
    {"", "hostAliases", "ip"},
    {"", "podIPs", "ip"},
    {"", "hostIPs", "ip"},
    {"", "schedulingGates", "name"},
    {"", "resourceClaims", "name"},
    {"", "webhooks", "name"},
};

}  // namespace

std::string_view mergeKey(std::string_view parent, std::string_view field) {
  for (const Row& row : kRows) {
    if (row.field == field && (row.parent.empty() || row.parent == parent)) return row.key;
  }
  return "";
}

bool mergesAsSet(std::string_view parent, std::string_view field) {
  return parent == "metadata" && field == "finalizers";
}

std::vector<std::string> applyKeys(std::string_view parent, std::string_view field) {
  std::string key(mergeKey(parent, field));
  if (key.empty()) return {};
  if (field == "ports") return {key, "protocol"};
  return {key};
}

bool isAtomicMap(std::string_view parent, std::string_view field) {
  return (field == "selector" && parent == "spec") || field == "nodeSelector" ||
         field == "resourceFieldRef" || field == "secretKeyRef" || field == "configMapKeyRef" ||
         field == "fieldRef" || field == "labelSelector";
}

}  // namespace postern::schema
