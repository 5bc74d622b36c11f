#include "store/store.h"

#include <nlohmann/json.hpp>
#include <sqlite3.h>

#include <utility>

namespace postern::store {
namespace {

constexpr const char* kSchema =
    "PRAGMA journal_mode=WAL;"
    "PRAGMA synchronous=NORMAL;"
    "PRAGMA busy_timeout=2000;"
    "CREATE TABLE IF NOT EXISTS objects(resource TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT "
    "NULL, revision INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY(resource, ns, name)) "
    "WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS counter(id INTEGER PRIMARY KEY CHECK(id = 1), revision INTEGER NOT "
    "NULL);"
    "INSERT OR IGNORE INTO counter VALUES(1, 1);";

void bindText(sqlite3_stmt* statement, int index, std::string_view text) {
  sqlite3_bind_text(statement, index, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

std::string columnText(sqlite3_stmt* statement, int index) {
  const void* bytes = sqlite3_column_blob(statement, index);
  int size = sqlite3_column_bytes(statement, index);
  return bytes == nullptr
             ? std::string()
             : std::string(static_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

}  // namespace

Subscription::~Subscription() {
  for (Subscription*& s : store_.subscribers_) {
    if (s == this) s = nullptr;  // publish() may be walking the list
  }
}

base::ConfigResult<std::unique_ptr<Store>> Store::open(const std::string& path) {
  std::unique_ptr<Store> store(new Store());
  POSTERN_TRY_VOID(store->prepare(path));
  POSTERN_TRY_VOID(store->load());
  return store;
}

Store::~Store() {
  sqlite3_finalize(put_);
  sqlite3_finalize(remove_);
  sqlite3_finalize(counter_);
  sqlite3_close(db_);
}

base::ConfigResult<bool> Store::prepare(const std::string& path) {
  auto failed = [&] { return base::failConfig(path, std::string(sqlite3_errmsg(db_))); };
  if (sqlite3_open(path.c_str(), &db_) != SQLITE_OK) return failed();
  if (sqlite3_exec(db_, kSchema, nullptr, nullptr, nullptr) != SQLITE_OK) return failed();
  auto statement = [&](const char* text, sqlite3_stmt*& out) {
    return sqlite3_prepare_v2(db_, text, -1, &out, nullptr) == SQLITE_OK;
  };
  if (!statement("INSERT OR REPLACE INTO objects VALUES(?1, ?2, ?3, ?4, ?5)", put_) ||
      !statement("DELETE FROM objects WHERE resource = ?1 AND ns = ?2 AND name = ?3", remove_) ||
      !statement("UPDATE counter SET revision = ?1", counter_)) {
    return failed();
  }
  return true;
}

base::ConfigResult<bool> Store::load() {
  sqlite3_stmt* rows = nullptr;
  if (sqlite3_prepare_v2(db_, "SELECT revision FROM counter", -1, &rows, nullptr) != SQLITE_OK ||
      sqlite3_step(rows) != SQLITE_ROW) {
    sqlite3_finalize(rows);
    return base::failConfig("counter", sqlite3_errmsg(db_));
  }
  revision_ = sqlite3_column_int64(rows, 0);
  compacted_ = revision_;
  sqlite3_finalize(rows);
  rows = nullptr;
  if (sqlite3_prepare_v2(db_, "SELECT resource, ns, name, value FROM objects", -1, &rows,
                         nullptr) != SQLITE_OK) {
    return base::failConfig("objects", sqlite3_errmsg(db_));
  }
  while (sqlite3_step(rows) == SQLITE_ROW) {
    auto value = json::parse(columnText(rows, 3));
    if (!value) {
      std::string at = columnText(rows, 0) + "/" + columnText(rows, 2);
      sqlite3_finalize(rows);
      return base::failConfig(at, "stored object is not readable: " + value.error().text);
    }
    objects_[columnText(rows, 0)][{columnText(rows, 1), columnText(rows, 2)}] =
        std::make_shared<const json::Json>(std::move(*value));
  }
  sqlite3_finalize(rows);
  return true;
}

bool Store::execute(sqlite3_stmt* statement) {
  int result = sqlite3_step(statement);
  sqlite3_reset(statement);
  return result == SQLITE_DONE;
}

ObjectPtr Store::get(std::string_view resource, std::string_view ns, std::string_view name) const {
  auto kind = objects_.find(resource);
  if (kind == objects_.end()) return nullptr;
  auto it = kind->second.find(Key(ns, name));
  return it == kind->second.end() ? nullptr : it->second;
}

std::vector<ObjectPtr> Store::list(std::string_view resource, std::string_view ns) const {
  std::vector<ObjectPtr> out;
  auto kind = objects_.find(resource);
  if (kind == objects_.end()) return out;
  auto it = ns.empty() ? kind->second.begin() : kind->second.lower_bound(Key(ns, ""));
  for (; it != kind->second.end() && (ns.empty() || it->first.first == ns); ++it) {
    out.push_back(it->second);
  }
  return out;
}

std::size_t Store::count(std::string_view resource) const {
  auto kind = objects_.find(resource);
  return kind == objects_.end() ? 0 : kind->second.size();
}

base::ConfigResult<ObjectPtr> Store::put(std::string_view resource, std::string_view ns,
                                         std::string_view name, json::Json object) {
  Revision next = revision_ + 1;
  object["metadata"]["resourceVersion"] = std::to_string(next);
  std::string value = json::dump(object);
  bindText(put_, 1, resource);
  bindText(put_, 2, ns);
  bindText(put_, 3, name);
  sqlite3_bind_int64(put_, 4, next);
  sqlite3_bind_blob(put_, 5, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
  sqlite3_bind_int64(counter_, 1, next);
  sqlite3_exec(db_, "BEGIN", nullptr, nullptr, nullptr);
  if (!execute(put_) || !execute(counter_) ||
      sqlite3_exec(db_, "COMMIT", nullptr, nullptr, nullptr) != SQLITE_OK) {
    std::string why = sqlite3_errmsg(db_);
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    return base::failConfig(std::string(resource), "cannot store: " + why);
  }
  revision_ = next;
  auto stored = std::make_shared<const json::Json>(std::move(object));
  ObjectPtr& slot = objects_[std::string(resource)][Key(ns, name)];
  Change change{slot ? Change::Type::kModified : Change::Type::kAdded,
                next,
                std::string(resource),
                std::string(ns),
                std::string(name),
                stored,
                slot};
  slot = stored;
  publish(std::move(change));
  return stored;
}

base::ConfigResult<ObjectPtr> Store::remove(std::string_view resource, std::string_view ns,
                                            std::string_view name) {
  ObjectPtr old = get(resource, ns, name);
  if (!old) return ObjectPtr();
  Revision next = revision_ + 1;
  bindText(remove_, 1, resource);
  bindText(remove_, 2, ns);
  bindText(remove_, 3, name);
  sqlite3_bind_int64(counter_, 1, next);
  sqlite3_exec(db_, "BEGIN", nullptr, nullptr, nullptr);
  if (!execute(remove_) || !execute(counter_) ||
      sqlite3_exec(db_, "COMMIT", nullptr, nullptr, nullptr) != SQLITE_OK) {
    std::string why = sqlite3_errmsg(db_);
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    return base::failConfig(std::string(resource), "cannot remove: " + why);
  }
  revision_ = next;
  objects_[std::string(resource)].erase(Key(ns, name));
  json::Json last = *old;
  last["metadata"]["resourceVersion"] = std::to_string(next);
  auto gone = std::make_shared<const json::Json>(std::move(last));
  publish(Change{Change::Type::kDeleted, next, std::string(resource), std::string(ns),
                 std::string(name), gone, old});
  return gone;
}

bool Store::changes(std::string_view resource, Revision since, std::vector<Change>& out) const {
  if (since < compacted_) return false;
  for (const Change& change : history_) {
    if (change.revision > since && change.resource == resource) out.push_back(change);
  }
  return true;
}

std::unique_ptr<Subscription> Store::subscribe(std::string resource,
                                               base::Function<void(const Change&)> callback) {
  std::unique_ptr<Subscription> s(
      new Subscription(*this, std::move(resource), std::move(callback)));
  subscribers_.push_back(s.get());
  return s;
}

void Store::publish(Change change) {
  history_.push_back(change);
  while (history_.size() > kHistoryMax) {
    compacted_ = history_.front().revision;
    history_.pop_front();
  }
  // Subscribers may come and go inside a callback: new ones are appended (and see this change only
  // through the store), gone ones leave a null behind.
  std::size_t known = subscribers_.size();
  auto it = subscribers_.begin();
  for (std::size_t i = 0; i < known && it != subscribers_.end(); ++i, ++it) {
    Subscription* s = *it;
    if (s != nullptr && (s->resource_.empty() || s->resource_ == change.resource)) {
      s->callback_(change);
    }
  }
  // Nested publishes walk the same list; an erase of nulls is safe only for list iterators not in
  // use, so only the outermost call (history tail is this change) cleans up.
  if (!history_.empty() && history_.back().revision == change.revision) {
    subscribers_.remove(nullptr);
  }
}

}  // namespace postern::store
