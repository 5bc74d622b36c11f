// The small messages that many places share, read into compiled values. Internal to the builders.
#pragma once

#include "formatter/header_ops.h"
#include "proxy/http_config.h"
#include "proxy/matcher.h"
#include "proxy/proto_fields.h"

#include <google/protobuf/repeated_ptr_field.h>

#include <optional>
#include <string>
#include <vector>

namespace envoy::config::core::v3 {
class DataSource;
class HeaderValueOption;
class RuntimeFractionalPercent;
class SubstitutionFormatString;
}  // namespace envoy::config::core::v3
namespace envoy::config::route::v3 {
class HeaderMatcher;
class QueryParameterMatcher;
}  // namespace envoy::config::route::v3
namespace envoy::type::matcher::v3 {
class RegexMatchAndSubstitute;
class RegexMatcher;
class StringMatcher;
}  // namespace envoy::type::matcher::v3
namespace envoy::type::v3 {
class FractionalPercent;
}

namespace postern::proxy {

template <class T>
using Repeated = google::protobuf::RepeatedPtrField<T>;

Regex readRegex(const envoy::type::matcher::v3::RegexMatcher& message, const Place& place);
/// A pattern and what replaces its matches; checks that the substitution's groups exist.
Regex readSubstitution(const envoy::type::matcher::v3::RegexMatchAndSubstitute& message,
                       const Place& place, std::string& substitution);
StringMatcher readString(const envoy::type::matcher::v3::StringMatcher& message,
                         const Place& place);
/// As requests have it: lower case, and the host by its HTTP/2 name.
std::string requestHeaderName(std::string_view name);
HeaderMatcher readHeader(const envoy::config::route::v3::HeaderMatcher& message,
                         const Place& place);
std::vector<HeaderMatcher> readHeaders(
    const Repeated<envoy::config::route::v3::HeaderMatcher>& messages, const Place& place,
    std::string_view name);
QueryMatcher readQuery(const envoy::config::route::v3::QueryParameterMatcher& message,
                       const Place& place);
Fraction readFraction(const envoy::type::v3::FractionalPercent& message, const Place& place);
/// The default value; there is no runtime that could change it.
Fraction readRuntimeFraction(const envoy::config::core::v3::RuntimeFractionalPercent& message,
                             const Place& place);

/// Adds to `ops`: `to_add` and `to_remove` are fields of the message at `place` named
/// `<direction>_headers_to_add` and `<direction>_headers_to_remove`.
void readHeaderOps(const Repeated<envoy::config::core::v3::HeaderValueOption>& to_add,
                   const Repeated<std::string>& to_remove, const Place& place,
                   std::string_view direction, formatter::HeaderOps& ops);
formatter::HeaderOp readHeaderOp(const envoy::config::core::v3::HeaderValueOption& message,
                                 const Place& place);

/// Inline text or bytes, a file, or an environment variable, read now.
std::string readDataSource(const envoy::config::core::v3::DataSource& message, const Place& place);

struct FormatString {
  std::optional<formatter::JsonFormat> json;
  formatter::Format text;
  bool omit_empty = false;
  std::string content_type;
};
ReplyFormat readReplyFormat(const envoy::config::core::v3::SubstitutionFormatString& message,
                            const Place& place);
FormatString readFormatString(const envoy::config::core::v3::SubstitutionFormatString& message,
                              const Place& place);
formatter::Format readFormat(std::string_view text, const Place& place);

}  // namespace postern::proxy
