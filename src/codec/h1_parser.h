// HTTP/1 message heads and the chunked coding, strictly by RFC 9112: bytes in, views out, no I/O
// and no clock. What other parsers read differently is refused, so that nobody can smuggle a
// request past us: bare LF, obs-fold, space before the colon, NUL and control bytes, Content-Length
// beside Transfer-Encoding, differing Content-Lengths, codings other than chunked. Views point into
// the caller's bytes or into the parser, until the next feed() or reset().
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::codec {

struct H1Limits {
  std::size_t head_bytes_max = 60 * 1024;
  std::size_t field_count_max = 100;
  bool host_required = true;  // of requests in HTTP/1.1
  bool http_10 = true;        // requests in HTTP/1.0 are taken
  bool absolute_form = true;  // "GET http://host/path" is split; otherwise it is a path like any
  // Transfer-Encoding beside Content-Length: the length is dropped (RFC 9112 6.3) instead of the
  // message being refused.
  bool chunked_beats_length = false;
};

/// Why a message is refused: for people, as Envoy's response code detail ("http1.codec_error"), and
/// the status a server answers with (400, 426, 431, 501). All texts are static.
struct H1Refusal {
  const char* text = "";
  const char* details = "";
  int status = 400;
};

enum class H1Body : unsigned char { kNone, kLength, kChunked, kUntilClose };

struct H1Field {
  std::string_view name;  // as sent
  std::string_view value;
};

struct H1Head {
  std::string_view method;  // request
  std::string_view target;  // request, as sent
  // Of the target: its path with query (empty for CONNECT), and its authority (of CONNECT and of
  // the absolute form; it counts instead of Host, RFC 9112 3.2.2).
  std::string_view path;
  std::string_view authority;
  std::string_view reason;  // response
  int status = 0;           // response
  int minor_version = 1;    // HTTP/1.0 or HTTP/1.1
  H1Body body = H1Body::kNone;
  std::uint64_t content_length = 0;
  bool keep_alive = true;       // what the version and Connection say
  bool upgrade = false;         // Connection: upgrade, with an Upgrade field
  bool length_dropped = false;  // see H1Limits::chunked_beats_length
  std::vector<H1Field> fields;
};

class H1HeadParser {
 public:
  enum class Role : unsigned char { kRequest, kResponse };
  enum class Status : unsigned char { kNeedMore, kDone, kError };

  H1HeadParser(Role role, H1Limits limits) : role_(role), limits_(limits) {}

  /// Takes bytes up to the end of the head; `consumed` says how many. After kDone head() is valid
  /// until reset().
  Status feed(std::string_view bytes, std::size_t& consumed);
  /// Ready for the next message. `response_to` is the request's method (answers to HEAD and CONNECT
  /// have no body).
  void reset(std::string_view response_to = {});
  /// For the messages to come, which may be another connection's.
  void setLimits(const H1Limits& limits) { limits_ = limits; }

  const H1Head& head() const { return head_; }
  /// After kError: why.
  const H1Refusal& refusal() const { return refusal_; }
  /// Some bytes of a head have arrived, not all.
  bool started() const { return !partial_.empty(); }

 private:
  Status parse(std::string_view head);
  bool parseRequestLine(std::string_view line);
  bool parseStatusLine(std::string_view line);
  bool parseVersion(std::string_view text);
  bool parseTarget();
  bool parseAbsolute(std::size_t scheme_size);
  bool parseField(std::string_view line);
  bool interpret();
  bool interpretConnection(std::string_view value);
  bool decideBody(bool chunked, bool have_length, int hosts);
  bool refuse(const char* text, const char* details = "http1.codec_error", int status = 400);

  Role role_;
  H1Limits limits_;
  H1Head head_;
  std::string partial_;  // a head that came in pieces
  H1Refusal refusal_;
  std::size_t nominated_ = 0;  // names in Connection
  bool connection_upgrade_ = false;
  bool connection_close_ = false;
  bool connection_keep_ = false;
  bool to_head_ = false;
  bool to_connect_ = false;
};

/// What Host and :authority may hold: a name or an address (RFC 3986 3.2.2) and a port. No user
/// information, no list, no zone. May be empty.
bool isHostAndPort(std::string_view text);

/// What CONNECT asks for: a host and a port, both there (RFC 9112 3.2.3, RFC 9113 8.5).
bool isConnectTarget(std::string_view text);

/// Decodes the chunked coding (RFC 9112 7.1); extensions are skipped (4 KiB of them in a message),
/// trailers collected under the head's limits. Trailers that would frame or route a message are
/// refused (RFC 9110 6.5.1).
class H1ChunkDecoder {
 public:
  enum class Event : unsigned char { kNeedMore, kData, kEnd, kError };
  explicit H1ChunkDecoder(H1Limits limits) : limits_(limits) {}

  /// Consumes a part of `bytes`. With kData, `data` is body content inside `bytes`. Call again with
  /// the rest.
  Event next(std::string_view bytes, std::size_t& consumed, std::string_view& data);
  void reset();
  /// Content of the present chunk that is still to come.
  std::uint64_t dataLeft() const { return state_ == State::kData ? left_ : 0; }
  /// So much of it was taken past this decoder; at most dataLeft().
  void skip(std::uint64_t bytes);
  const std::vector<std::pair<std::string, std::string>>& trailers() const { return trailers_; }
  const char* error() const { return error_; }

 private:
  enum class State : unsigned char { kSize, kData, kDataEnd, kTrailer, kEnd, kError };
  bool line(std::string_view bytes, std::size_t& consumed);
  Event sizeLine();
  Event trailerLine();
  Event refuse(const char* error);

  H1Limits limits_;
  State state_ = State::kSize;
  std::uint64_t left_ = 0;
  std::string line_;
  std::size_t trailer_bytes_ = 0;
  std::size_t extension_bytes_ = 0;
  std::vector<std::pair<std::string, std::string>> trailers_;
  const char* error_ = "";
};

}  // namespace postern::codec
