// HTTP client on a loop: one connection (ClientConnection) for those who pool themselves (the
// proxy), and Client with a small keep-alive pool for whole requests and streamed answers
// (Kubernetes client, tests, probes).
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "event/loop.h"
#include "http/server.h"
#include "http/stream.h"
#include "net/socket.h"
#include "tls/tls.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace postern::http {

inline constexpr int kInformationalMax = 16;  // 1xx answers before the final one

struct ClientLimits {
  std::size_t header_bytes_max = 60 * 1024;  // HTTP/2
  std::size_t h1_header_bytes_max =
      80 * 1024;  // HTTP/1, where names and cookies are not compressed
  std::size_t header_count_max = 100;
  H2Limits h2;
  // HTTP/2: until the peer's SETTINGS; the default is what RFC 9113 6.5.2 wants peers to allow.
  std::uint32_t streams_before_settings = 100;
  // HTTP/1 only.
  HeaderCase header_case = HeaderCase::kLower;
  bool trailers = true;               // otherwise dropped, both ways
  bool absolute_form = false;         // "GET http://host/path"
  bool chunked_beats_length = false;  // otherwise both together are a protocol error
  std::size_t unsent_bytes_max = kUnsentBytesMax;
};

class ClientConnection;
class ClientObserver {
 public:
  virtual ~ClientObserver() = default;
  /// Connected (TLS included): streams may be opened.
  virtual void onConnected(ClientConnection& connection) = 0;
  /// The connection has room again after `canOpen()` was false (an exchange ended, SETTINGS
  /// arrived).
  virtual void onAvailable(ClientConnection& connection) = 0;
  /// No new streams (GOAWAY, `connection: close`, peer's half-close); running ones go on.
  virtual void onDraining(ClientConnection& connection) = 0;
  /// Gone; all its streams were reset before. Destroys itself after this returns.
  virtual void onClosed(ClientConnection& connection, base::Error error) = 0;
  virtual void onH2Event(H2Event event) { (void)event; }
};

class ClientConnection {
 public:
  virtual ~ClientConnection() = default;
  /// Takes a connecting or connected transport. kAuto: by ALPN, HTTP/1.1 without.
  static ClientConnection* start(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                 Protocol protocol, const ClientLimits& limits,
                                 ClientObserver& observer);
  virtual bool canOpen() const = 0;
  /// Opens an exchange; the connection owns the stream until its end or reset.
  virtual Stream& open(StreamObserver& observer) = 0;
  virtual net::Transport& transport() = 0;
  virtual std::size_t activeStreams() const = 0;
  virtual bool multiplexes() const = 0;
  /// HTTP/2: what the peer said of extended CONNECT (RFC 8441); nothing before its SETTINGS.
  virtual std::optional<bool> takesExtendedConnect() const { return std::nullopt; }
  /// Streams that may run at once, as far as the peer has said.
  virtual std::uint32_t streamsMax() const { return 1; }
  /// Closes once idle.
  virtual void drain() = 0;
  virtual void close() = 0;
};

struct ClientRequest {
  std::string method = "GET";
  std::string path = "/";
  std::string authority;  // empty: the target's
  HeaderMap headers;
  std::string body;
  std::chrono::milliseconds timeout{
      std::chrono::seconds(30)};  // whole answer; for streams until the headers
};

struct ClientResponse {
  int status = 0;
  HeaderMap headers;
  std::string body;
};

/// Requests to one origin. Loop thread. Cancel a request by destroying its Call.
class Client {
 public:
  struct Options {
    net::Address address;
    std::string host;  // for Host, SNI and certificate check
    std::shared_ptr<const tls::ClientContext> tls;
    Protocol protocol = Protocol::kHttp1;
    std::size_t connections_max = 32;
    std::chrono::milliseconds connect_timeout{std::chrono::seconds(5)};
    std::chrono::milliseconds idle_timeout{std::chrono::seconds(60)};
    std::size_t body_bytes_max = 64 * 1024 * 1024;
  };
  class Call {
   public:
    virtual ~Call() = default;
  };
  virtual ~Client() = default;
  static std::unique_ptr<Client> make(event::Loop& loop, Options options);

  /// Whole answer.
  virtual std::unique_ptr<Call> fetch(
      ClientRequest request, base::Function<void(base::Result<ClientResponse>)> callback) = 0;

  struct StreamCallbacks {
    base::Function<void(int status, const HeaderMap& headers)> on_headers;
    base::Function<void(std::string_view bytes)> on_data;
    base::Function<void(std::optional<base::Error> error)> on_end;  // no error: complete
  };
  /// Answer piece by piece (watch, logs).
  virtual std::unique_ptr<Call> stream(ClientRequest request, StreamCallbacks callbacks) = 0;
};

}  // namespace postern::http
