// Matchers of text, headers and query parameters, compiled from configuration; immutable, shared
// by the workers. They allocate nothing while matching, but for a header that occurs twice.
#pragma once

#include "http/headers.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}

namespace postern::proxy {

/// RE2; shared so that configuration values can be copied.
using Regex = std::shared_ptr<const re2::RE2>;
/// Null when the expression is malformed; `error` says why.
Regex compileRegex(std::string_view expression, std::string& error);
bool fullMatch(const Regex& regex, std::string_view text);
/// Replaces every match; `substitution` uses \1..\9.
std::string replaceAll(const Regex& regex, std::string_view text, const std::string& substitution);

struct StringMatcher {
  enum class Kind : unsigned char { kExact, kPrefix, kSuffix, kContains, kRegex };
  Kind kind = Kind::kExact;
  bool ignore_case = false;
  std::string text;
  Regex regex;

  bool matches(std::string_view value) const;
};

struct HeaderMatcher {
  enum class Kind : unsigned char { kString, kRange, kPresent };
  std::string name;  // lower case
  Kind kind = Kind::kPresent;
  bool present = true;  // kPresent: what is expected
  bool invert = false;
  bool missing_is_empty = false;
  StringMatcher string;
  std::int64_t begin = 0;  // kRange: [begin, end)
  std::int64_t end = 0;

  /// A header that occurs several times matches by any of its values. A missing one matches no
  /// value, inverted or not, unless missing_is_empty.
  bool matches(const http::HeaderMap& headers) const;

 private:
  bool matchesValue(std::string_view value) const;
};

struct QueryMatcher {
  std::string name;
  bool by_value = false;
  bool present = true;
  StringMatcher string;

  /// `query` without '?'. Values are compared as sent (not decoded), as Envoy does.
  bool matches(std::string_view query) const;
};

/// A share of requests.
struct Fraction {
  std::uint32_t numerator = 0;
  std::uint32_t denominator = 100;
  bool hit(std::uint64_t random) const { return random % denominator < numerator; }
};

bool allMatch(const std::vector<HeaderMatcher>& matchers, const http::HeaderMap& headers);

}  // namespace postern::proxy
