#include "codec/h1_parser.h"

#include "base/strings.h"

#include <algorithm>
#include <array>

namespace postern::codec {
namespace {

constexpr std::size_t kChunkLineBytesMax = 4096;  // size and extensions of one chunk
constexpr std::size_t kEmptyLinesBytesMax = 16;   // CRLFs skipped before a message

constexpr std::array<bool, 256> makeTokenTable() {
  std::array<bool, 256> table{};
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  for (std::size_t c = '0'; c <= '9'; ++c) table[c] = true;
  for (std::size_t c = 'a'; c <= 'z'; ++c) table[c] = true;
  for (std::size_t c = 'A'; c <= 'Z'; ++c) table[c] = true;
  return table;
}
constexpr auto kToken = makeTokenTable();

bool isToken(std::string_view text) {
  for (char c : text) {
    if (!kToken[static_cast<unsigned char>(c)]) return false;
  }
  return !text.empty();
}

/// field-value: HTAB, SP, VCHAR, obs-text.
bool isValue(std::string_view text) {
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) return false;
  }
  return true;
}

/// A request target holds no white space and no control bytes.
bool isTarget(std::string_view text) {
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f) return false;
  }
  return !text.empty();
}

bool listHas(std::string_view list, std::string_view wanted) {
  for (std::string_view item : base::split(list, ',')) {
    if (base::equalsIgnoreCase(base::trim(item), wanted)) return true;
  }
  return false;
}

}  // namespace

void H1HeadParser::reset(std::string_view response_to) {
  partial_.clear();
  std::vector<H1Field> fields = std::move(head_.fields);
  fields.clear();
  head_ = H1Head{};
  head_.fields = std::move(fields);
  to_head_ = response_to == "HEAD";
  to_connect_ = response_to == "CONNECT";
}

bool H1HeadParser::refuse(const char* error, int status) {
  error_ = error;
  error_status_ = status;
  return false;
}

