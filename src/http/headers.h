// Header fields of one message as a flat list in wire order. Names are lower case; HTTP/2 pseudo
// headers (":method",
// ":path", ":authority", ":scheme", ":status") come first and exist for HTTP/1 as well, so the
// layers above know one form. Bytes live in one arena per map, kept per thread for the next one;
// views stay valid until the map is changed or destroyed.
#pragma once

#include "base/prefetch.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::http {

/// How names are written in HTTP/1: as they are kept, as Words-Like-These, or as the peer spelled
/// them (see HeaderSpelling). kPreserveOrProper: what no peer spelled is written as words.
enum class HeaderCase : unsigned char { kLower, kProper, kPreserve, kPreserveOrProper };

/// The spelling of the names of one HTTP/1 message, for peers that compare names with their case.
class HeaderSpelling {
 public:
  void add(std::string_view name);
  /// The first spelling of a lower-case name; "" when there was none.
  std::string_view of(std::string_view name) const;

 private:
  std::vector<std::string> names_;
};

/// Appends a lower-case name as Words-Like-These.
void appendProperCase(std::string& out, std::string_view name);

class HeaderMap {
 public:
  struct Field {
    std::string_view name;
    std::string_view value;
  };

  HeaderMap() = default;
  ~HeaderMap() {
    if (store_ != nullptr) giveBack(store_);
  }
  HeaderMap(std::initializer_list<std::pair<std::string_view, std::string_view>> fields);
  HeaderMap(HeaderMap&& other) noexcept : store_(std::exchange(other.store_, nullptr)) {}
  HeaderMap& operator=(HeaderMap&& other) noexcept {
    if (this == &other) return *this;
    if (store_ != nullptr) giveBack(store_);
    store_ = std::exchange(other.store_, nullptr);
    return *this;
  }
  HeaderMap(const HeaderMap& other);
  HeaderMap& operator=(const HeaderMap& other);

  std::size_t size() const { return store_ == nullptr ? 0 : store_->entries.size(); }
  bool empty() const { return size() == 0; }
  /// Asks for its memory: first for what says where the fields are, later for those.
  void prefetch() const { base::prefetch(store_, store_ == nullptr ? 0 : sizeof *store_); }
  void prefetchFields() const {
    if (store_ == nullptr) return;
    base::prefetch(store_->entries.data(), store_->entries.size() * sizeof(Entry));
    base::prefetch(store_->arena.get(), std::min(store_->used, kPrefetchedTextBytes));
  }
  Field at(std::size_t index) const {
    const Entry& entry = store_->entries[index];
    return {nameOf(entry), valueOf(entry)};
  }
  /// Sum of name and value lengths.
  std::size_t bytes() const { return store_ == nullptr ? 0 : store_->bytes; }

  /// First value of a name (lower case), or nothing.
  [[gnu::always_inline]] std::optional<std::string_view> get(std::string_view name) const {
    const Entry* found = find(name);
    if (found == nullptr) return std::nullopt;
    return valueOf(*found);
  }
  /// First value or "".
  [[gnu::always_inline]] std::string_view value(std::string_view name) const {
    const Entry* found = find(name);
    return found == nullptr ? std::string_view() : valueOf(*found);
  }
  [[gnu::always_inline]] bool has(std::string_view name) const { return find(name) != nullptr; }
  /// All values of a name joined by ",", as RFC 9110 5.3 allows; nothing if absent.
  std::optional<std::string> joined(std::string_view name) const;

  /// Appends a field (pseudo headers are inserted after the other pseudo headers). The name is
  /// lower-cased.
  void add(std::string_view name, std::string_view value);
  /// Replaces the first field of this name in place and removes the others, or appends.
  void set(std::string_view name, std::string_view value);
  /// Removes all fields of the name; returns how many.
  std::size_t remove(std::string_view name);
  void clear();
  /// Room for a message of this size without growing step by step.
  void reserve(std::size_t fields, std::size_t bytes);

  std::string_view method() const { return value(":method"); }
  std::string_view path() const { return value(":path"); }
  std::string_view authority() const { return value(":authority"); }
  std::string_view scheme() const { return value(":scheme"); }
  /// The response status, 0 when absent.
  int status() const;

  /// Set by a codec that is told to preserve the case of names; null otherwise.
  const HeaderSpelling* spelling() const {
    return store_ == nullptr ? nullptr : store_->spelling.get();
  }
  void setSpelling(std::shared_ptr<const HeaderSpelling> spelling) {
    if (spelling != nullptr || store_ != nullptr) store().spelling = std::move(spelling);
  }

