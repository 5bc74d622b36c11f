// Serving HTTP on a loop: connections (HTTP/1.1, HTTP/2 by ALPN or preface), limits, and two ways
// to answer: a stream observer per request (proxy, gRPC), or a handler that gets the whole request
// (control plane, API server).
#pragma once

#include "base/function.h"
#include "event/loop.h"
#include "http/h2_limits.h"
#include "http/headers.h"
#include "http/stream.h"
#include "net/socket.h"
#include "tls/tls.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::http {

/// HTTP/1: above, a connection is full, and has room again at a quarter of it.
inline constexpr std::size_t kUnsentBytesMax = 128 * 1024;

/// Each limit has a test that reaches it.
struct ServerLimits {
  std::size_t header_bytes_max = 60 * 1024;
  std::size_t header_count_max = 100;
  std::size_t body_bytes_max = 4 * 1024 * 1024;                   // whole-request handlers only
  std::chrono::milliseconds idle_timeout{std::chrono::hours(1)};  // 0: none
  std::chrono::milliseconds headers_timeout{std::chrono::seconds(30)};  // 0: none
  // HTTP/1: how long an idle connection that drains still takes a request (answered with
  // `connection: close`); 0: it is closed at once.
  std::chrono::milliseconds drain_timeout{0};
  // How long the client's end is waited for after a last answer whose request was not read to its
  // end (HTTP/1), or after GOAWAY (HTTP/2). 0: closed at once, which may cost the client both.
  std::chrono::milliseconds delayed_close_timeout{std::chrono::seconds(1)};
  // An answer that is complete here and that the client does not take. 0: for ever.
  std::chrono::milliseconds flush_timeout{std::chrono::minutes(5)};
  std::size_t connections_max = 65536;
  H2Limits h2;
  // HTTP/1 only.
  bool host_required = true;          // HTTP/1.1 without Host is refused by the codec
  bool http_10 = true;                // otherwise refused with 426
  bool absolute_form = true;          // "GET http://host/path"
  bool chunked_beats_length = false;  // otherwise both together are refused
  bool trailers = true;               // otherwise dropped, both ways
  HeaderCase header_case = HeaderCase::kLower;
  std::size_t unsent_bytes_max = kUnsentBytesMax;
};

/// What waits unsent is at most about so much, if that is less than by default: on an HTTP/1
/// connection, in an HTTP/2 stream. One piece more (64 KiB) may come before its sender stops.
/// `limits`: ServerLimits or ClientLimits.
template <class Limits>
void limitUnsent(Limits& limits, std::size_t bytes) {
  limits.unsent_bytes_max = std::min(limits.unsent_bytes_max, bytes);
  limits.h2.stream_unsent_bytes_max = std::min(limits.h2.stream_unsent_bytes_max, bytes);
}

/// The limits of a connection: one copy for all that have the same.
class SharedLimits {
 public:
  SharedLimits() : SharedLimits(ServerLimits{}) {}
  SharedLimits(const ServerLimits& limits)  // NOLINT(google-explicit-constructor): a copy
      : limits_(std::make_shared<const ServerLimits>(limits)) {}
  explicit SharedLimits(std::shared_ptr<const ServerLimits> limits) : limits_(std::move(limits)) {}
  const ServerLimits& operator*() const { return *limits_; }
  const ServerLimits* operator->() const { return limits_.get(); }

 private:
  std::shared_ptr<const ServerLimits> limits_;
};

/// kTunnel: no HTTP at all, the one stream of a client connection is its bytes.
enum class Protocol : unsigned char { kAuto, kHttp1, kHttp2, kTunnel };

class ServerConnection;

/// So much of its observer's memory a connection fetches into the cache while it reads a request.
inline constexpr std::size_t kServerObserverBytes = 640;