H1HeadParser::Status H1HeadParser::feed(std::string_view bytes, std::size_t& consumed) {
  consumed = 0;
  if (partial_.empty()) {
    while (bytes.substr(consumed, 2) == "\r\n" && consumed < kEmptyLinesBytesMax) consumed += 2;
    bytes.remove_prefix(consumed);
    if (bytes.empty()) return Status::kNeedMore;
    std::size_t end = bytes.find("\r\n\r\n");
    if (end != std::string_view::npos) {
      consumed += end + 4;
      if (end + 4 <= limits_.head_bytes_max) return parse(bytes.substr(0, end + 2));
      refuse("header fields too large", 431);
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
      refuse("header fields too large", 431);
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
    return refuse("HTTP version not supported", 505);
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
  if (!isTarget(head_.target)) return refuse("invalid request target");
  return parseVersion(line.substr(two + 1));
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
  if (head_.fields.size() >= limits_.field_count_max) return refuse("too many header fields", 431);
  std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return refuse("header field without colon");
  std::string_view name = line.substr(0, colon);
  std::string_view value = base::trim(line.substr(colon + 1));
  if (!isToken(name)) return refuse("invalid header field name");
  if (!isValue(value)) return refuse("invalid header field value");
  head_.fields.push_back({name, value});
  return true;
}

bool H1HeadParser::interpret() {
  bool have_length = false;
  bool chunked = false;
  int hosts = 0;
  bool close = false;
  bool keep = false;
  bool connection_upgrade = false;
  bool upgrade = false;
  for (const H1Field& field : head_.fields) {
    // The length tells most fields apart before any comparison.
    switch (field.name.size()) {
      case 4:
        hosts += base::equalsIgnoreCase(field.name, "host") ? 1 : 0;
        break;
      case 7:
        upgrade |= base::equalsIgnoreCase(field.name, "upgrade");
        break;
      case 10:
        if (!base::equalsIgnoreCase(field.name, "connection")) break;
        close |= listHas(field.value, "close");
        keep |= listHas(field.value, "keep-alive");
        connection_upgrade |= listHas(field.value, "upgrade");
        break;
      case 14: {
        if (!base::equalsIgnoreCase(field.name, "content-length")) break;
        auto length = base::parseInteger<std::uint64_t>(field.value);
        if (!length) return refuse("malformed content-length");
        if (have_length && *length != head_.content_length)
          return refuse("differing content-lengths");
        head_.content_length = *length;
        have_length = true;
        break;
      }
      case 17:
        if (!base::equalsIgnoreCase(field.name, "transfer-encoding")) break;
        if (chunked || !base::equalsIgnoreCase(field.value, "chunked")) {
          return refuse("transfer-encoding is not supported", 501);
        }
        chunked = true;
        break;
      default:
        break;
    }
  }
  head_.keep_alive = head_.minor_version == 1 ? !close : keep && !close;
  head_.upgrade = connection_upgrade && upgrade;
  return decideBody(chunked, have_length, hosts);
}

bool H1HeadParser::decideBody(bool chunked, bool have_length, int hosts) {
  if (chunked && have_length) return refuse("content-length beside transfer-encoding");
  if (chunked && head_.minor_version == 0) return refuse("transfer-encoding in HTTP/1.0");
  const bool some_length = have_length && head_.content_length > 0;
  if (role_ == Role::kRequest) {
    if (hosts > 1 || (hosts == 0 && head_.minor_version == 1))
      return refuse("needs exactly one host header");
    if (chunked) head_.body = H1Body::kChunked;
    if (some_length) head_.body = H1Body::kLength;
    return true;
  }
  const int status = head_.status;
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

// ---- chunks ----

void H1ChunkDecoder::reset() {
  state_ = State::kSize;
  left_ = 0;
  line_.clear();
  trailer_bytes_ = 0;
  trailers_.clear();
}

H1ChunkDecoder::Event H1ChunkDecoder::refuse(const char* error) {
  error_ = error;
  state_ = State::kError;
  return Event::kError;
}

/// Collects one line into line_, without its CRLF; true when it is complete. Too long or a bare LF:
/// state kError.
bool H1ChunkDecoder::line(std::string_view bytes, std::size_t& consumed) {
  std::size_t end = bytes.find('\n');
  std::size_t take = end == std::string_view::npos ? bytes.size() : end + 1;
  if (line_.size() + take > kChunkLineBytesMax) {
    refuse("chunk line too long");
    return false;
  }
  line_.append(bytes.substr(0, take));
  consumed += take;
  if (end == std::string_view::npos) return false;
  if (line_.size() < 2 || line_[line_.size() - 2] != '\r') {
    refuse("chunk line does not end in CRLF");
    return false;
  }
  line_.resize(line_.size() - 2);
  return true;
}

H1ChunkDecoder::Event H1ChunkDecoder::sizeLine() {
  std::string_view text = line_;
  std::size_t semicolon = text.find(';');
  std::string_view digits = text.substr(0, semicolon);
  if (semicolon != std::string_view::npos && !isValue(text.substr(semicolon)))
    return refuse("invalid chunk extension");
  if (digits.empty() || digits.size() > 15) return refuse("malformed chunk size");
  std::uint64_t size = 0;
  for (char c : digits) {
    char lower = base::toLowerAscii(c);
    bool decimal = lower >= '0' && lower <= '9';
    if (!decimal && !(lower >= 'a' && lower <= 'f')) return refuse("malformed chunk size");
    size = size * 16 + static_cast<std::uint64_t>(decimal ? lower - '0' : lower - 'a' + 10);
  }
  line_.clear();
  left_ = size;
  state_ = size == 0 ? State::kTrailer : State::kData;
  return Event::kNeedMore;
}

H1ChunkDecoder::Event H1ChunkDecoder::trailerLine() {
  if (line_.empty()) {
    state_ = State::kEnd;
    return Event::kEnd;
  }
  trailer_bytes_ += line_.size();
  if (trailer_bytes_ > limits_.head_bytes_max || trailers_.size() >= limits_.field_count_max) {
    return refuse("trailers too large");
  }
  std::string_view text = line_;
  std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || !isToken(text.substr(0, colon)) ||
      !isValue(text.substr(colon + 1))) {
    return refuse("malformed trailer");
  }
  trailers_.emplace_back(base::toLower(text.substr(0, colon)), base::trim(text.substr(colon + 1)));
  line_.clear();
  return Event::kNeedMore;
}

H1ChunkDecoder::Event H1ChunkDecoder::next(std::string_view bytes, std::size_t& consumed,
                                           std::string_view& data) {
  consumed = 0;
  while (state_ != State::kError && state_ != State::kEnd && consumed < bytes.size()) {
    std::string_view rest = bytes.substr(consumed);
    if (state_ == State::kData) {
      auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, rest.size()));
      data = rest.substr(0, take);
      consumed += take;
      left_ -= take;
      if (left_ == 0) state_ = State::kDataEnd;
      return Event::kData;
    }
    if (!line(rest, consumed)) continue;
    if (state_ == State::kDataEnd) {
      if (!line_.empty()) return refuse("chunk data does not end in CRLF");
      state_ = State::kSize;
      continue;
    }
    Event event = state_ == State::kSize ? sizeLine() : trailerLine();
    if (event != Event::kNeedMore) return event;
  }
  if (state_ == State::kEnd) return Event::kEnd;
  return state_ == State::kError ? Event::kError : Event::kNeedMore;
}

}  // namespace postern::codec
