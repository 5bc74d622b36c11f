// One request-response exchange, seen from either side; HTTP/1 and HTTP/2 alike. Down by method
// (Stream), up by one observer. Bodies are pulled: after headers nothing arrives until read() is
// called, and each read() brings one onData (at most kReadBytes), onTrailers or end. Writing is
// bounded too: when send* returns Flow::kFull the producer waits for onWritable before the next
// sendData. An upward call is the last statement of its function in the codec connection; the
// observer may destroy or reset the stream inside it.
#pragma once

#include "base/buffer.h"
#include "http/headers.h"
#include "net/splice_way.h"
#include "net/transport.h"

#include <cstddef>
#include <memory>
#include <span>

namespace postern::http {

inline constexpr std::size_t kReadBytes = 65536;
inline constexpr std::size_t kPipedFromBytes = 32768;
/// Of a stream's memory, what writing to it needs (for base::prefetch).
inline constexpr std::size_t kStreamBytes = 448;

enum class End : bool { kNo, kYes };
enum class Flow : unsigned char { kOpen, kFull };
enum class ResetReason : unsigned char {
  kCancel,   // either side gave up
  kRefused,  // REFUSED_STREAM or above GOAWAY's last stream: not processed, any method may be tried
             // again
  kConnectionLost,   // connection ended after bytes of the answer were seen, or it cannot be told
  kConnectFailure,   // never connected: nothing was sent
  kNotSent,          // a reused connection ended before the first byte of the request was written
  kLostBeforeReply,  // a reused connection ended with no byte of the answer seen
  kProtocol,         // the peer broke the protocol
  kInvalidField,     // HTTP/2: a header field of the peer was malformed
  kOverflow,         // a limit of ours (pending requests, header size)
  kTimeout,
  kLocal,  // our own reset
};

class StreamObserver {
 public:
  virtual ~StreamObserver() = default;
  /// Request headers (server) or final response headers (client). Once.
  virtual void onHeaders(HeaderMap headers, End end) = 0;
  /// Client only: a 1xx response other than 101.
  virtual void onInformational(HeaderMap headers) { (void)headers; }
  /// One piece of body, the answer to one read(). With End::kYes it is the last and may be empty.
  virtual void onData(base::Buffer& data, End end) = 0;
  /// As onData, of a piece that is in a pipe: only after Stream::acceptPipes().
  virtual void onPiped(net::PipedBytes& piece, End end) { (void)piece, (void)end; }
  virtual void onTrailers(HeaderMap trailers) = 0;
  /// Server only: the request cannot be taken, its head is malformed or too slow (then there was no
  /// onHeaders), or its body is. Whoever can answers now, whole, with sendHeaders and sendData, and
  /// returns true; the connection ends after it. Otherwise the codec answers by itself and onReset
  /// follows. `details` is static text, as Envoy's response code details name it.
  virtual bool onRefused(int status, std::string_view details) {
    (void)status, (void)details;
    return false;
  }
  /// After Flow::kFull: write again.
  virtual void onWritable() {}
  /// The exchange ended early; nothing follows.
  virtual void onReset(ResetReason reason) = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual void setObserver(StreamObserver* observer) = 0;
  /// Client: the request. Server: 1xx (only 100, 103) and then the response.
  virtual Flow sendHeaders(const HeaderMap& headers, End end) = 0;
  /// Takes all of `data`.
  virtual Flow sendData(base::Buffer& data, End end) = 0;
  virtual Flow sendTrailers(const HeaderMap& trailers) = 0;
  /// Whether a piece in a pipe reaches the peer without a copy.
  virtual bool takesPipes() const { return false; }
  /// As sendData, where takesPipes().
  virtual Flow sendPiped(net::PipedBytes& piece, End end) {
    (void)piece, (void)end;
    return Flow::kOpen;
  }
  /// Asks for the next piece of body.
  virtual void read() = 0;
  /// What its observer will need when the answer comes: a connection that has one exchange at a
  /// time fetches this memory into the cache while it reads. It must stay until the exchange ends.
  virtual void warm(std::span<const std::byte> memory) { (void)memory; }
  /// Until the exchange ends, pieces of a large body may come by onPiped, in pipes of `pipes`: from
  /// a plain socket, when kPipedFromBytes or more of content follow each other.
  virtual void acceptPipes(net::PipePool& pipes) { (void)pipes; }
  /// Ends the exchange now; no further callback.
  virtual void reset(ResetReason reason) = 0;
  /// HTTP/1 after 101 or a CONNECT 2xx: takes the raw transport with bytes already read. The stream
  /// is over. Null for HTTP/2 (use sendData/onData there).
  virtual std::unique_ptr<net::Transport> takeTransport(base::Buffer& unread) = 0;
  virtual const net::Transport& transport() const = 0;
  /// Bytes of bodies that wait here: for the peer, or to be asked for.
  virtual std::size_t bytesHeld() const = 0;
  /// 1, 2 → "HTTP/1.1", "HTTP/2"; 0 → "HTTP/1.0".
  virtual int httpVersion() const = 0;
};

}  // namespace postern::http
