// Header fields of one message as a flat list in wire order. Names are lower case; HTTP/2 pseudo
// headers (":method",
// ":path", ":authority", ":scheme", ":status") come first and exist for HTTP/1 as well, so the
// layers above know one form. Bytes live in one arena per map, kept per thread for the next one;
// views stay valid until the map is changed or destroyed.
#pragma once

#include <cstdint>
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
  ~HeaderMap();
  HeaderMap(std::initializer_list<std::pair<std::string_view, std::string_view>> fields);
  HeaderMap(HeaderMap&&) noexcept = default;
  HeaderMap& operator=(HeaderMap&&) noexcept = default;
  HeaderMap(const HeaderMap&) = default;
  HeaderMap& operator=(const HeaderMap&) = default;

  std::size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  Field at(std::size_t index) const;
  /// Sum of name and value lengths.
  std::size_t bytes() const { return bytes_; }

  /// First value of a name (lower case), or nothing.
  std::optional<std::string_view> get(std::string_view name) const;
  /// First value or "".
  std::string_view value(std::string_view name) const {
    return get(name).value_or(std::string_view());
  }
  bool has(std::string_view name) const { return get(name).has_value(); }
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
  void reserve(std::size_t fields, std::size_t bytes) {
    entries_.reserve(fields);
    arena_.reserve(bytes);
  }

  std::string_view method() const { return value(":method"); }
  std::string_view path() const { return value(":path"); }
  std::string_view authority() const { return value(":authority"); }
  std::string_view scheme() const { return value(":scheme"); }
  /// The response status, 0 when absent.
  int status() const;

  /// Set by a codec that is told to preserve the case of names; null otherwise.
  const std::shared_ptr<const HeaderSpelling>& spelling() const { return spelling_; }
  void setSpelling(std::shared_ptr<const HeaderSpelling> spelling) {
    spelling_ = std::move(spelling);
  }

  /// Visits fields in order; stops when the function returns false.
  template <class F>
  void each(F&& visit) const {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      Field field = at(i);
      visit(field.name, field.value);
    }
  }

 private:
  struct Entry {
    std::uint32_t name_at;
    std::uint32_t name_size;
    std::uint32_t value_at;
    std::uint32_t value_size;
  };
  std::uint32_t store(std::string_view bytes);
  void borrow();
  std::string arena_;
  std::vector<Entry> entries_;
  std::size_t bytes_ = 0;
  std::shared_ptr<const HeaderSpelling> spelling_;
};

}  // namespace postern::http
