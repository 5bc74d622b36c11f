// Our HTTP/1 against llhttp, which is Node's: the same bytes on one connection. A message that ours
// takes llhttp takes too, and both see the same method, target, version, fields, body, trailers and
// end of it. What ours refuses llhttp may take, but only for a reason on the list below; the
// program says at its end how often each came up. The first byte chooses the role (its lowest bit),
// what a response answers (the next two) and how the bytes are cut for ours (the rest).
#include "base/check.h"
#include "base/strings.h"
#include "http/h1_message.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <llhttp.h>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own
using codec::H1HeadParser;
using http::H1BodyReader;

constexpr codec::H1Limits kLimits{.head_bytes_max = 4096, .field_count_max = 30};

/// Where ours is stricter than llhttp in its strict mode, and why that is right.
const std::map<std::string_view, std::string_view> kStricter = {
    {"header fields too large", "a limit of this program's"},
    {"too many header fields", "a limit of this program's"},
    {"transfer-encoding is not supported", "chunked is the only coding taken"},
    {"needs a host header", "RFC 9112 3.2"},
    {"'*' is for OPTIONS", "RFC 9112 3.2.4"},
    {"invalid reason phrase", "no control bytes (RFC 9112 4)"},
    {"HTTP version not supported", "HTTP/1.0 and HTTP/1.1 only"},
    {"malformed request line", "nothing before it but CRLF; a version (RFC 9112 2.2, 3)"},
    {"malformed HTTP version", "one space before it"},
    {"invalid request target", "one space before it, one of four forms (RFC 9112 3.2)"},
    {"malformed status line", "three digits, one space (RFC 9112 4)"},
    {"malformed status code", "from 100 on (RFC 9110 15)"},
    {"body where the status allows none", "1xx and 204 (RFC 9112 6.3)"},
    {"transfer-encoding in HTTP/1.0", "RFC 9112 6.1"},
    {"forbidden trailer", "RFC 9110 6.5.1"},
    {"invalid chunk extension", "RFC 9112 7.1.1"},
    {"chunk line does not end in CRLF", "RFC 9112 7.1"},
    {"trailers too large", "a limit of this program's"},
    {"chunk line too long", "a limit"},
    {"chunk extensions too long", "a limit"},
    {"bare LF", "a line ends in CRLF (RFC 9112 2.2)"},
    {"line does not end in CRLF", "the same"},
    {"invalid host", "a name and a port, no list, no user (RFC 9110 7.2)"},
    {"host occurs twice", "RFC 9112 3.2"},
    {"invalid authority", "as for host"},
    {"scheme is not http or https", "no proxy for other schemes"},
    {"connection names a field it must not", "fields that routing and identity rest on"},
    {"too many names in connection", "a limit"},
};
/// The same, where the bytes hold one of these: a line that begins with white space (obs-fold, RFC
/// 9112 5.2), a field without a name.
const std::multimap<std::string_view, std::string_view> kStricterAbout = {
    {"header field without colon", "\r\n "}, {"header field without colon", "\r\n\t"},
    {"invalid header field name", "\r\n "},  {"invalid header field name", "\r\n\t"},
    {"invalid header field name", "\r\n:"},  {"malformed trailer", "\r\n "},
    {"malformed trailer", "\r\n\t"},         {"malformed trailer", "\r\n:"}};

/// The methods llhttp knows; with others it is not compared further.
const std::set<std::string_view> kMethods = {
    "DELETE", "GET",      "HEAD",      "POST",       "PUT",        "CONNECT",  "OPTIONS",
    "TRACE",  "COPY",     "LOCK",      "MKCOL",      "MOVE",       "PROPFIND", "PROPPATCH",
    "SEARCH", "UNLOCK",   "BIND",      "REBIND",     "UNBIND",     "ACL",      "REPORT",
    "MERGE",  "CHECKOUT", "M-SEARCH",  "MKACTIVITY", "NOTIFY",     "PATCH",    "MKCALENDAR",
    "PURGE",  "LINK",     "SUBSCRIBE", "UNLINK",     "UNSUBSCRIBE"};

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Message {
  std::string method;
  std::string target;
  int status = 0;
  int minor_version = 0;
  Fields fields;
  Fields trailers;
  std::string body;
  bool head = false;  // complete
  bool done = false;
  bool keep_alive = false;
};

