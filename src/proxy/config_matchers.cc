#include "proxy/config_matchers.h"

#include "base/strings.h"
#include "config/supported.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/core/v3/substitution_format_string.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"
#include "envoy/type/matcher/v3/regex.pb.h"
#include "envoy/type/matcher/v3/string.pb.h"
#include "envoy/type/v3/percent.pb.h"

#include <re2/re2.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

// Fields that Envoy calls deprecated still come from older control planes.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace postern::proxy {

namespace core = envoy::config::core::v3;
namespace route = envoy::config::route::v3;
namespace match = envoy::type::matcher::v3;

namespace {
constexpr std::size_t kDataSourceBytesMax = 1 << 20;
}

Regex readRegex(const match::RegexMatcher& message, const Place& place) {
  std::string error;
  Regex out = compileRegex(message.regex(), error);
  if (message.regex().empty()) error = "is required";
  if (!error.empty()) place.fail("regex", error);
  return out;
}

Regex readSubstitution(const match::RegexMatchAndSubstitute& message, const Place& place,
                       std::string& substitution) {
  Regex out = readRegex(message.pattern(), place.field("pattern"));
  substitution = message.substitution();
  std::string error;
  if (out != nullptr && !out->CheckRewriteString(substitution, &error))
    place.fail("substitution", error);
  return out;
}

StringMatcher readString(const match::StringMatcher& message, const Place& place) {
  using Kind = StringMatcher::Kind;
  StringMatcher out;
  out.ignore_case = message.ignore_case();
  switch (message.match_pattern_case()) {
    case match::StringMatcher::kExact:
      out.text = message.exact();
      return out;
    case match::StringMatcher::kPrefix:
      out.kind = Kind::kPrefix;
      out.text = message.prefix();
      break;
    case match::StringMatcher::kSuffix:
      out.kind = Kind::kSuffix;
      out.text = message.suffix();
      break;
    case match::StringMatcher::kContains:
      out.kind = Kind::kContains;
      out.text = message.contains();
      break;
    case match::StringMatcher::kSafeRegex:
      out.kind = Kind::kRegex;
      out.regex = readRegex(message.safe_regex(), place.field("safe_regex"));
      if (out.ignore_case) place.fail("ignore_case", "has no effect on a regular expression");
      return out;
    default:
      place.fail("needs one of exact, prefix, suffix, contains, safe_regex");
      return out;
  }
  if (out.text.empty()) place.fail("an empty prefix, suffix or part matches everything");
  return out;
}

std::string requestHeaderName(std::string_view name) {
  std::string out = base::toLower(name);
  if (out == "host") out = ":authority";
  return out;
}

HeaderMatcher readHeader(const route::HeaderMatcher& message, const Place& place) {
  using M = route::HeaderMatcher;
  HeaderMatcher out;
  out.name = requestHeaderName(message.name());
  if (out.name.empty()) place.fail("name", "is required");
  out.invert = message.invert_match();
  out.missing_is_empty = message.treat_missing_header_as_empty();
  out.kind = HeaderMatcher::Kind::kString;
  auto simple = [&](StringMatcher::Kind kind, const std::string& text) {
    out.string.kind = kind;
    out.string.text = text;
  };
  switch (message.header_match_specifier_case()) {
    case M::kExactMatch:
      simple(StringMatcher::Kind::kExact, message.exact_match());
      break;
    case M::kPrefixMatch:
      simple(StringMatcher::Kind::kPrefix, message.prefix_match());
      break;
    case M::kSuffixMatch:
      simple(StringMatcher::Kind::kSuffix, message.suffix_match());
      break;
    case M::kContainsMatch:
      simple(StringMatcher::Kind::kContains, message.contains_match());
      break;
    case M::kSafeRegexMatch:
      out.string.kind = StringMatcher::Kind::kRegex;
      out.string.regex = readRegex(message.safe_regex_match(), place.field("safe_regex_match"));
      break;
    case M::kStringMatch:
      out.string = readString(message.string_match(), place.field("string_match"));
      break;
    case M::kRangeMatch:
      out.kind = HeaderMatcher::Kind::kRange;
      out.begin = message.range_match().start();
      out.end = message.range_match().end();
      break;
    case M::kPresentMatch:
      out.kind = HeaderMatcher::Kind::kPresent;
      out.present = message.present_match();
      break;
    default:
      out.kind = HeaderMatcher::Kind::kPresent;
  }
  return out;
}

