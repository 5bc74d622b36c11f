#include "proxy/matcher.h"

#include "base/strings.h"
#include "http/request_text.h"

#include <re2/re2.h>

#include <algorithm>

namespace postern::proxy {

namespace {

constexpr std::int64_t kRegexMemoryBytesMax = 8 << 20;

re2::StringPiece piece(std::string_view text) { return {text.data(), text.size()}; }

bool equals(std::string_view a, std::string_view b, bool ignore_case) {
  return ignore_case ? base::equalsIgnoreCase(a, b) : a == b;
}

bool contains(std::string_view text, std::string_view wanted, bool ignore_case) {
  if (!ignore_case) return text.find(wanted) != std::string_view::npos;
  const auto same = [](char a, char b) { return base::toLowerAscii(a) == base::toLowerAscii(b); };
  return std::search(text.begin(), text.end(), wanted.begin(), wanted.end(), same) != text.end() ||
         wanted.empty();
}

}  // namespace

Regex compileRegex(std::string_view expression, std::string& error) {
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_max_mem(kRegexMemoryBytesMax);
  auto out = std::make_shared<const re2::RE2>(piece(expression), options);
  if (out->ok()) return out;
  error = "is not a valid regular expression: " + out->error();
  return nullptr;
}

bool fullMatch(const Regex& regex, std::string_view text) {
  return re2::RE2::FullMatch(piece(text), *regex);
}

std::string replaceAll(const Regex& regex, std::string_view text, const std::string& substitution) {
  std::string out(text);
  re2::RE2::GlobalReplace(&out, *regex, substitution);
  return out;
}

bool StringMatcher::matches(std::string_view value) const {
  switch (kind) {
    case Kind::kExact:
      return equals(value, text, ignore_case);
    case Kind::kPrefix:
      return value.size() >= text.size() && equals(value.substr(0, text.size()), text, ignore_case);
    case Kind::kSuffix:
      return value.size() >= text.size() &&
             equals(value.substr(value.size() - text.size()), text, ignore_case);
    case Kind::kContains:
      return contains(value, text, ignore_case);
    case Kind::kRegex:
      return fullMatch(regex, value);
  }
  return false;
}

bool HeaderMatcher::matches(const http::HeaderMap& headers) const {
  // Each value by itself, as Envoy has it since joining them let a client hide one behind another.
  bool found = false;
  bool hit = false;
  for (std::size_t i = 0; i < headers.size() && !hit; ++i) {
    const http::HeaderMap::Field field = headers.at(i);
    if (field.name != name) continue;
    found = true;
    hit = matchesValue(field.value);
  }
  if (kind == Kind::kPresent) return ((found || missing_is_empty) == present) != invert;
  if (!found) {
    if (!missing_is_empty) return false;
    hit = matchesValue({});
  }
  return hit != invert;
}

bool HeaderMatcher::matchesValue(std::string_view value) const {
  if (kind == Kind::kString) return string.matches(value);
  if (kind == Kind::kPresent) return true;
  const auto number = base::parseInteger<std::int64_t>(value);
  return number && *number >= begin && *number < end;
}

bool QueryMatcher::matches(std::string_view query) const {
  std::string_view value;
  const bool found = http::queryParameter(query, name, value);
  if (!by_value) return found == present;
  return found && string.matches(value);
}

bool allMatch(const std::vector<HeaderMatcher>& matchers, const http::HeaderMap& headers) {
  return std::all_of(matchers.begin(), matchers.end(),
                     [&](const HeaderMatcher& each) { return each.matches(headers); });
}

}  // namespace postern::proxy