/// How often ours was stricter, printed when the program ends.
struct Counts {
  std::map<std::string_view, std::uint64_t> by_reason;
  std::uint64_t messages = 0;
  ~Counts() {
    std::printf("%llu messages alike\n", static_cast<unsigned long long>(messages));
    for (const auto& [reason, count] : by_reason) {
      std::printf("stricter than llhttp: %-40.*s %llu\n", static_cast<int>(reason.size()),
                  reason.data(), static_cast<unsigned long long>(count));
    }
  }
};
Counts& counts() {
  static Counts all;
  return all;
}

// ---- llhttp ----

/// The request that a response answers.
enum class Asked : unsigned char { kGet, kHead, kConnect };

struct Theirs {
  std::vector<Message> messages;
  std::string_view refused;  // why; static text of llhttp's
  Asked asked = Asked::kGet;
  bool in_value = true;  // the next bytes of a name begin a field
};

Theirs& of(llhttp_t* parser) { return *static_cast<Theirs*>(parser->data); }

Fields& fieldsOf(Theirs& theirs) {
  Message& message = theirs.messages.back();
  return message.head ? message.trailers : message.fields;
}

int onHeadersComplete(llhttp_t* parser) {
  Theirs& theirs = of(parser);
  Message& message = theirs.messages.back();
  message.head = true;
  if (parser->type == HTTP_REQUEST) {
    message.method = llhttp_method_name(static_cast<llhttp_method_t>(parser->method));
  } else {
    message.status = parser->status_code;
  }
  message.minor_version = parser->http_minor;
  message.keep_alive = llhttp_should_keep_alive(parser) != 0;
  if (parser->type == HTTP_REQUEST) return 0;
  // llhttp leaves to its caller which responses have no body, and what that means.
  const bool tunnel = theirs.asked == Asked::kConnect && message.status / 100 == 2;
  if (!tunnel && theirs.asked != Asked::kHead && message.status != 304) return 0;
  message.keep_alive = (parser->flags & F_CONNECTION_CLOSE) == 0;
  return tunnel ? 2 : 1;
}

llhttp_settings_t makeSettings() {
  llhttp_settings_t out;
  llhttp_settings_init(&out);
  out.on_message_begin = [](llhttp_t* parser) {
    of(parser).messages.emplace_back();
    return 0;
  };
  out.on_url = [](llhttp_t* parser, const char* at, std::size_t size) {
    of(parser).messages.back().target.append(at, size);
    return 0;
  };
  out.on_header_field = [](llhttp_t* parser, const char* at, std::size_t size) {
    Theirs& theirs = of(parser);
    if (std::exchange(theirs.in_value, false)) fieldsOf(theirs).emplace_back();
    fieldsOf(theirs).back().first.append(at, size);
    return 0;
  };
  out.on_header_value = [](llhttp_t* parser, const char* at, std::size_t size) {
    fieldsOf(of(parser)).back().second.append(at, size);
    return 0;
  };
  out.on_header_value_complete = [](llhttp_t* parser) {
    of(parser).in_value = true;
    return 0;
  };
  out.on_headers_complete = onHeadersComplete;
  out.on_body = [](llhttp_t* parser, const char* at, std::size_t size) {
    of(parser).messages.back().body.append(at, size);
    return 0;
  };
  out.on_message_complete = [](llhttp_t* parser) {
    of(parser).messages.back().done = true;
    return 0;
  };
  return out;
}

Theirs parseTheirs(std::string_view bytes, H1HeadParser::Role role, Asked asked) {
  static const llhttp_settings_t settings = makeSettings();
  Theirs out;
  out.asked = asked;
  llhttp_t parser;
  llhttp_init(&parser, role == H1HeadParser::Role::kRequest ? HTTP_REQUEST : HTTP_RESPONSE,
              &settings);
  parser.data = &out;
  llhttp_errno_t error = llhttp_execute(&parser, bytes.data(), bytes.size());
  if (error == HPE_OK) error = llhttp_finish(&parser);
  if (error != HPE_OK && error != HPE_PAUSED_UPGRADE)
    out.refused = llhttp_get_error_reason(&parser);
  for (Message& message : out.messages) {
    for (Fields* fields : {&message.fields, &message.trailers}) {
      // Trailing white space is no part of a value (RFC 9110 5.5); llhttp's callers trim it.
      for (auto& [name, value] : *fields) value = base::trim(value);
    }
    for (auto& [name, value] : message.trailers) name = base::toLower(name);
  }
  return out;
}

