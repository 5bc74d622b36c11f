#include "controllers/object_graph.h"

#include <nlohmann/json.hpp>

namespace postern::controllers {

void ObjectGraph::put(const kube::ResourceType& type, const json::Json& object) {
  const std::string uid = json::stringAt(object, "metadata.uid");
  if (uid.empty()) return;
  if (auto it = nodes_.find(uid); it != nodes_.end()) unlink(uid, it->second);
  GraphNode node;
  node.type = type;
  node.ns = json::stringAt(object, "metadata.namespace");
  node.name = json::stringAt(object, "metadata.name");
  node.deleting = !json::stringAt(object, "metadata.deletionTimestamp").empty();
  if (const json::Json* list = json::find(object, "metadata.finalizers");
      list != nullptr && list->is_array()) {
    for (const json::Json& each : *list) {
      if (each == "foregroundDeletion") node.waits_for_dependents = true;
      if (each == "orphan") node.releases_dependents = true;
    }
  }
  if (const json::Json* list = json::find(object, "metadata.ownerReferences");
      list != nullptr && list->is_array()) {
    for (const json::Json& each : *list) {
      OwnerReference owner{json::stringAt(each, "apiVersion"), json::stringAt(each, "kind"),
                           json::stringAt(each, "name"), json::stringAt(each, "uid"),
                           json::boolAt(each, "blockOwnerDeletion")};
      if (owner.uid.empty()) continue;
      dependents_[owner.uid].insert(uid);
      node.owners.push_back(std::move(owner));
    }
  }
  nodes_[uid] = std::move(node);
}

void ObjectGraph::unlink(const std::string& uid, const GraphNode& node) {
  for (const OwnerReference& owner : node.owners) {
    auto it = dependents_.find(owner.uid);
    if (it == dependents_.end()) continue;
    it->second.erase(uid);
    if (it->second.empty()) dependents_.erase(it);
  }
}

std::vector<std::string> ObjectGraph::remove(const std::string& uid) {
  auto it = nodes_.find(uid);
  if (it != nodes_.end()) {
    unlink(uid, it->second);
    nodes_.erase(it);
  }
  return dependents(uid);
}

const GraphNode* ObjectGraph::find(const std::string& uid) const {
  auto it = nodes_.find(uid);
  return it == nodes_.end() ? nullptr : &it->second;
}

std::vector<std::string> ObjectGraph::dependents(const std::string& uid) const {
  auto it = dependents_.find(uid);
  if (it == dependents_.end()) return {};
  return {it->second.begin(), it->second.end()};
}

std::vector<std::string> ObjectGraph::ofType(const kube::ResourceType& type) const {
  std::vector<std::string> out;
  for (const auto& [uid, node] : nodes_) {
    if (node.type == type) out.push_back(uid);
  }
  return out;
}

}  // namespace postern::controllers
