// A local, always fresh copy of one resource type: list, then watch, again from the list on 410 or
// error with back-off. Handlers run on the client's I/O thread and must only enqueue. Readers on
// any thread get shared immutable objects.
#pragma once

#include "kube/client.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postern::kube {

using ObjectPtr = std::shared_ptr<const json::Json>;

struct InformerEvent {
  enum class Type : unsigned char { kAdded, kModified, kDeleted } type;
  ObjectPtr object;    // deleted: the last known state
  ObjectPtr previous;  // modified: the state before
};

class Informer {
 public:
  using Handler = std::function<void(const InformerEvent&)>;
  virtual ~Informer() = default;
  /// Starts at once. An absent type (CRD not there yet: 404) is retried every second and counts as
  /// synced and empty.
  static std::unique_ptr<Informer> start(Client& client, ResourceType type, std::string ns = "",
                                         ListOptions options = {});
  /// Replays existing objects as kAdded to the new handler.
  virtual void addHandler(Handler handler) = 0;
  virtual bool synced() const = 0;
  /// Blocks until synced or the time is over.
  virtual bool waitSynced(std::chrono::milliseconds timeout) = 0;
  virtual ObjectPtr get(std::string_view ns, std::string_view name) const = 0;
  /// All objects, by key order; of one namespace if given.
  virtual std::vector<ObjectPtr> list(std::string_view ns = {}) const = 0;
  virtual const ResourceType& type() const = 0;
};

}  // namespace postern::kube