/// Upward interface of a server connection.
class ServerObserver {
 public:
  virtual ~ServerObserver() = default;
  /// A new exchange; set the stream's observer before returning. The stream lives until its end or
  /// reset; the returned observer must outlive it or reset it.
  virtual StreamObserver* onStream(ServerConnection& connection, Stream& stream) = 0;
  /// HTTP/2: a request that is malformed. The stream ends at once; the observer, if there is one,
  /// is told why and sees no headers.
  virtual StreamObserver* onInvalidRequest(ServerConnection& connection, Stream& stream) {
    (void)connection, (void)stream;
    return nullptr;
  }
  /// Protocol::kAuto, the protocol is known: `now` takes the place of `before`, which is gone
  /// without onClosed. For whoever keeps the connection to use it.
  virtual void onProtocol(ServerConnection& before, ServerConnection& now) {
    (void)before, (void)now;
  }
  /// Something to count.
  enum class Event : unsigned char { kIdleTimeout, kDelayedCloseTimeout };
  virtual void onEvent(ServerConnection& connection, Event event) { (void)connection, (void)event; }
  /// The connection is gone, streams first. It destroys itself after this returns.
  virtual void onClosed(ServerConnection& connection) = 0;
  /// HTTP/2: the connection's unfinished requests hold so many bytes of headers more (less). False:
  /// one more request is not borne now, it is refused and may be made again.
  virtual bool onHeldHeaders(std::ptrdiff_t change) {
    (void)change;
    return true;
  }
  virtual void onH2Event(H2Event event) { (void)event; }
};

/// One downstream connection. Owned by itself through the loop; destroyed after onClosed.
class ServerConnection {
 public:
  virtual ~ServerConnection() = default;
  static ServerConnection* start(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                 Protocol protocol, const SharedLimits& limits,
                                 ServerObserver& observer);
  virtual net::Transport& transport() = 0;
  /// No new requests: `connection: close` (HTTP/1) or GOAWAY (HTTP/2), closes when the last
  /// exchange ends; an idle HTTP/1 one after ServerLimits::drain_timeout.
  virtual void drain() = 0;
  /// Closes now, resetting streams.
  virtual void close() = 0;
};

/// A whole request, for handlers that want no streaming.
struct Request {
  HeaderMap headers;
  std::string method;
  std::string path;   // without query, percent-encoded as sent
  std::string query;  // without '?'
  std::string body;
  net::Address remote;
  net::PeerInfo peer;

  /// First value of a query parameter, decoded; "" if absent.
  std::string parameter(std::string_view name) const;
  std::vector<std::string> parameters(std::string_view name) const;
};

/// The way to answer one Request; may be kept and used in later turns of the same loop. Destroying
/// it unanswered answers 500.
class Responder {
 public:
  virtual ~Responder() = default;
  /// Whole answer; content-length is added.
  virtual void respond(int status, HeaderMap headers, std::string body) = 0;
  /// Streaming answer: start, write any number of times, end. write() returns how many bytes wait
  /// unsent, so a slow reader can be dropped by its producer.
  virtual void start(int status, HeaderMap headers) = 0;
  virtual std::size_t write(std::string_view bytes) = 0;
  virtual void end() = 0;
  /// Calls back once in a later turn when nothing waits unsent any more (after a write() that
  /// returned more than 0). For a producer that can wait.
  virtual void onDrained(base::Function<void()> callback) = 0;
  /// Called at most once when the client goes away before the end.
  virtual void onGone(base::Function<void()> callback) = 0;
  /// HTTP/1 only: sends 101 with these headers and hands over the raw connection with bytes already
  /// read. Null when the request cannot be upgraded (HTTP/2).
  virtual std::unique_ptr<net::Transport> upgrade(HeaderMap headers, base::Buffer& unread) = 0;
};

using Handler = base::Function<void(Request request, std::unique_ptr<Responder> responder)>;

/// Listens and serves whole requests. Loop thread; destruction closes everything.
class Server {
 public:
  struct Options {
    ServerLimits limits;
    std::shared_ptr<const tls::ServerContext> tls;  // null: cleartext
    Protocol protocol = Protocol::kAuto;            // by ALPN; cleartext: by the first bytes
  };
  virtual ~Server() = default;
  static std::unique_ptr<Server> make(event::Loop& loop, Options options, Handler handler);
  /// Adds a listening socket (net::listenSocket, or one handed over by another process).
  virtual void listen(base::Fd listener) = 0;
  /// Serves one accepted connection.
  virtual void serve(base::Fd connection) = 0;
  /// Replaces the certificate for new connections.
  virtual void setTls(std::shared_ptr<const tls::ServerContext> tls) = 0;
  /// Stops accepting and drains.
  virtual void drain() = 0;
  virtual std::size_t connections() const = 0;
};

}  // namespace postern::http