std::vector<HeaderMatcher> readHeaders(const Repeated<route::HeaderMatcher>& messages,
                                       const Place& place, std::string_view name) {
  std::vector<HeaderMatcher> out;
  for (int i = 0; i < messages.size(); ++i)
    out.push_back(readHeader(messages[i], place.item(name, i)));
  return out;
}

QueryMatcher readQuery(const route::QueryParameterMatcher& message, const Place& place) {
  QueryMatcher out;
  out.name = message.name();
  if (out.name.empty()) place.fail("name", "is required");
  if (message.has_string_match()) {
    out.by_value = true;
    out.string = readString(message.string_match(), place.field("string_match"));
  } else if (message.query_parameter_match_specifier_case() ==
             route::QueryParameterMatcher::kPresentMatch) {
    out.present = message.present_match();
  }
  return out;
}

Fraction readFraction(const envoy::type::v3::FractionalPercent& message, const Place& place) {
  Fraction out;
  out.numerator = message.numerator();
  switch (message.denominator()) {
    case envoy::type::v3::FractionalPercent::HUNDRED:
      out.denominator = 100;
      break;
    case envoy::type::v3::FractionalPercent::TEN_THOUSAND:
      out.denominator = 10'000;
      break;
    case envoy::type::v3::FractionalPercent::MILLION:
      out.denominator = 1'000'000;
      break;
    default:
      place.fail("denominator", "is not a known value");
  }
  return out;
}

Fraction readRuntimeFraction(const core::RuntimeFractionalPercent& message, const Place& place) {
  if (!message.has_default_value()) return {100, 100};
  return readFraction(message.default_value(), place.field("default_value"));
}

formatter::Format readFormat(std::string_view text, const Place& place) {
  formatter::Format out;
  std::string error;
  if (!formatter::Format::compile(text, out, error)) place.fail(error);
  return out;
}

formatter::HeaderOp readHeaderOp(const core::HeaderValueOption& message, const Place& place) {
  formatter::HeaderOp out;
  const core::HeaderValue& header = message.header();
  const Place at = place.field("header");
  out.name = base::toLower(header.key());
  if (out.name.empty()) at.fail("key", "is required");
  if (out.name.starts_with(':') || out.name == "host")
    at.fail("key", "\"" + header.key() + "\" cannot be changed this way");
  if (header.key().find_first_of("\r\n\0", 0, 3) != std::string::npos)
    at.fail("key", "holds a control character");
  if (header.value().find_first_of("\r\n\0", 0, 3) != std::string::npos)
    at.fail("value", "holds a control character");
  out.value = readFormat(header.value(), at.field("value"));
  out.constant = out.value.constant();
  if (out.constant) out.value.append(out.fixed, formatter::AccessRecord());
  out.keep_empty = message.keep_empty_value();
  switch (message.append_action()) {
    case core::HeaderValueOption::APPEND_IF_EXISTS_OR_ADD:
      out.action = formatter::HeaderOp::Action::kAppend;
      break;
    case core::HeaderValueOption::ADD_IF_ABSENT:
      out.action = formatter::HeaderOp::Action::kAddIfAbsent;
      break;
    case core::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD:
      out.action = formatter::HeaderOp::Action::kOverwriteOrAdd;
      break;
    case core::HeaderValueOption::OVERWRITE_IF_EXISTS:
      out.action = formatter::HeaderOp::Action::kOverwrite;
      break;
    default:
      place.fail("append_action", "is not a known value");
  }
  if (message.has_append()) {
    if (message.append_action() != core::HeaderValueOption::APPEND_IF_EXISTS_OR_ADD)
      place.fail("append", "cannot be set together with append_action");
    out.action = message.append().value() ? formatter::HeaderOp::Action::kAppend
                                          : formatter::HeaderOp::Action::kOverwriteOrAdd;
  }
  return out;
}

