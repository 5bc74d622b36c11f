#include "http/h2_headers.h"

#include "base/strings.h"
#include "codec/h1_chars.h"
#include "codec/h1_parser.h"

namespace postern::http {
namespace {

enum Pseudo : unsigned {
  kMethod = 1,
  kScheme = 2,
  kPath = 4,
  kAuthority = 8,
  kProtocol = 16,
  kStatus = 32,
};

/// No control characters but the tab (RFC 9110 5.5): whatever an HTTP/1 peer would make of them.
bool validValue(std::string_view value) {
  if (value.empty()) return true;
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  return codec::isValue(value) && !blank(value.front()) && !blank(value.back());
}

/// Fields about an HTTP/1 connection (RFC 9113 8.2.2).
bool isConnectionField(std::string_view name) {
  switch (name.size()) {
    case 7:
      return name == "upgrade";
    case 10:
      return name == "connection" || name == "keep-alive";
    case 16:
      return name == "proxy-connection";
    case 17:
      return name == "transfer-encoding";
    default:
      return false;
  }
}

bool validScheme(std::string_view scheme) {
  for (const char c : scheme) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
    if (!letter && (!other || &c == scheme.data())) return false;
  }
  return !scheme.empty();
}

unsigned pseudoOf(std::string_view name) {
  if (name == ":method") return kMethod;
  if (name == ":scheme") return kScheme;
  if (name == ":path") return kPath;
  if (name == ":authority") return kAuthority;
  if (name == ":protocol") return kProtocol;
  if (name == ":status") return kStatus;
  return 0;
}

}  // namespace

void H2HeaderReader::onField(std::string_view name, std::string_view value) {
  if (error_ != nullptr) return;
  if (!validValue(value)) return wrong("invalid field value");
  if (name.starts_with(':')) return onPseudo(name, value);
  regular_ = true;
  if (!codec::isLowerToken(name)) return wrong("invalid field name");
  if (isConnectionField(name)) return wrong("field of an HTTP/1 connection");
  if (name == "te" && value != "trailers") return wrong("te other than trailers");
  if (name == "cookie" && kind_ == H2Message::kRequest) {
    if (!cookie_.empty()) cookie_ += "; ";
    cookie_ += value;
    return;
  }
  // As from HTTP/1: who merges trailers into the head must not find framing in them (RFC
  // 9110 6.5.1).
  if (kind_ == H2Message::kTrailers && (name == "content-length" || name == "host" || name == "te"))
    return;
  if (name == "content-length") {
    const auto length = base::parseInteger<std::uint64_t>(value);
    if (!length || (content_length_ && *content_length_ != *length))
      return wrong("wrong content-length");
    if (content_length_) return;
    content_length_ = length;
  }
  map_.add(name, value);
}

bool H2HeaderReader::hasProtocol() const { return (seen_ & kProtocol) != 0; }

void H2HeaderReader::onPseudo(std::string_view name, std::string_view value) {
  const unsigned which = pseudoOf(name);
  const unsigned allowed = kind_ == H2Message::kTrailers   ? 0U
                           : kind_ == H2Message::kResponse ? unsigned{kStatus}
                                                           : ~unsigned{kStatus};
  if (which == 0 || (which & allowed) == 0) return wrong("unknown pseudo-header");
  if (regular_) return wrong("pseudo-header after a field");
  if ((seen_ & which) != 0) return wrong("pseudo-header twice");
  seen_ |= which;
  map_.add(name, value);
}

const char* H2HeaderReader::finish() {
  if (error_ == nullptr && !cookie_.empty()) map_.add("cookie", cookie_);
  if (error_ == nullptr && kind_ == H2Message::kRequest) error_ = checkRequest();
  if (error_ == nullptr && kind_ == H2Message::kResponse) error_ = checkResponse();
  return error_;
}

const char* H2HeaderReader::checkRequest() {
  const std::string_view method = map_.method();
  if ((seen_ & kMethod) == 0) return missing("no method");
  if (!codec::isToken(method)) return "invalid method";
  if (method == "CONNECT" && (seen_ & kProtocol) == 0) {
    if ((seen_ & (kScheme | kPath)) != 0) return "CONNECT with scheme or path";
    map_.remove("host");  // nobody sees two
    return codec::isConnectTarget(map_.authority()) ? nullptr : "wrong authority";
  }
  if ((seen_ & kProtocol) != 0 && method != "CONNECT") return ":protocol without CONNECT";
  if ((seen_ & kScheme) == 0) return missing("no scheme");
  if ((seen_ & kPath) == 0) return missing("no path");
  if ((seen_ & kAuthority) == 0 && !map_.has("host")) return missing("no authority");
  if (!validScheme(map_.scheme())) return "wrong scheme";
  const std::string_view path = map_.path();
  if (path.empty()) return "wrong path";
  if (path[0] != '/' && !(path == "*" && method == "OPTIONS")) return missing("no path");
  for (const char c : path)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return "wrong path";
  if (!codec::isHostAndPort(map_.authority())) return "wrong authority";
  // The layers above know one form (RFC 9113 8.3.1): Host becomes the authority.
  const auto host = map_.get("host");
  if (!host) return nullptr;
  // Where both are there the authority counts, and nobody sees the other.
  if ((seen_ & kAuthority) == 0) {
    if (!codec::isHostAndPort(*host)) return "wrong host";
    map_.add(":authority", *host);
  }
  map_.remove("host");
  return nullptr;
}

const char* H2HeaderReader::checkResponse() {
  const std::string_view status = map_.value(":status");
  if ((seen_ & kStatus) == 0) return missing("no status");
  if (status.size() != 3 || status[0] < '1' || status[0] > '9' || status[1] < '0' ||
      status[1] > '9' || status[2] < '0' || status[2] > '9')
    return "wrong status";
  return status == "101" ? "101 over HTTP/2" : nullptr;
}

void encodeH2Headers(codec::HpackEncoder& encoder, const HeaderMap& headers, std::string& out) {
  encoder.begin(out);
  const bool plain_connect = headers.method() == "CONNECT" && !headers.has(":protocol");
  const bool has_authority = headers.has(":authority");
  headers.each([&](std::string_view name, std::string_view value) {
    if (name.empty()) return;
    if (name[0] == ':') {
      if (plain_connect && (name == ":scheme" || name == ":path")) return;
    } else if (isConnectionField(name) || (name == "host" && has_authority)) {
      return;
    } else if (name == "te") {
      // A list may hold more than we can pass on.
      if (value.find("trailers") == std::string_view::npos) return;
      value = "trailers";
    }
    encoder.encode(name, value, out);
  });
}

}  // namespace postern::http
