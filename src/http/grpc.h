// gRPC over HTTP/2 streams: length-prefixed messages as bytes (no protobuf here), status in
// trailers.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "http/client.h"
#include "http/server.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postern::http {

// Status codes of gRPC that we produce.
inline constexpr int kGrpcCancelled = 1;
inline constexpr int kGrpcUnknown = 2;
inline constexpr int kGrpcDeadlineExceeded = 4;
inline constexpr int kGrpcPermissionDenied = 7;
inline constexpr int kGrpcResourceExhausted = 8;
inline constexpr int kGrpcUnimplemented = 12;
inline constexpr int kGrpcInternal = 13;
inline constexpr int kGrpcInvalidArgument = 3;
inline constexpr int kGrpcUnavailable = 14;
inline constexpr int kGrpcUnauthenticated = 16;

struct GrpcStatus {
  int code = 0;  // gRPC status code; 0 is OK
  std::string message;
};

inline constexpr std::size_t kGrpcMessageBytesMax =
    64 * 1024 * 1024;  // xDS snapshots are large; the default below

/// One call, either side. send() queues (bounded by the producer: see unsentBytes); closing twice
/// is harmless. Destroying it ends the call (client: cancelled; server: UNAVAILABLE if it was not
/// closed) and its callbacks; allowed inside any of them.
class GrpcStream {
 public:
  virtual ~GrpcStream() = default;
  virtual void send(std::string_view message) = 0;
  virtual std::size_t unsentBytes() const = 0;
  /// Client: half-close. Server: ends with this status.
  virtual void close(GrpcStatus status = {}) = 0;
  virtual const net::PeerInfo& peer() const = 0;
  virtual const net::Address& remote() const = 0;
};

struct GrpcCallbacks {
  base::Function<void(std::string_view message)> on_message;
  base::Function<void()> on_half_close;  // server: the client sends no more
  // Once, however the call ended (also after the server's own close()); nothing follows, the stream
  // may be destroyed. Never called inside send() or close().
  base::Function<void(GrpcStatus status)> on_close;
};

/// Server: answers calls by full method name "/package.Service/Method"; unknown methods get
/// UNIMPLEMENTED.
class GrpcServer {
 public:
  struct Options {
    ServerLimits limits;
    std::shared_ptr<const tls::ServerContext> tls;  // its ALPN list holds "h2"; null: cleartext
    std::size_t message_bytes_max = kGrpcMessageBytesMax;
  };
  /// Called at the start of a call; the handler keeps the stream and returns callbacks. To refuse:
  /// close with a status.
  using Method = base::Function<GrpcCallbacks(std::unique_ptr<GrpcStream> stream,
                                              const HeaderMap& request_headers)>;
  virtual ~GrpcServer() = default;
  static std::unique_ptr<GrpcServer> make(event::Loop& loop, Options options);
  virtual void addMethod(std::string full_name, Method method) = 0;
  /// Adds a listening socket, TCP or Unix.
  virtual void listen(base::Fd listener) = 0;
  /// Serves one accepted connection.
  virtual void serve(base::Fd connection) = 0;
  /// Replaces the certificate for new connections.
  virtual void setTls(std::shared_ptr<const tls::ServerContext> tls) = 0;
  /// Stops accepting; GOAWAY on every connection, which closes when its calls have ended.
  virtual void drain() = 0;
  virtual std::size_t connections() const = 0;
};

/// Client: one HTTP/2 connection per channel, reconnected by the caller (a closed channel stays
/// closed).
class GrpcChannel {
 public:
  struct Options {
    net::Address address;                           // TCP or Unix
    std::string host;                               // :authority, SNI and certificate check
    std::shared_ptr<const tls::ClientContext> tls;  // null: cleartext
    std::optional<std::string> tls_name;            // SNI instead of `host`; empty: none is sent
    std::string required_san;                       // as tls::ConnectOptions has it
    std::chrono::milliseconds connect_timeout{std::chrono::seconds(5)};
    std::size_t message_bytes_max = kGrpcMessageBytesMax;
    ClientLimits limits;  // of the connection
  };
  virtual ~GrpcChannel() = default;
  /// Connects at once. Destroying it ends its calls with UNAVAILABLE.
  static std::unique_ptr<GrpcChannel> make(event::Loop& loop, Options options);
  /// Over an existing transport, connecting or just made by net::connectTransport (a relay).
  static std::unique_ptr<GrpcChannel> over(event::Loop& loop, Options options,
                                           std::unique_ptr<net::Transport> transport);
  /// A bidirectional call (unary too: send once, close, read one message). `metadata` goes into the
  /// request headers, for example authorization. Never null; on a closed channel on_close follows.
  virtual std::unique_ptr<GrpcStream> call(std::string_view full_name, const HeaderMap& metadata,
                                           GrpcCallbacks callbacks) = 0;
  /// The connection is lost or draining: calls end with UNAVAILABLE, make a new channel.
  virtual bool closed() const { return false; }
};

}  // namespace postern::http
