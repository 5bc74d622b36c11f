// TLS over OpenSSL: contexts (immutable once built, shareable between workers) and transports. The
// only folder, with its .cc files, that sees OpenSSL headers.
#pragma once

#include "base/error.h"
#include "event/loop.h"
#include "net/transport.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::tls {

enum class ClientAuth : unsigned char { kNone, kRequest, kRequire };

struct ServerOptions {
  std::string certificate_chain_pem;
  std::string private_key_pem;
  std::string client_ca_pem;  // roots for client certificates
  ClientAuth client_auth = ClientAuth::kNone;
  std::vector<std::string> alpn;  // in order of preference
};

struct ClientOptions {
  std::string ca_pem;  // empty: the system's roots
  bool verify = true;
  std::string certificate_chain_pem;  // optional
  std::string private_key_pem;
  std::vector<std::string> alpn;
};

class ServerContext {
 public:
  virtual ~ServerContext() = default;
  static base::ConfigResult<std::shared_ptr<const ServerContext>> make(
      const ServerOptions& options);
};
class ClientContext {
 public:
  virtual ~ClientContext() = default;
  static base::ConfigResult<std::shared_ptr<const ClientContext>> make(
      const ClientOptions& options);
};

/// Server side over a connected transport; onConnected follows the handshake.
std::unique_ptr<net::Transport> acceptTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                          std::shared_ptr<const ServerContext> context);
/// Client side; `server_name` is sent as SNI and verified against the certificate (an IP is
/// verified as IP SAN).
std::unique_ptr<net::Transport> connectTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                           std::shared_ptr<const ClientContext> context,
                                           std::string server_name);

}  // namespace postern::tls
