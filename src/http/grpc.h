// gRPC over HTTP/2 streams: length-prefixed messages as bytes (no protobuf here), status in
// trailers.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "http/client.h"
#include "http/server.h"

#include <memory>
#include <string>
#include <string_view>

namespace postern::http {

struct GrpcStatus {
  int code = 0;  // gRPC status code; 0 is OK
  std::string message;
};

inline constexpr std::size_t kGrpcMessageBytesMax =
    256 * 1024 * 1024;  // xDS snapshots are large; configurable below

/// One call, either side. send() queues (bounded by the producer: see unsentBytes); closing twice
/// is harmless.
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
  base::Function<void(GrpcStatus status)>
      on_close;  // once; nothing follows, the stream may be destroyed
};

/// Server: answers calls by full method name "/package.Service/Method"; unknown methods get
/// UNIMPLEMENTED.
class GrpcServer {
 public:
  struct Options {
    ServerLimits limits;
    std::shared_ptr<const tls::ServerContext> tls;
    std::size_t message_bytes_max = 64 * 1024 * 1024;
  };
  /// Called at the start of a call; the handler keeps the stream and returns callbacks. To refuse:
  /// close with a status.
  using Method = base::Function<GrpcCallbacks(std::unique_ptr<GrpcStream> stream,
                                              const HeaderMap& request_headers)>;
  virtual ~GrpcServer() = default;
  static std::unique_ptr<GrpcServer> make(event::Loop& loop, Options options);
  virtual void addMethod(std::string full_name, Method method) = 0;
  virtual void listen(base::Fd listener) = 0;
};

/// Client: one HTTP/2 connection per channel, reconnected by the caller (a closed channel stays
/// closed).
class GrpcChannel {
 public:
  struct Options {
    net::Address address;
    std::string host;
    std::shared_ptr<const tls::ClientContext> tls;
    std::size_t message_bytes_max = 64 * 1024 * 1024;
  };
  virtual ~GrpcChannel() = default;
  static std::unique_ptr<GrpcChannel> make(event::Loop& loop, Options options);
  /// A bidirectional call (unary too: send once, close, read one message).
  virtual std::unique_ptr<GrpcStream> call(std::string_view full_name, const HeaderMap& metadata,
                                           GrpcCallbacks callbacks) = 0;
};

}  // namespace postern::http
