// A connected byte stream: plain socket (net/socket_transport.h) or TLS (tls/tls_transport.h).
// Non-blocking reads and writes that the owner makes when it wants; readiness is told through one
// observer, edge-triggered. Owned by one connection object, on one loop. Knows nothing of HTTP.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "net/address.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postern::net {

enum class IoStatus : unsigned char {
  kOk,     // some bytes moved
  kAgain,  // nothing now; onReadable/onWritable will tell
  kEof,    // the peer ended its direction (read only)
  kError,  // the connection is dead; Transport::error() says why
};

struct IoResult {
  IoStatus status;
  std::size_t bytes = 0;
};

class TransportObserver {
 public:
  virtual ~TransportObserver() = default;
  /// Client: connected (and the handshake is done). Server with TLS: the handshake is done. Plain
  /// server: never.
  virtual void onConnected() {}
  /// Read until kAgain, kEof or kError, or stop: then call resumeRead() later.
  virtual void onReadable() = 0;
  /// Writing is possible again after a write returned kAgain.
  virtual void onWritable() = 0;
  /// Connecting failed, handshake failed, or the connection broke. Nothing follows. The transport
  /// may be destroyed (through Loop::destroyLater or after return).
  virtual void onError(base::Error error) = 0;
};

/// A certificate, as logs and headers show it.
struct CertificateInfo {
  bool operator==(const CertificateInfo&) const = default;
  std::string subject;  // RFC 2253
  std::string issuer;
  std::string serial;              // hex
  std::string sha256_fingerprint;  // hex
  std::string sha1_fingerprint;
  std::int64_t valid_from = 0;  // seconds since 1970
  std::int64_t valid_to = 0;
  std::vector<std::string> uri_sans;
  std::vector<std::string> dns_sans;
  std::vector<std::string> ip_sans;
  std::vector<std::string> email_sans;
  std::vector<std::string> other_sans;
};

/// What TLS knows of the peer; empty on a plain connection. The fields of CertificateInfo are those
/// of the peer's certificate, empty without one.
struct PeerInfo : CertificateInfo {
  bool operator==(const PeerInfo&) const = default;
  bool tls = false;
  bool validated = false;        // the certificate's chain was verified
  std::string_view tls_version;  // "TLSv1.3"; static text
  std::string_view cipher;       // static text
  std::string sni;               // server side: as the client sent it
  std::string alpn;              // negotiated protocol
  std::string session_id;        // hex; TLS 1.2
  std::string certificate_pem;   // of the peer
  std::string chain_pem;         // all that the peer sent, its own certificate first
  std::string common_name;       // of the peer's certificate
  std::vector<std::string> organizations;
  std::vector<std::string> chain_sha256;  // of all that the peer sent
  std::vector<std::string> chain_sha1;
  std::vector<std::string> chain_serials;
  const CertificateInfo* local = nullptr;  // our own certificate; lives as long as the transport
};

class Transport {
 public:
  /// Bytes that came and went through it; of TLS, what is inside.
  struct Moved {
    std::uint64_t read = 0;
    std::uint64_t written = 0;
  };
  virtual ~Transport() = default;
  /// Set before anything else; may be replaced (protocol upgrade).
  virtual void setObserver(TransportObserver* observer) = 0;
  /// Appends at most `max` bytes to `into`. kOk with fewer than `max` says that nothing more is
  /// there now: onReadable will tell.
  virtual IoResult read(base::Buffer& into, std::size_t max) = 0;
  /// Writes from the front of `from` and drains what was taken.
  virtual IoResult write(base::Buffer& from) = 0;
  /// Bytes that write() took wait here, not in the kernel (TLS records): the transport's end would
  /// lose them. onWritable is told when they are gone.
  virtual bool unsent() const { return false; }
  /// Tells onWritable when there is room, after a write past this object (splice) found none.
  virtual void awaitWritable() {}
  /// Tells onReadable again in a later turn although nothing new arrived (the reader had stopped).
  virtual void resumeRead() = 0;
  /// Ends our direction (FIN, or TLS close_notify then FIN) after what was written.
  virtual void shutdownWrite() = 0;
  /// RST instead of FIN at destruction.
  virtual void resetOnClose() = 0;
  virtual base::Error error() const = 0;
  virtual const Address& local() const = 0;
  virtual const Address& remote() const = 0;
  virtual const PeerInfo& peer() const = 0;
  /// The socket, for options and splice; -1 when there is none (tests).
  virtual int fd() const = 0;
  const Moved& moved() const { return moved_; }
  /// What was moved past it (splice).
  void countRead(std::size_t bytes) { moved_.read += bytes; }
  void countWritten(std::size_t bytes) { moved_.written += bytes; }

 private:
  Moved moved_;
};

}  // namespace postern::net
