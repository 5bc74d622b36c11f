#include "http/headers.h"

#include "base/strings.h"
#include "base/words.h"

#include <algorithm>
#include <cstring>

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

void HeaderMap::Store::clear() {
  used = bytes = 0;
  present = 0;
  entries.clear();
}

void HeaderMap::Store::grow(std::size_t more) {
  if (room - used >= more) return;
  const std::size_t wanted = std::max(2 * room, used == 0 ? more : 2 * (used + more));
  auto larger = std::make_unique_for_overwrite<char[]>(wanted);
  if (used > 0) std::memcpy(larger.get(), arena.get(), used);
  arena = std::move(larger);
  room = wanted;
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
  store->grow(kFirstArenaBytes);
  store->entries.reserve(kFirstFields);
  return store;
}

void HeaderMap::giveBack(Store* store) {
  if (!kept_gone && store->room <= kKeptArenaBytes) {
    auto& free = kept<Store>();
    if (free.size() < kKeptMaps) {
      store->clear();
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
    const Store& from = *other.store_;
    mine.clear();
    mine.grow(from.used);
    std::memcpy(mine.arena.get(), from.arena.get(), from.used);
    mine.used = from.used;
    mine.entries = from.entries;
    mine.bytes = from.bytes;
    mine.present = from.present;
    mine.first = from.first;
    mine.spelling = from.spelling;
  }
  return *this;
}

void HeaderMap::reserve(std::size_t fields, std::size_t bytes) {
  store().entries.reserve(fields);
  if (bytes > store().used) store().grow(bytes - store().used);
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
  const char* arena = store_->arena.get();
  return bytes.data() >= arena && bytes.data() < arena + store_->used;
}

const HeaderMap::Entry* HeaderMap::findFrom(const Entry* first, std::uint64_t tag,
                                            std::string_view name) const {
  const Entry* const end = store_->entries.data() + store_->entries.size();
  for (; first != end; ++first) {
    if (first->tag == tag && same(*first, name)) return first;
  }
  return nullptr;
}

void HeaderMap::add(std::string_view name, std::string_view value) {
  Store& to = store();
  const std::size_t at = to.used;
  const std::size_t more = name.size() + value.size();
  if (to.room - at < more) return addGrown(name, value);
  char* const lower = to.arena.get() + at;
  base::copyLower(lower, name);
  base::copyBytes(lower + name.size(), value.data(), value.size());
  to.used += more;
  to.bytes += more;
  const Entry entry{tagOf(lower, name.size()), static_cast<std::uint32_t>(at),
                    static_cast<std::uint32_t>(name.size()),
                    static_cast<std::uint32_t>(at + name.size()),
                    static_cast<std::uint32_t>(value.size())};
  const auto pseudo = [&](const Entry& each) {
    return each.name_size > 0 && to.arena[each.name_at] == ':';
  };
  if (!pseudo(entry) || to.entries.empty() || pseudo(to.entries.back())) {
    to.entries.push_back(entry);
    return to.note(to.entries.size() - 1);
  }
  to.entries.insert(std::find_if_not(to.entries.begin(), to.entries.end(), pseudo), entry);
  to.noteAll();
}

/// Either view may point into the arena, which moves.
void HeaderMap::addGrown(std::string_view name, std::string_view value) {
  if (owns(name) || owns(value)) {
    const std::string kept_name(name);
    const std::string kept_value(value);
    store_->grow(name.size() + value.size());
    return add(kept_name, kept_value);
  }
  store_->grow(name.size() + value.size());
  add(name, value);
}

void HeaderMap::set(std::string_view name, std::string_view value) {
  const Entry* found = find(name);
  if (found == nullptr) return add(name, value);
  Store& to = *store_;
  if (to.room - to.used < value.size()) {
    if (owns(name)) return set(std::string(name), value);
    if (owns(value)) return set(name, std::string(value));
    to.grow(value.size());
  }
  const auto first = static_cast<std::size_t>(found - to.entries.data());
  Entry& entry = to.entries[first];
  to.bytes = to.bytes - entry.value_size + value.size();
  entry.value_at = static_cast<std::uint32_t>(to.used);
  base::copyBytes(to.arena.get() + to.used, value.data(), value.size());
  to.used += value.size();
  entry.value_size = static_cast<std::uint32_t>(value.size());
  const std::uint64_t tag = entry.tag;
  bool erased = false;
  for (std::size_t i = to.entries.size() - 1; i > first; --i) {
    if (to.entries[i].tag != tag || !same(to.entries[i], name)) continue;
    to.bytes -= to.entries[i].name_size + to.entries[i].value_size;
    to.entries.erase(to.entries.begin() + static_cast<std::ptrdiff_t>(i));
    erased = true;
  }
  if (erased) to.noteAll();
}

std::size_t HeaderMap::remove(std::string_view name) {
  if (find(name) == nullptr) return 0;
  if (owns(name)) return remove(std::string(name));
  Store& from = *store_;
  const std::uint64_t tag = tagOf(name.data(), name.size());
  const std::size_t count = std::erase_if(from.entries, [&](const Entry& entry) {
    if (entry.tag != tag || !same(entry, name)) return false;
    from.bytes -= entry.name_size + entry.value_size;
    return true;
  });
  from.noteAll();
  return count;
}

void HeaderMap::clear() {
  if (store_ != nullptr) store_->clear();
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
