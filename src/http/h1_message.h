// What both sides of HTTP/1 share: reading a body of a known framing piece by piece, and writing
// messages. No I/O.
#pragma once

#include "base/buffer.h"
#include "codec/h1_parser.h"
#include "http/headers.h"
#include "http/stream.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::http {

/// Takes body content out of raw input.
class H1BodyReader {
 public:
  enum class Status : unsigned char { kNeedMore, kPiece, kEnd, kError };
  explicit H1BodyReader(const codec::H1Limits& limits) : limits_(limits) {}

  void start(codec::H1Body framing, std::uint64_t length);
  bool done() const { return done_; }
  /// Moves at most kReadBytes of content from `in` to `out`; kEnd may come with a last piece in
  /// `out`.
  Status read(base::Buffer& in, base::Buffer& out);
  /// Content that comes next without any framing in between: what may be taken past this reader.
  std::uint64_t straight() const;
  /// So much of it was taken: at most straight().
  Status skip(std::uint64_t bytes);
  /// The peer ended its direction: the end of a body that runs until close, an error for any other.
  Status end();
  /// After kError in a chunked body: why. Static text.
  const char* error() const { return chunks_ == nullptr ? "" : chunks_->error(); }
  const std::vector<std::pair<std::string, std::string>>& trailers() const;

 private:
  Status readChunks(base::Buffer& in, base::Buffer& out);
  codec::H1Limits limits_;
  std::unique_ptr<codec::H1ChunkDecoder> chunks_;  // of a chunked body
  std::uint64_t left_ = 0;
  codec::H1Body framing_ = codec::H1Body::kNone;
  bool done_ = true;
};

/// How an outgoing body is framed.
enum class H1Framing : unsigned char { kNone, kLength, kChunked, kUntilClose };

void writeStatusLine(base::Buffer& out, int status, int minor_version = 1);
/// One name, spelled as the message's peer or `style` wants it. What the peer spelled counts.
void writeName(base::Buffer& out, std::string_view name, const HeaderMap& headers,
               HeaderCase style);
/// All fields but pseudo headers and those that belong to the connection (connection without
/// upgrade, keep-alive, proxy-connection, transfer-encoding), in order.
void writeFields(base::Buffer& out, const HeaderMap& headers, HeaderCase style);
/// One more field of the message.
void writeField(base::Buffer& out, std::string_view name, std::string_view value,
                const HeaderMap& headers, HeaderCase style);
void writeChunk(base::Buffer& out, base::Buffer& data);
/// The line before a chunk's content; CRLF follows that.
void writeChunkSize(base::Buffer& out, std::size_t bytes);
void writeLastChunk(base::Buffer& out, const HeaderMap* trailers, HeaderCase style);
/// The spelling of a message's names, when `style` wants it kept; null otherwise.
std::shared_ptr<const HeaderSpelling> spellingOf(const codec::H1Head& head, HeaderCase style);
/// RFC 9110 reason phrase, "Unknown" for others.
std::string_view reasonPhrase(int status);

}  // namespace postern::http
