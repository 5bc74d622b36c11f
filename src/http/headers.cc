#include "http/headers.h"

#include "base/strings.h"

namespace postern::http {

namespace {

// What a message's map has grown to serves the next message: no allocation per request.
constexpr std::size_t kKeptMaps = 512;         // of a thread
constexpr std::size_t kKeptArenaBytes = 8192;  // larger ones are given back
constexpr std::size_t kFirstArenaBytes = 1024;
constexpr std::size_t kFirstFields = 24;

// A map may outlive the thread's store (a static one, at exit): this tells.
thread_local bool store_gone = false;

template <class T>
std::vector<T>& kept() {
  struct Store {
    std::vector<T> all;
    ~Store() { store_gone = true; }
  };
  thread_local Store store;
  return store.all;
}

template <class T>
void keep(T&& value) {
  auto& all = kept<std::remove_cvref_t<T>>();
  if (all.size() < kKeptMaps) all.push_back(std::forward<T>(value));
}

}  // namespace

void HeaderSpelling::add(std::string_view name) {
  if (of(base::toLower(name)).empty()) names_.emplace_back(name);
}

std::string_view HeaderSpelling::of(std::string_view name) const {
  for (const std::string& each : names_) {
    if (base::equalsIgnoreCase(each, name)) return each;
  }
  return {};
}

void appendProperCase(std::string& out, std::string_view name) {
  bool begin = true;
  for (char c : name) {
    const bool letter = c >= 'a' && c <= 'z';
    out += begin && letter ? static_cast<char>(c - 'a' + 'A') : c;
    begin = !letter && !(c >= '0' && c <= '9');
  }
}

HeaderMap::~HeaderMap() {
  if (arena_.capacity() < kFirstArenaBytes || arena_.capacity() > kKeptArenaBytes || store_gone)
    return;
  arena_.clear();
  entries_.clear();
  keep(std::move(arena_));
  keep(std::move(entries_));
}

void HeaderMap::borrow() {
  if (store_gone) return;
  auto& arenas = kept<std::string>();
  auto& entries = kept<std::vector<Entry>>();
  if (arenas.empty() || entries.empty() || !arena_.empty() || !entries_.empty())
    return reserve(kFirstFields, kFirstArenaBytes);
  arena_ = std::move(arenas.back());
  arenas.pop_back();
  entries_ = std::move(entries.back());
  entries.pop_back();
}

HeaderMap::HeaderMap(std::initializer_list<std::pair<std::string_view, std::string_view>> fields) {
  for (const auto& [name, value] : fields) add(name, value);
}

HeaderMap::Field HeaderMap::at(std::size_t index) const {
  const Entry& entry = entries_[index];
  return {std::string_view(arena_).substr(entry.name_at, entry.name_size),
          std::string_view(arena_).substr(entry.value_at, entry.value_size)};
}

std::optional<std::string_view> HeaderMap::get(std::string_view name) const {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].name_size != name.size()) continue;
    Field field = at(i);
    if (field.name == name) return field.value;
  }
  return std::nullopt;
}

std::optional<std::string> HeaderMap::joined(std::string_view name) const {
  std::optional<std::string> out;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Field field = at(i);
    if (field.name != name) continue;
    if (out) {
      *out += ',';
      *out += field.value;
    } else {
      out = std::string(field.value);
    }
  }
  return out;
}

std::uint32_t HeaderMap::store(std::string_view bytes) {
  auto offset = static_cast<std::uint32_t>(arena_.size());
  // The argument may be a view of this arena, which append() can move.
  if (bytes.data() >= arena_.data() && bytes.data() < arena_.data() + arena_.size()) {
    arena_.append(std::string(bytes));
  } else {
    arena_.append(bytes);
  }
  return offset;
}

void HeaderMap::add(std::string_view name, std::string_view value) {
  if (entries_.capacity() == 0) borrow();
  Entry entry{};
  // Both may point into the arena, which the first store() can move.
  std::string kept;
  if (value.data() >= arena_.data() && value.data() <= arena_.data() + arena_.size()) {
    kept = value;
    value = kept;
  }
  entry.name_at = store(name);
  entry.name_size = static_cast<std::uint32_t>(name.size());
  for (std::size_t i = 0; i < entry.name_size; ++i) {
    char& c = arena_[entry.name_at + i];
    c = base::toLowerAscii(c);
  }
  entry.value_at = store(value);
  entry.value_size = static_cast<std::uint32_t>(value.size());
  bytes_ += entry.name_size + entry.value_size;
  auto where = entries_.end();
  if (entry.name_size > 0 && arena_[entry.name_at] == ':') {
    where = entries_.begin();
    while (where != entries_.end() && where->name_size > 0 && arena_[where->name_at] == ':')
      ++where;
  }
  entries_.insert(where, entry);
}

void HeaderMap::set(std::string_view name, std::string_view value) {
  bool found = false;
  for (std::size_t i = 0; i < entries_.size();) {
    if (at(i).name != name) {
      ++i;
    } else if (!found) {
      found = true;
      std::uint32_t offset = store(value);
      bytes_ = bytes_ - entries_[i].value_size + value.size();
      entries_[i].value_at = offset;
      entries_[i].value_size = static_cast<std::uint32_t>(value.size());
      ++i;
    } else {
      bytes_ -= entries_[i].name_size + entries_[i].value_size;
      entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  if (!found) add(name, value);
}

std::size_t HeaderMap::remove(std::string_view name) {
  std::size_t removed = 0;
  for (std::size_t i = 0; i < entries_.size();) {
    if (at(i).name != name) {
      ++i;
      continue;
    }
    bytes_ -= entries_[i].name_size + entries_[i].value_size;
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
    ++removed;
  }
  return removed;
}

void HeaderMap::clear() {
  arena_.clear();
  entries_.clear();
  bytes_ = 0;
}

int HeaderMap::status() const { return base::parseInteger<int>(value(":status")).value_or(0); }

}  // namespace postern::http
