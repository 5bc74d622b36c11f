#include "http/headers.h"

#include "base/strings.h"
#include "base/words.h"

#include <algorithm>

namespace postern::http {

namespace {

// What a message's map has grown to serves the next message: no allocation per request.
constexpr std::size_t kKeptMaps = 512;         // of a thread
constexpr std::size_t kKeptArenaBytes = 8192;  // larger ones are given back
constexpr std::size_t kFirstArenaBytes = 1024;
constexpr std::size_t kFirstFields = 24;

// A map may outlive the thread's store (a static one, at exit): this tells.
thread_local bool kept_gone = false;

template <class T>
struct Kept {
  std::vector<T*> all;
  Kept() { all.reserve(kKeptMaps); }
  ~Kept() {
    for (T* each : all) delete each;
    kept_gone = true;
  }
};

template <class T>
std::vector<T*>& kept() {
  thread_local Kept<T> store;
  return store.all;
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

HeaderMap::Store* HeaderMap::borrow() {
  if (!kept_gone) {
    auto& free = kept<Store>();
    if (!free.empty()) {
      Store* store = free.back();
      free.pop_back();
      return store;
    }
  }
  auto* store = new Store;
  store->arena.reserve(kFirstArenaBytes);
  store->entries.reserve(kFirstFields);
  return store;
}

void HeaderMap::giveBack(Store* store) {
  if (!kept_gone && store->arena.capacity() <= kKeptArenaBytes) {
    auto& free = kept<Store>();
    if (free.size() < kKeptMaps) {
      store->arena.clear();
      store->entries.clear();
      store->bytes = 0;
      store->spelling.reset();
      free.push_back(store);
      return;
    }
  }
  delete store;
}

HeaderMap::Store& HeaderMap::store() {
  if (store_ == nullptr) store_ = borrow();
  return *store_;
}

HeaderMap::HeaderMap(std::initializer_list<std::pair<std::string_view, std::string_view>> fields) {
  for (const auto& [name, value] : fields) add(name, value);
}

HeaderMap::HeaderMap(const HeaderMap& other) { *this = other; }

HeaderMap& HeaderMap::operator=(const HeaderMap& other) {
  if (this == &other) return *this;
  if (other.store_ == nullptr) {
    clear();
  } else {
    Store& mine = store();
    mine.arena = other.store_->arena;
    mine.entries = other.store_->entries;
    mine.bytes = other.store_->bytes;
    mine.spelling = other.store_->spelling;
  }
  return *this;
}

void HeaderMap::reserve(std::size_t fields, std::size_t bytes) {
  store().entries.reserve(fields);
  store().arena.reserve(bytes);
}

std::optional<std::string> HeaderMap::joined(std::string_view name) const {
  std::optional<std::string> out;
  each([&](std::string_view each_name, std::string_view value) {
    if (each_name != name) return;
    if (out) {
      *out += ',';
      *out += value;
    } else {
      out = std::string(value);
    }
  });
  return out;
}

bool HeaderMap::owns(std::string_view bytes) const {
  const std::string& arena = store_->arena;
  return bytes.data() >= arena.data() && bytes.data() < arena.data() + arena.size();
}

void HeaderMap::add(std::string_view name, std::string_view value) {
  Store& to = store();
  // Either may point into the arena, which growing can move.
  if (owns(name)) return add(std::string(name), value);
  if (owns(value)) return add(name, std::string(value));
  const std::size_t at = to.arena.size();
  const std::size_t more = name.size() + value.size();
  if (to.arena.capacity() - at < more) to.arena.reserve(2 * (at + more));
  to.arena.resize_and_overwrite(at + more, [&](char* arena, std::size_t size) {
    base::copyLower(arena + at, name);
    if (!value.empty()) std::memcpy(arena + at + name.size(), value.data(), value.size());
    return size;
  });
  const char* lower = to.arena.data() + at;
  const Entry entry{tagOf(lower, name.size()), static_cast<std::uint32_t>(at),
                    static_cast<std::uint32_t>(name.size()),
                    static_cast<std::uint32_t>(at + name.size()),
                    static_cast<std::uint32_t>(value.size())};
  to.bytes += more;
  const auto pseudo = [&](const Entry& each) {
    return each.name_size > 0 && to.arena[each.name_at] == ':';
  };
  if (!pseudo(entry) || to.entries.empty() || pseudo(to.entries.back())) {
    to.entries.push_back(entry);
    return;
  }
  to.entries.insert(std::find_if_not(to.entries.begin(), to.entries.end(), pseudo), entry);
}

void HeaderMap::set(std::string_view name, std::string_view value) {
  const Entry* found = find(name);
  if (found == nullptr) return add(name, value);
  if (owns(name)) return set(std::string(name), value);
  if (owns(value)) return set(name, std::string(value));
  Store& to = *store_;
  const auto first = static_cast<std::size_t>(found - to.entries.data());
  Entry& entry = to.entries[first];
  to.bytes = to.bytes - entry.value_size + value.size();
  entry.value_at = static_cast<std::uint32_t>(to.arena.size());
  to.arena.append(value);
  entry.value_size = static_cast<std::uint32_t>(value.size());
  for (std::size_t i = to.entries.size() - 1; i > first; --i) {
    if (to.entries[i].tag != entry.tag || !same(to.entries[i], name)) continue;
    to.bytes -= to.entries[i].name_size + to.entries[i].value_size;
    to.entries.erase(to.entries.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

std::size_t HeaderMap::remove(std::string_view name) {
  if (find(name) == nullptr) return 0;
  if (owns(name)) return remove(std::string(name));
  Store& from = *store_;
  return std::erase_if(from.entries, [&](const Entry& entry) {
    if (!same(entry, name) || entry.tag != tagOf(name.data(), name.size())) return false;
    from.bytes -= entry.name_size + entry.value_size;
    return true;
  });
}

void HeaderMap::clear() {
  if (store_ == nullptr) return;
  store_->arena.clear();
  store_->entries.clear();
  store_->bytes = 0;
}

int HeaderMap::status() const {
  const std::string_view text = value(":status");
  if (text.size() != 3) return base::parseInteger<int>(text).value_or(0);
  int out = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return 0;
    out = out * 10 + (c - '0');
  }
  return out;
}

}  // namespace postern::http
