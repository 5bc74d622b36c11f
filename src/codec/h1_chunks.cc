// The chunked coding.
#include "base/strings.h"
#include "codec/h1_chars.h"
#include "codec/h1_parser.h"

#include <algorithm>

namespace postern::codec {
namespace {

constexpr std::size_t kChunkLineBytesMax = 4096;  // size and extensions of one chunk
constexpr std::size_t kExtensionBytesMax = 4096;  // of all chunks of a message

/// Fields that a trailer section must not hold.
bool isForbiddenTrailer(std::string_view name) {
  for (std::string_view each : {"content-length", "transfer-encoding", "host", "connection",
                                "upgrade", "te", "keep-alive", "proxy-connection"}) {
    if (base::equalsIgnoreCase(name, each)) return true;
  }
  return false;
}

void skipBlanks(std::string_view& text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
}

bool takeToken(std::string_view& text) {
  std::size_t size = 0;
  while (size < text.size() && kToken[static_cast<unsigned char>(text[size])]) ++size;
  text.remove_prefix(size);
  return size > 0;
}

/// quoted-string (RFC 9110 5.6.4), without control bytes: isValue() was asked before.
bool takeQuoted(std::string_view& text) {
  text.remove_prefix(1);
  while (!text.empty() && text.front() != '"') {
    if (text.front() == '\\') text.remove_prefix(1);
    if (!text.empty()) text.remove_prefix(1);
  }
  if (text.empty()) return false;
  text.remove_prefix(1);
  return true;
}

/// chunk-ext (RFC 9112 7.1.1) from its first semicolon on. Nobody reads them, but where they end is
/// where the next chunk begins: what is no extension is refused, as others may see an end in it.
bool isExtension(std::string_view text) {
  if (!isValue(text)) return false;
  while (!text.empty()) {
    if (text.front() != ';') return false;
    text.remove_prefix(1);
    skipBlanks(text);
    if (!takeToken(text)) return false;
    skipBlanks(text);
    if (!text.starts_with('=')) continue;
    text.remove_prefix(1);
    skipBlanks(text);
    if (text.starts_with('"') ? !takeQuoted(text) : !takeToken(text)) return false;
    skipBlanks(text);
  }
  return true;
}

}  // namespace

void H1ChunkDecoder::reset() {
  state_ = State::kSize;
  left_ = 0;
  line_.clear();
  trailer_bytes_ = 0;
  extension_bytes_ = 0;
  trailers_.clear();
}

void H1ChunkDecoder::skip(std::uint64_t bytes) {
  left_ -= bytes;
  if (left_ == 0) state_ = State::kDataEnd;
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
  if (semicolon != std::string_view::npos) {
    if (!isExtension(text.substr(semicolon))) return refuse("invalid chunk extension");
    extension_bytes_ += text.size() - semicolon;
    if (extension_bytes_ > kExtensionBytesMax) return refuse("chunk extensions too long");
  }
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
  if (isForbiddenTrailer(text.substr(0, colon))) return refuse("forbidden trailer");
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
