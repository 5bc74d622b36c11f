#include "http/h1_message.h"

#include "base/words.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace postern::http {

void H1BodyReader::start(codec::H1Body framing, std::uint64_t length) {
  framing_ = framing;
  left_ = length;
  done_ = framing == codec::H1Body::kNone;
  if (framing != codec::H1Body::kChunked) {
    chunks_ = nullptr;
  } else if (chunks_ != nullptr) {
    chunks_->reset();
  } else {
    chunks_ = std::make_unique<codec::H1ChunkDecoder>(limits_);
  }
}

const std::vector<std::pair<std::string, std::string>>& H1BodyReader::trailers() const {
  static const std::vector<std::pair<std::string, std::string>> kNone;
  return chunks_ == nullptr ? kNone : chunks_->trailers();
}

H1BodyReader::Status H1BodyReader::read(base::Buffer& in, base::Buffer& out) {
  if (done_) return Status::kEnd;
  if (framing_ == codec::H1Body::kChunked) return readChunks(in, out);
  if (in.empty()) return Status::kNeedMore;
  std::size_t take = std::min(in.size(), kReadBytes);
  if (framing_ == codec::H1Body::kLength)
    take = static_cast<std::size_t>(std::min<std::uint64_t>(take, left_));
  out.append(in, take);
  if (framing_ == codec::H1Body::kUntilClose) return Status::kPiece;
  left_ -= take;
  done_ = left_ == 0;
  return done_ ? Status::kEnd : Status::kPiece;
}

H1BodyReader::Status H1BodyReader::readChunks(base::Buffer& in, base::Buffer& out) {
  while (!in.empty() && out.size() < kReadBytes) {
    std::size_t consumed = 0;
    std::string_view data;
    codec::H1ChunkDecoder::Event event = chunks_->next(in.front(), consumed, data);
    if (event == codec::H1ChunkDecoder::Event::kError) return Status::kError;
    if (event == codec::H1ChunkDecoder::Event::kData) out.append(data);
    in.drain(consumed);
    if (event == codec::H1ChunkDecoder::Event::kEnd) {
      done_ = true;
      return Status::kEnd;
    }
  }
  return out.empty() ? Status::kNeedMore : Status::kPiece;
}

std::uint64_t H1BodyReader::straight() const {
  if (done_) return 0;
  switch (framing_) {
    case codec::H1Body::kNone:
      return 0;
    case codec::H1Body::kLength:
      return left_;
    case codec::H1Body::kChunked:
      return chunks_->dataLeft();
    case codec::H1Body::kUntilClose:
      break;
  }
  return std::numeric_limits<std::uint64_t>::max();
}

H1BodyReader::Status H1BodyReader::skip(std::uint64_t bytes) {
  if (framing_ == codec::H1Body::kChunked) chunks_->skip(bytes);
  if (framing_ != codec::H1Body::kLength) return Status::kPiece;
  left_ -= bytes;
  done_ = left_ == 0;
  return done_ ? Status::kEnd : Status::kPiece;
}

H1BodyReader::Status H1BodyReader::end() {
  if (framing_ != codec::H1Body::kUntilClose) return Status::kError;
  done_ = true;
  return Status::kEnd;
}

namespace {

char* put(char* to, std::string_view bytes) {
  base::copyBytes(to, bytes.data(), bytes.size());
  return to + bytes.size();
}

/// Belongs to this connection; told by its length from nearly all others. With `upgrade` the
/// connection field is the message's own.
bool ofConnection(std::string_view name, bool upgrade) {
  switch (name.size()) {
    case 10:
      return (name == "connection" && !upgrade) || name == "keep-alive";
    case 16:
      return name == "proxy-connection";
    case 17:
      return name == "transfer-encoding";
    default:
      return false;
  }
}

}  // namespace

void writeStatusLine(base::Buffer& out, int status, int minor_version) {
  if (status == 200 && minor_version != 0) return out.append("HTTP/1.1 200 OK\r\n");
  char digits[16];
  auto [end, error] = std::to_chars(digits, digits + sizeof digits, status);
  out.append(minor_version == 0 ? "HTTP/1.0 " : "HTTP/1.1 ");
  out.append(std::string_view(digits, static_cast<std::size_t>(end - digits)));
  out.append(" ");
  out.append(reasonPhrase(status));
  out.append("\r\n");
}

void writeName(base::Buffer& out, std::string_view name, const HeaderMap& headers,
               HeaderCase style) {
  if (headers.spelling() != nullptr) {
    const std::string_view spelled = headers.spelling()->of(name);
    if (!spelled.empty()) return out.append(spelled);
  }
  if (style != HeaderCase::kProper && style != HeaderCase::kPreserveOrProper)
    return out.append(name);
  std::string proper;
  appendProperCase(proper, name);
  out.append(proper);
}

void writeField(base::Buffer& out, std::string_view name, std::string_view value,
                const HeaderMap& headers, HeaderCase style) {
  if (style == HeaderCase::kLower && headers.spelling() == nullptr) {
    out.append(name);
  } else {
    writeName(out, name, headers, style);
  }
  out.append(": ");
  out.append(value);
  out.append("\r\n");
}

void writeFields(base::Buffer& out, const HeaderMap& headers, HeaderCase style) {
  constexpr std::size_t kAroundField = 4;  // ": " and CRLF
  const bool upgrade = headers.has("upgrade");
  if (style == HeaderCase::kLower && headers.spelling() == nullptr) {
    char* room = nullptr;
    if (out.reserve(room) >= headers.bytes() + kAroundField * headers.size()) {
      char* at = room;
      headers.each([&](std::string_view name, std::string_view value) {
        if (name.starts_with(':') || ofConnection(name, upgrade)) return;
        at = put(put(put(put(at, name), ": "), value), "\r\n");
      });
      return out.commit(static_cast<std::size_t>(at - room));
    }
    out.commit(0);
  }
  headers.each([&](std::string_view name, std::string_view value) {
    if (name.starts_with(':') || ofConnection(name, upgrade)) return;
    writeField(out, name, value, headers, style);
  });
}

std::shared_ptr<const HeaderSpelling> spellingOf(const codec::H1Head& head, HeaderCase style) {
  if (style != HeaderCase::kPreserve && style != HeaderCase::kPreserveOrProper) return nullptr;
  auto out = std::make_shared<HeaderSpelling>();
  for (const codec::H1Field& field : head.fields) out->add(field.name);
  return out;
}

void writeChunk(base::Buffer& out, base::Buffer& data) {
  if (data.empty()) return;  // an empty chunk would end the body
  writeChunkSize(out, data.size());
  out.append(data);
  out.append("\r\n");
}

void writeChunkSize(base::Buffer& out, std::size_t bytes) {
  char digits[20];
  auto [end, error] = std::to_chars(digits, digits + sizeof digits, bytes, 16);
  out.append(std::string_view(digits, static_cast<std::size_t>(end - digits)));
  out.append("\r\n");
}

void writeLastChunk(base::Buffer& out, const HeaderMap* trailers, HeaderCase style) {
  out.append("0\r\n");
  if (trailers != nullptr) writeFields(out, *trailers, style);
  out.append("\r\n");
}

std::string_view reasonPhrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 103:
      return "Early Hints";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 203:
      return "Non-Authoritative Information";
    case 204:
      return "No Content";
    case 205:
      return "Reset Content";
    case 206:
      return "Partial Content";
    case 300:
      return "Multiple Choices";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Entity";
    case 426:
      return "Upgrade Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

}  // namespace postern::http