// ---- ours ----

struct Ours {
  std::vector<Message> messages;
  const char* refused = nullptr;  // why what follows was refused
  bool in_body = false;           // of the last message
};

class OurConnection {
 public:
  OurConnection(H1HeadParser::Role role, Asked asked) : role_(role), parser_(role, kLimits) {
    constexpr const char* kAsked[] = {"GET", "HEAD", "CONNECT"};
    asked_ = kAsked[static_cast<int>(asked)];
    parser_.reset(asked_);
  }
  /// False: nothing more is read.
  bool feed(std::string_view bytes) {
    in_.append(bytes);
    while (!in_.empty()) {
      if (!(reading_body_ ? readBody() : readHead())) return false;
      if (waiting_) break;
    }
    waiting_ = false;
    return true;
  }
  void end() {
    if (reading_body_ && body_.end() == H1BodyReader::Status::kEnd) out.messages.back().done = true;
  }
  Ours out;

 private:
  bool refuse(const char* why) {
    out.refused = why;
    out.in_body = reading_body_;
    return false;
  }
  bool readHead() {
    const std::string bytes = in_.toString();
    std::size_t consumed = 0;
    const auto status = parser_.feed(bytes, consumed);
    if (status == H1HeadParser::Status::kError) return refuse(parser_.refusal().text);
    if (status == H1HeadParser::Status::kNeedMore) {
      in_.drain(consumed);
      waiting_ = true;
      return true;
    }
    const codec::H1Head& head = parser_.head();
    Message& message = out.messages.emplace_back();
    message.head = true;
    message.method = head.method;
    message.target = head.target;
    message.status = head.status;
    message.minor_version = head.minor_version;
    message.keep_alive = head.keep_alive && head.body != codec::H1Body::kUntilClose;
    for (const codec::H1Field& field : head.fields)
      message.fields.emplace_back(field.name, field.value);
    // What follows may be another protocol.
    last_ = !message.keep_alive || head.method == "CONNECT" || head.status == 101 ||
            (role_ == H1HeadParser::Role::kRequest && head.upgrade) ||
            (asked_ == "CONNECT" && head.status / 100 == 2);
    body_.start(head.body, head.content_length);
    in_.drain(consumed);
    parser_.reset(asked_);
    if (message.method == "CONNECT") return false;
    reading_body_ = !body_.done();
    return reading_body_ || complete();
  }
  bool readBody() {
    base::Buffer piece;
    const auto status = body_.read(in_, piece);
    Message& message = out.messages.back();
    message.body += piece.toString();
    if (status == H1BodyReader::Status::kError) return refuse(body_.error());
    if (status == H1BodyReader::Status::kNeedMore) waiting_ = true;
    if (status != H1BodyReader::Status::kEnd) return true;
    message.trailers = body_.trailers();
    reading_body_ = false;
    return complete();
  }
  bool complete() {
    out.messages.back().done = true;
    return !last_;
  }

  const H1HeadParser::Role role_;
  H1HeadParser parser_;
  H1BodyReader body_{kLimits};
  base::Buffer in_;
  std::string_view asked_;
  bool reading_body_ = false;
  bool waiting_ = false;
  bool last_ = false;
};