  /// Visits fields in order; stops when the function returns false.
  template <class F>
  void each(F&& visit) const {
    for (std::size_t i = 0; i < size(); ++i) {
      Field field = at(i);
      visit(field.name, field.value);
    }
  }

 private:
  struct Entry {
    std::uint64_t tag;  // of the name: see tagOf
    std::uint32_t name_at;
    std::uint32_t name_size;
    std::uint32_t value_at;
    std::uint32_t value_size;
  };
  static constexpr std::size_t kPrefetchedTextBytes = 512;
  struct Store {
    std::unique_ptr<char[]> arena;
    std::size_t used = 0;  // of the arena
    std::size_t room = 0;  // all of the arena
    std::vector<Entry> entries;
    std::size_t bytes = 0;
    // By bitOf(tag): which bits the names have that were added, and the first place of each.
    std::uint64_t present = 0;
    std::array<std::uint8_t, 64> first{};
    std::shared_ptr<const HeaderSpelling> spelling;

    void clear();
    /// Notes the entry at this place, behind all that are noted.
    void note(std::size_t place) {
      constexpr std::size_t kPlaceMax = 255;
      const unsigned bit = bitOf(entries[place].tag);
      if ((present >> bit & 1) != 0) return;
      present |= std::uint64_t{1} << bit;
      first[bit] = static_cast<std::uint8_t>(std::min(place, kPlaceMax));
    }
    /// After entries have moved.
    void noteAll() {
      present = 0;
      for (std::size_t i = 0; i < entries.size(); ++i) note(i);
    }
    /// Room for `more` bytes at the end of the arena, which may move.
    void grow(std::size_t more);
  };

  /// The last eight bytes of a name and its length: tells nearly all names apart by one comparison.
  /// For a literal the compiler computes it.
  [[gnu::always_inline]] static std::uint64_t tagOf(const char* name, std::size_t size) {
    std::uint64_t tag = 0;
    if (size >= 8) {
      std::memcpy(&tag, name + size - 8, 8);
    } else if (size >= 4) {
      std::uint32_t first = 0;
      std::uint32_t last = 0;
      std::memcpy(&first, name, 4);
      std::memcpy(&last, name + size - 4, 4);
      tag = std::uint64_t{first} << 32 | last;
    } else if (size > 0) {
      const auto byte = [name](std::size_t at) {
        return std::uint32_t{static_cast<unsigned char>(name[at])};
      };
      tag = byte(0) << 16 | byte(size / 2) << 8 | byte(size - 1);
    }
    return tag ^ std::uint64_t{size} * 0x9e3779b97f4a7c15ULL;
  }
  /// Tells of most names that are not there without a look at those that are.
  static constexpr unsigned bitOf(std::uint64_t tag) {
    return static_cast<unsigned>(tag * 0x9e3779b97f4a7c15ULL >> 58);
  }
  std::string_view nameOf(const Entry& entry) const {
    return {store_->arena.get() + entry.name_at, entry.name_size};
  }
  std::string_view valueOf(const Entry& entry) const {
    return {store_->arena.get() + entry.value_at, entry.value_size};
  }
  bool same(const Entry& entry, std::string_view name) const {
    return entry.name_size == name.size() &&
           (name.size() <= 8 ||
            std::memcmp(store_->arena.get() + entry.name_at, name.data(), name.size()) == 0);
  }
  /// In place, so that the tag of a literal is a constant.
  [[gnu::always_inline]] const Entry* find(std::string_view name) const {
    if (store_ == nullptr) return nullptr;
    const std::uint64_t tag = tagOf(name.data(), name.size());
    const unsigned bit = bitOf(tag);
    if ((store_->present >> bit & 1) == 0) return nullptr;
    const Entry* first = store_->entries.data() + store_->first[bit];
    // A tag of at most eight bytes tells all: which name it is, and how long.
    if (name.size() <= 8 && first->tag == tag && first->name_size == name.size()) return first;
    return findFrom(first, tag, name);
  }
  const Entry* findFrom(const Entry* first, std::uint64_t tag, std::string_view name) const;
  static Store* borrow();
  static void giveBack(Store* store);
  Store& store();
  /// True for a view into the arena, which growing can move.
  bool owns(std::string_view bytes) const;
  void addGrown(std::string_view name, std::string_view value);

  Store* store_ = nullptr;  // owned; null: no field was ever added
};

}  // namespace postern::http