void readHeaderOps(const Repeated<core::HeaderValueOption>& to_add,
                   const Repeated<std::string>& to_remove, const Place& place,
                   std::string_view direction, formatter::HeaderOps& ops) {
  const std::string prefix = direction.empty() ? "" : std::string(direction) + "_";
  for (int i = 0; i < to_add.size(); ++i)
    ops.add.push_back(readHeaderOp(to_add[i], place.item(prefix + "headers_to_add", i)));
  for (int i = 0; i < to_remove.size(); ++i) {
    std::string name = base::toLower(to_remove[i]);
    if (name.empty() || name.starts_with(':') || name == "host")
      place.item(prefix + "headers_to_remove", i).fail("\"" + name + "\" cannot be removed");
    ops.remove.push_back(std::move(name));
  }
}

std::string readDataSource(const core::DataSource& message, const Place& place) {
  // Only what TLS reads is read again; there it is taken out before.
  if (message.has_watched_directory() &&
      !config::Tolerance::takes(place.field("watched_directory").path())) {
    place.fail("watched_directory", "is not supported");
  }
  switch (message.specifier_case()) {
    case core::DataSource::kInlineString:
      return message.inline_string();
    case core::DataSource::kInlineBytes:
      return message.inline_bytes();
    case core::DataSource::kEnvironmentVariable: {
      const char* value = std::getenv(message.environment_variable().c_str());
      if (value != nullptr) return value;
      place.fail("environment_variable", "is not set");
      return {};
    }
    case core::DataSource::kFilename: {
      std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
          std::fopen(message.filename().c_str(), "re"), &std::fclose);
      std::string out;
      char piece[4096];
      while (file != nullptr && out.size() <= kDataSourceBytesMax) {
        const std::size_t size = std::fread(piece, 1, sizeof piece, file.get());
        if (size == 0) return out;
        out.append(piece, size);
      }
      place.fail("filename", file == nullptr ? "cannot be read" : "is too large");
      return {};
    }
    default:
      place.fail("needs a value");
      return {};
  }
}

FormatString readFormatString(const core::SubstitutionFormatString& message, const Place& place) {
  FormatString out;
  out.omit_empty = message.omit_empty_values();
  out.content_type = message.content_type();
  switch (message.format_case()) {
    case core::SubstitutionFormatString::kTextFormat:
      out.text = readFormat(message.text_format(), place.field("text_format"));
      break;
    case core::SubstitutionFormatString::kTextFormatSource: {
      const Place at = place.field("text_format_source");
      const std::string text = readDataSource(message.text_format_source(), at);
      const char* field = message.text_format_source().has_inline_string() ? "inline_string" : "";
      out.text = readFormat(text, *field != 0 ? at.field(field) : at);
      break;
    }
    case core::SubstitutionFormatString::kJsonFormat: {
      std::string error;
      out.json.emplace();
      if (!formatter::JsonFormat::compile(message.json_format(), *out.json, error))
        place.fail("json_format", error);
      if (out.omit_empty) out.json->omitEmpty();
      break;
    }
    default:
      place.fail("needs text_format_source or json_format");
  }
  return out;
}

ReplyFormat readReplyFormat(const core::SubstitutionFormatString& message, const Place& place) {
  FormatString format = readFormatString(message, place);
  ReplyFormat out{std::move(format.json), std::move(format.text), format.omit_empty,
                  std::move(format.content_type)};
  if (out.content_type.empty()) out.content_type = out.json ? "application/json" : "text/plain";
  return out;
}

}  // namespace postern::proxy