Ours parseOurs(std::string_view bytes, std::size_t piece, H1HeadParser::Role role, Asked asked) {
  OurConnection connection(role, asked);
  bool open = true;
  while (open && !bytes.empty()) {
    open = connection.feed(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  if (open) connection.end();
  return std::move(connection.out);
}

// ---- both ----

bool sameHead(const Message& ours, const Message& theirs) {
  return theirs.head && ours.method == theirs.method && ours.target == theirs.target &&
         ours.status == theirs.status && ours.minor_version == theirs.minor_version &&
         ours.fields == theirs.fields && (theirs.keep_alive || !ours.keep_alive);
}

/// A line with two semicolons, as the length of a chunk with several extensions is.
bool hasListOfTwo(std::string_view bytes) {
  int semicolons = 0;
  for (const char c : bytes) {
    if (c == ';' && ++semicolons == 2) return true;
    if (c == '\n') semicolons = 0;
  }
  return false;
}

/// What llhttp cannot take although it is right: of a chunk's extensions the white space, quoted
/// pairs, and some lists; a tab after a length.
bool beyondLlhttp(const Theirs& theirs, std::string_view bytes) {
  // Of a list it takes what follows the second semicolon for a length.
  if (theirs.refused.starts_with("Invalid character in chunk size")) return hasListOfTwo(bytes);
  return theirs.refused.starts_with("Invalid character in chunk extensions") ||
         theirs.refused.starts_with("Invalid character in Content-Length");
}

/// Ours took it: so must they have. False: it cannot be compared.
bool compareTaken(const Message& ours, const Theirs& theirs, std::size_t index,
                  H1HeadParser::Role role, std::string_view bytes) {
  if (role == H1HeadParser::Role::kRequest && !kMethods.contains(ours.method)) return false;
  POSTERN_CHECK(index < theirs.messages.size());
  const Message& message = theirs.messages[index];
  if (!message.head && beyondLlhttp(theirs, bytes)) return false;
  if (!message.head) std::fprintf(stderr, "llhttp: %s\n", theirs.refused.data());
  // A word of `connection` with a tab behind it is none to llhttp (RFC 9110 5.6.3: it is white
  // space).
  if (ours.keep_alive && message.head && !message.keep_alive && bytes.contains('\t')) return false;
  POSTERN_CHECK(sameHead(ours, message));
  if (ours.method == "CONNECT") return false;
  if (!message.done && beyondLlhttp(theirs, bytes)) return false;
  if (!ours.done) {
    POSTERN_CHECK(message.body.starts_with(ours.body) || ours.body.starts_with(message.body));
    return true;
  }
  if (!message.done) std::fprintf(stderr, "llhttp: %s\n", theirs.refused.data());
  POSTERN_CHECK(message.done && message.body == ours.body && message.trailers == ours.trailers);
  ++counts().messages;
  return true;
}

/// A CR without LF where a line begins: llhttp passes over it ahead of a request, although an empty
/// line is CRLF (RFC 9112 2.2).
bool hasLineOfCr(std::string_view bytes) {
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    const bool begins = i == 0 || bytes[i - 1] == '\n' || bytes[i - 1] == '\r';
    if (begins && bytes[i] == '\r' && bytes[i + 1] != '\n') return true;
  }
  return false;
}

bool isStricter(std::string_view refused, std::string_view bytes) {
  if (kStricter.contains(refused)) return true;
  if (refused == "invalid method" && hasLineOfCr(bytes)) return true;
  const auto [first, last] = kStricterAbout.equal_range(refused);
  return std::any_of(first, last, [&](const auto& each) { return bytes.contains(each.second); });
}

/// Ours refused: they may have taken it only for a known reason.
void compareRefused(const Ours& ours, const Theirs& theirs, std::string_view bytes) {
  const std::size_t index = ours.messages.size() - (ours.in_body ? 1 : 0);
  if (index >= theirs.messages.size()) return;
  const Message& message = theirs.messages[index];
  if (!(ours.in_body ? message.done : message.head)) return;
  const bool ancient = message.minor_version == 9;  // HTTP/0.9: a request line without a version
  const bool known = ancient || isStricter(ours.refused, bytes);
  if (!known) std::fprintf(stderr, "taken by llhttp: %s\n", ours.refused);
  POSTERN_CHECK(known);
  ++counts().by_reason[ancient ? "HTTP/0.9" : ours.refused];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto role =
      (data[0] & 1) != 0 ? H1HeadParser::Role::kResponse : H1HeadParser::Role::kRequest;
  const auto asked = static_cast<Asked>((data[0] >> 1 & 3) % 3);
  const std::size_t cut = data[0] >> 3;
  const Theirs theirs = parseTheirs(bytes, role, asked);
  const Ours ours = parseOurs(bytes, cut == 0 ? size : cut, role, asked);
  for (std::size_t i = 0; i < ours.messages.size(); ++i) {
    if (!compareTaken(ours.messages[i], theirs, i, role, bytes)) return 0;
  }
  if (ours.refused != nullptr) compareRefused(ours, theirs, bytes);
  return 0;
}
