// The objects of the local cluster: SQLite on disk, all of them in memory, one revision counter for
// every kind, and the recent changes for watches. Owned by the API server, used on its loop only.
// Knows nothing of Kubernetes but metadata.resourceVersion.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "json/json.h"

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct sqlite3;
struct sqlite3_stmt;

namespace postern::store {

using ObjectPtr = std::shared_ptr<const json::Json>;
using Revision = std::int64_t;

/// Recent changes kept for watches that start in the past; older starts get "expired".
inline constexpr std::size_t kHistoryMax = 20000;

struct Change {
  enum class Type : unsigned char { kAdded, kModified, kDeleted } type;
  Revision revision = 0;
  std::string resource;  // "apps/deployments"; core: "/pods"
  std::string ns;
  std::string name;
  ObjectPtr object;    // deleted: the last state, with the revision of the deletion
  ObjectPtr previous;  // absent for kAdded
};

class Store;

/// Calls back for each change after it was stored; ends by destruction.
class Subscription {
 public:
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

 private:
  friend class Store;
  Subscription(Store& store, std::string resource, base::Function<void(const Change&)> callback)
      : store_(store), resource_(std::move(resource)), callback_(std::move(callback)) {}
  Store& store_;
  std::string resource_;  // empty: all
  base::Function<void(const Change&)> callback_;
};

class Store {
 public:
  /// `path` is created when absent; ":memory:" keeps nothing.
  static base::ConfigResult<std::unique_ptr<Store>> open(const std::string& path);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  Revision revision() const { return revision_; }
  /// The oldest revision from which changes() can answer.
  Revision compacted() const { return compacted_; }

  ObjectPtr get(std::string_view resource, std::string_view ns, std::string_view name) const;
  /// By namespace, then name; of one namespace unless `ns` is empty.
  std::vector<ObjectPtr> list(std::string_view resource, std::string_view ns = "") const;
  std::size_t count(std::string_view resource) const;

  /// Creates or replaces; sets metadata.resourceVersion and returns what is stored.
  base::ConfigResult<ObjectPtr> put(std::string_view resource, std::string_view ns,
                                    std::string_view name, json::Json object);
  /// Removes; the returned last state carries the revision of the deletion. Null if absent.
  base::ConfigResult<ObjectPtr> remove(std::string_view resource, std::string_view ns,
                                       std::string_view name);

  /// Changes after `since`, of one resource. False when they are no longer known.
  bool changes(std::string_view resource, Revision since, std::vector<Change>& out) const;
  std::unique_ptr<Subscription> subscribe(std::string resource,
                                          base::Function<void(const Change&)> callback);

 private:
  friend class Subscription;
  using Key = std::pair<std::string, std::string>;  // namespace, name
  Store() = default;
  base::ConfigResult<bool> prepare(const std::string& path);
  base::ConfigResult<bool> load();
  bool execute(sqlite3_stmt* statement);
  void publish(Change change);

  sqlite3* db_ = nullptr;
  sqlite3_stmt* put_ = nullptr;
  sqlite3_stmt* remove_ = nullptr;
  sqlite3_stmt* counter_ = nullptr;
  Revision revision_ = 1;
  Revision compacted_ = 1;
  std::map<std::string, std::map<Key, ObjectPtr>, std::less<>> objects_;
  std::deque<Change> history_;
  std::list<Subscription*> subscribers_;
};

}  // namespace postern::store
