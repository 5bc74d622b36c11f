#include "codec/h1_parser.h"

#include "base/strings.h"
#include "base/words.h"
#include "codec/h1_chars.h"

#include <algorithm>

namespace postern::codec {
namespace {

constexpr std::size_t kEmptyLinesBytesMax = 16;  // CRLFs skipped before a message
constexpr std::size_t kNominatedMax = 10;        // names that Connection may hold

bool isControl(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

/// A request target holds no white space, no control bytes and nothing beyond ASCII.
bool isTarget(std::string_view text) {
  return !text.empty() && !base::anyByte(base::anyOfBlocks(text, [](base::Block block) {
    return ~base::betweenBytes(block, 0x21, 0x7e);
  }));
}

bool isDigits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

bool isHostAndPort(std::string_view text) {
  constexpr std::string_view kNameMarks = "-._~%!$&'()*+;=";
  auto isAlnum = [](char c) {
    const char lower = base::toLowerAscii(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9');
  };
  std::size_t end = 0;
  if (text.starts_with('[')) {
    end = text.find(']');
    if (end == std::string_view::npos || end == 1) return false;
    for (char c : text.substr(1, end - 1)) {
      if (!isAlnum(c) && c != ':' && c != '.') return false;
    }
    ++end;
  } else {
    while (end < text.size() && text[end] != ':') {
      if (!isAlnum(text[end]) && kNameMarks.find(text[end]) == std::string_view::npos) return false;
      ++end;
    }
  }
  const std::string_view port = text.substr(end);
  return port.empty() || (port.front() == ':' && port.size() <= 6 && isDigits(port.substr(1)));
}

bool isConnectTarget(std::string_view text) {
  if (!isHostAndPort(text) || text.ends_with(']')) return false;
  const std::size_t colon = text.rfind(':');
  if (colon == 0 || colon == std::string_view::npos) return false;
  return base::parseInteger<std::uint16_t>(text.substr(colon + 1)).value_or(0) != 0;
}

void H1HeadParser::reset(std::string_view response_to) {
  partial_.clear();
  std::vector<H1Field> fields = std::move(head_.fields);
  fields.clear();
  head_ = H1Head{};
  head_.fields = std::move(fields);
  to_head_ = response_to == "HEAD";
  to_connect_ = response_to == "CONNECT";
}

bool H1HeadParser::refuse(const char* text, const char* details, int status) {
  refusal_ = {text, details, status};
  return false;
}

H1HeadParser::Status H1HeadParser::feed(std::string_view bytes, std::size_t& consumed) {
  consumed = 0;
  if (partial_ == "\r" && bytes.starts_with('\n')) {  // an empty line in two pieces
    partial_.clear();
    bytes.remove_prefix(1);
    consumed = 1;
  }
  if (partial_.empty()) {
    std::size_t skipped = 0;
    while (bytes.substr(skipped, 2) == "\r\n" && skipped < kEmptyLinesBytesMax) skipped += 2;
    bytes.remove_prefix(skipped);
    consumed += skipped;
    if (bytes.empty()) return Status::kNeedMore;
    std::size_t end = bytes.find("\r\n\r\n");
    if (end != std::string_view::npos) {
      consumed += end + 4;
      if (end + 4 <= limits_.head_bytes_max) return parse(bytes.substr(0, end + 2));
      refuse("header fields too large", "http1.headers_too_large", 431);
      return Status::kError;
    }
  }
  // In pieces: kept until the end is there. The end may straddle two pieces by three bytes.
  const std::size_t before = partial_.size();
  const std::size_t from = before < 3 ? 0 : before - 3;
  partial_.append(bytes.substr(0, limits_.head_bytes_max + 1 - before));
  std::size_t end = partial_.find("\r\n\r\n", from);
  if (end == std::string::npos) {
    consumed += bytes.size();
    // LF LF would never end: tell it now instead of waiting for the limit.
    if (partial_.find("\n\n", from) != std::string::npos) {
      refuse("bare LF");
    } else if (partial_.size() <= limits_.head_bytes_max) {
      return Status::kNeedMore;
    } else {
      refuse("header fields too large", "http1.headers_too_large", 431);
    }
    return Status::kError;
  }
  consumed += end + 4 - before;
  partial_.resize(end + 4);
  return parse(std::string_view(partial_).substr(0, end + 2));
}

H1HeadParser::Status H1HeadParser::parse(std::string_view head) {
  bool first = true;
  while (!head.empty()) {
    std::size_t end = head.find('\n');
    if (end == std::string_view::npos || end == 0 || head[end - 1] != '\r') {
      refuse("line does not end in CRLF");
      return Status::kError;
    }
    std::string_view line = head.substr(0, end - 1);
    head.remove_prefix(end + 1);
    bool ok = first ? (role_ == Role::kRequest ? parseRequestLine(line) : parseStatusLine(line))
                    : parseField(line);
    if (!ok) return Status::kError;
    first = false;
  }
  return interpret() ? Status::kDone : Status::kError;
}

bool H1HeadParser::parseVersion(std::string_view text) {
  if (text == "HTTP/1.1") {
    head_.minor_version = 1;
  } else if (text == "HTTP/1.0") {
    head_.minor_version = 0;
  } else if (text.size() == 8 && text.starts_with("HTTP/")) {
    return refuse("HTTP version not supported", "low_version", 426);
  } else {
    return refuse("malformed HTTP version");
  }
  return true;
}

bool H1HeadParser::parseRequestLine(std::string_view line) {
  std::size_t one = line.find(' ');
  std::size_t two = one == std::string_view::npos ? one : line.find(' ', one + 1);
  if (two == std::string_view::npos) return refuse("malformed request line");
  head_.method = line.substr(0, one);
  head_.target = line.substr(one + 1, two - one - 1);
  if (!isToken(head_.method)) return refuse("invalid method");
  // No client's method: it shows a preface of HTTP/2 to who does not speak that (RFC 9113 11.6).
  if (head_.method == "PRI") return refuse("HTTP/2 is not spoken here");
  if (!isTarget(head_.target)) {
    const bool control = std::any_of(head_.target.begin(), head_.target.end(), isControl);
    return refuse("invalid request target",
                  control ? "http1.invalid_characters" : "http1.codec_error");
  }
  if (!parseVersion(line.substr(two + 1))) return false;
  if (head_.minor_version == 0 && !limits_.http_10)
    return refuse("HTTP/1.0 is not accepted", "low_version", 426);
  return parseTarget();
}

/// The four forms of RFC 9112 3.2.
bool H1HeadParser::parseTarget() {
  const std::string_view target = head_.target;
  if (head_.method == "CONNECT") {
    head_.authority = target;
    return isConnectTarget(target) || refuse("invalid authority", "http1.invalid_url");
  }
  head_.path = target;
  if (target.front() == '/') return true;
  if (target == "*")
    return head_.method == "OPTIONS" || refuse("'*' is for OPTIONS", "http1.invalid_url");
  const std::size_t scheme = target.find("://");
  if (scheme == std::string_view::npos) return refuse("invalid request target");
  return !limits_.absolute_form || parseAbsolute(scheme);
}

bool H1HeadParser::parseAbsolute(std::size_t scheme_size) {
  const std::string_view scheme = head_.target.substr(0, scheme_size);
  if (!base::equalsIgnoreCase(scheme, "http") && !base::equalsIgnoreCase(scheme, "https"))
    return refuse("scheme is not http or https", "http1.invalid_scheme");
  const std::string_view rest = head_.target.substr(scheme_size + 3);
  const std::size_t end = rest.find_first_of("/?#");
  head_.authority = rest.substr(0, end);
  head_.path = end == std::string_view::npos ? std::string_view("/") : rest.substr(end);
  if (head_.path.starts_with('#')) return refuse("invalid request target", "http1.invalid_url");
  return (!head_.authority.empty() && isHostAndPort(head_.authority)) ||
         refuse("invalid authority", "http1.invalid_url");
}

bool H1HeadParser::parseStatusLine(std::string_view line) {
  if (line.size() < 12 || line[8] != ' ') return refuse("malformed status line");
  if (!parseVersion(line.substr(0, 8))) return false;
  auto status = base::parseInteger<int>(line.substr(9, 3));
  if (!status || *status < 100 || *status > 999) return refuse("malformed status code");
  if (line.size() > 12 && line[12] != ' ') return refuse("malformed status line");
  head_.status = *status;
  head_.reason = line.size() > 13 ? line.substr(13) : std::string_view();
  return isValue(head_.reason) || refuse("invalid reason phrase");
}

bool H1HeadParser::parseField(std::string_view line) {
  if (head_.fields.size() >= limits_.field_count_max)
    return refuse("too many header fields", "http1.too_many_headers", 431);
  const std::size_t colon = tokenSize(line);
  if (colon == line.size() || colon == 0 || line[colon] != ':') {
    return refuse(line.find(':') == std::string_view::npos ? "header field without colon"
                                                           : "invalid header field name");
  }
  const std::string_view name = line.substr(0, colon);
  std::string_view value = line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);  // as nearly all write it
  value = base::trim(value);
  if (!isValue(value)) return refuse("invalid header field value", "http1.invalid_characters");
  head_.fields.push_back({name, value});
  return true;
}

/// What Connection says. Fields that routing and identity rest on cannot be made hop-by-hop by a
/// client, and a long list is no honest one.
bool H1HeadParser::interpretConnection(std::string_view value) {
  constexpr const char* kRejected = "http1.connection_header_rejected";
  for (bool more = true; more;) {
    const std::size_t comma = value.find(',');
    const std::string_view name = base::trim(value.substr(0, comma));
    more = comma != std::string_view::npos;
    if (more) value.remove_prefix(comma + 1);
    connection_close_ |= base::equalsIgnoreCase(name, "close");
    connection_keep_ |= base::equalsIgnoreCase(name, "keep-alive");
    connection_upgrade_ |= base::equalsIgnoreCase(name, "upgrade");
    if (role_ == Role::kResponse) continue;
    if (++nominated_ > kNominatedMax) return refuse("too many names in connection", kRejected);
    if (name.starts_with(':') || base::equalsIgnoreCase(name, "host") ||
        base::equalsIgnoreCase(name, "x-forwarded-for") ||
        base::equalsIgnoreCase(name, "x-forwarded-host") ||
        base::equalsIgnoreCase(name, "x-forwarded-proto")) {
      return refuse("connection names a field it must not", kRejected);
    }
  }
  return true;
}

bool H1HeadParser::interpret() {
  bool have_length = false;
  bool chunked = false;
  int hosts = 0;
  bool upgrade = false;
  nominated_ = 0;
  connection_close_ = connection_keep_ = connection_upgrade_ = false;
  for (const H1Field& field : head_.fields) {
    // The length tells most fields apart before any comparison.
    switch (field.name.size()) {
      case 4:
        if (!isName(field.name, "host") || role_ == Role::kResponse) break;
        ++hosts;
        if (!isHostAndPort(field.value)) return refuse("invalid host", "http.invalid_authority");
        break;
      case 7:
        upgrade |= isName(field.name, "upgrade");
        break;
      case 10:
        if (!isName(field.name, "connection")) break;
        if (!interpretConnection(field.value)) return false;
        break;
      case 14: {
        if (!isName(field.name, "content-length")) break;
        auto length = base::parseInteger<std::uint64_t>(field.value);
        if (!length) return refuse("malformed content-length");
        if (have_length) return refuse("content-length occurs twice");
        head_.content_length = *length;
        have_length = true;
        break;
      }
      case 17:
        if (!isName(field.name, "transfer-encoding")) break;
        if (chunked || !base::equalsIgnoreCase(field.value, "chunked")) {
          return refuse("transfer-encoding is not supported", "http1.invalid_transfer_encoding",
                        501);
        }
        chunked = true;
        break;
      default:
        break;
    }
  }
  head_.keep_alive =
      head_.minor_version == 1 ? !connection_close_ : connection_keep_ && !connection_close_;
  head_.upgrade = connection_upgrade_ && upgrade;
  return decideBody(chunked, have_length, hosts);
}

bool H1HeadParser::decideBody(bool chunked, bool have_length, int hosts) {
  if (chunked && have_length) {
    if (!limits_.chunked_beats_length) {
      return refuse("content-length beside transfer-encoding",
                    "http1.content_length_and_chunked_not_allowed");
    }
    head_.length_dropped = true;
    have_length = false;
    head_.content_length = 0;
  }
  if (chunked && head_.minor_version == 0)
    return refuse("transfer-encoding in HTTP/1.0", "http1.transfer_encoding_not_allowed");
  const bool some_length = have_length && head_.content_length > 0;
  if (role_ == Role::kRequest) {
    if (hosts > 1) return refuse("host occurs twice");
    if (hosts == 0 && head_.minor_version == 1 && limits_.host_required)
      return refuse("needs a host header");
    if (chunked) head_.body = H1Body::kChunked;
    if (some_length) head_.body = H1Body::kLength;
    return true;
  }
  const int status = head_.status;
  if ((status < 200 || status == 204) && (chunked || some_length))
    return refuse("body where the status allows none", "http1.body_disallowed");
  if (status < 200 || status == 204 || status == 304 || to_head_ || (to_connect_ && status < 300))
    return true;
  if (chunked) {
    head_.body = H1Body::kChunked;
  } else if (have_length) {
    head_.body = some_length ? H1Body::kLength : H1Body::kNone;
  } else {
    head_.body = H1Body::kUntilClose;
  }
  return true;
}

}  // namespace postern::codec
