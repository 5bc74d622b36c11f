// Who owns whom, over all kinds: objects by uid with their owner references, and the way back from
// an owner to what depends on it. Pure bookkeeping of the garbage collector; one thread at a time.
#pragma once

#include "kube/types.h"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace postern::controllers {

struct OwnerReference {
  std::string api_version;
  std::string kind;
  std::string name;
  std::string uid;
  bool blocks = false;  // blockOwnerDeletion
};

struct GraphNode {
  kube::ResourceType type;
  std::string ns;
  std::string name;
  std::vector<OwnerReference> owners;
  bool deleting = false;
  bool waits_for_dependents = false;  // finalizer foregroundDeletion
  bool releases_dependents = false;   // finalizer orphan
};

class ObjectGraph {
 public:
  /// Adds or replaces; reads metadata only.
  void put(const kube::ResourceType& type, const json::Json& object);
  /// Removes; returns the uids of what depended on it.
  std::vector<std::string> remove(const std::string& uid);
  /// Null when unknown.
  const GraphNode* find(const std::string& uid) const;
  /// Uids of objects that name `uid` as an owner.
  std::vector<std::string> dependents(const std::string& uid) const;
  /// Uids of all objects of a kind.
  std::vector<std::string> ofType(const kube::ResourceType& type) const;

 private:
  void unlink(const std::string& uid, const GraphNode& node);
  std::map<std::string, GraphNode, std::less<>> nodes_;
  std::map<std::string, std::set<std::string>, std::less<>> dependents_;
};

}  // namespace postern::controllers
