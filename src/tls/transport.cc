// The TLS transport: OpenSSL between two buffers of ours, so that the socket is read and written by
// the plain transport below and one turn's records leave in one write.
#include "base/strings.h"
#include "tls/buffer_bio.h"
#include "tls/certificate_info.h"
#include "tls/context.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace postern::tls {
namespace {

constexpr std::size_t kInnerReadBytes = 65536;
constexpr int kFillsPerRead = 4;
// Ciphertext waiting for a slow socket; above it the writer is told to wait, and nothing is read
// either: what a peer sends may ask for an answer (KeyUpdate), and it must not fill our memory.
constexpr std::size_t kUnsentBytesMax = 256 * 1024;

/// One copy for the connections that follow each other and are told nothing different: nearly all
/// of those whose peers show no certificate.
std::shared_ptr<const net::PeerInfo> shared(net::PeerInfo info) {
  thread_local std::shared_ptr<const net::PeerInfo> last;
  if (last == nullptr || *last != info)
    last = std::make_shared<const net::PeerInfo>(std::move(info));
  return last;
}

class TlsTransport final : public net::Transport, public net::TransportObserver {
 public:
  TlsTransport(event::Loop& loop, std::unique_ptr<net::Transport> inner, SslPtr ssl, Side side,
               std::unique_ptr<HandshakeState> state, std::shared_ptr<const void> context)
      : loop_(loop),
        inner_(std::move(inner)),
        context_(std::move(context)),
        state_(std::move(state)),
        ssl_(std::move(ssl)),
        side_(side),
        again_(loop, [this] { onAgain(); }) {
    BIO* bio = makeBufferBio(buffers_);
    SSL_set_bio(ssl_.get(), bio, bio);
    HandshakeState::attach(ssl_.get(), state_.get());
    if (side_ == Side::kServer) {
      SSL_set_accept_state(ssl_.get());
    } else {
      SSL_set_connect_state(ssl_.get());
    }
    inner_->setObserver(this);
    if (side_ == Side::kServer) readSoon();
  }
  ~TlsTransport() override {
    inner_->setObserver(nullptr);
    // A connection that ends without close_notify must not cost its session: OpenSSL would forget
    // it.
    if (established_) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  }

  void limitHandshake(base::Duration timeout) {
    deadline_.emplace(loop_, [this] {
      if (!established_)
        failHandshake({base::Errc::kTimeout, "TLS handshake timeout"}, Failure::kTimeout);
    });
    deadline_->arm(timeout);
  }

  void setObserver(net::TransportObserver* observer) override { observer_ = observer; }
  net::IoResult read(base::Buffer& into, std::size_t max) override;
  net::IoResult write(base::Buffer& from) override;

  /// By the plain transport, whose turn it is later: what its reader owes the loop holds here too.
  void resumeRead() override { inner_->resumeRead(); }
  void shutdownWrite() override {
    shutdown_ = true;
    if (!established_) return;  // after the handshake
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
    if (flush() == net::IoStatus::kOk && buffers_.out.empty()) inner_->shutdownWrite();
  }
  bool unsent() const override { return !buffers_.out.empty(); }
  void resetOnClose() override { inner_->resetOnClose(); }
  base::Error error() const override { return error_; }
  const net::Address& local() const override { return inner_->local(); }
  const net::Address& remote() const override { return inner_->remote(); }
  const net::PeerInfo& peer() const override {
    static const net::PeerInfo kUnknown = [] {
      net::PeerInfo info;
      info.tls = true;
      return info;
    }();
    return peer_ == nullptr ? kUnknown : *peer_;
  }
  int fd() const override { return inner_->fd(); }

 private:
  // ---- from the plain transport ----
  void onConnected() override { handshake(); }
  void onReadable() override {
    inner_empty_ = false;
    tellReadable();
  }
  void readSoon() {
    readable_pending_ = true;
    again_.schedule();
  }
  void tellReadable() {
    if (!established_) {
      handshake();
    } else if (observer_ != nullptr) {
      observer_->onReadable();
    }
  }
  void onWritable() override {
    if (flush() == net::IoStatus::kError) {
      if (!established_) return report(error_);
      return readSoon();
    }
    if (!buffers_.out.empty()) return;
    if (shutdown_ && established_) inner_->shutdownWrite();
    if (std::exchange(read_blocked_, false)) readSoon();
    if (established_ && std::exchange(write_blocked_, false) && observer_ != nullptr)
      observer_->onWritable();
  }
  void onError(base::Error error) override {
    error_ = error;
    if (!established_) return failHandshake(error, Failure::kClosed);
    report(error);
  }

  void report(base::Error error) {
    if (observer_ != nullptr) observer_->onError(error);
  }

  /// One upward call each time; what is still due comes by the next one.
  void onAgain() {
    if (established_ && std::exchange(writable_pending_, false)) {
      if (readable_pending_) again_.schedule();
      if (observer_ != nullptr) observer_->onWritable();
      return;
    }
    if (write_failed_ && std::exchange(write_blocked_, false)) {
      writable_pending_ = true;  // whoever waits to write shall see that it failed
      again_.schedule();
    }
    if (std::exchange(readable_pending_, false)) tellReadable();
  }

  void handshake();
  void failHandshake(base::Error error, Failure failure);
  void finishHandshake();
  net::PeerInfo describe() const;

  /// Moves bytes from the socket into OpenSSL's input.
  net::IoStatus fill() {
    if (inner_empty_) return net::IoStatus::kAgain;
    if (buffers_.out.size() >= kUnsentBytesMax) {
      read_blocked_ = true;
      return net::IoStatus::kAgain;
    }
    const net::IoResult result = inner_->read(buffers_.in, kInnerReadBytes);
    if (result.status == net::IoStatus::kError) error_ = inner_->error();
    // A short read has emptied the socket: the next report comes with new bytes.
    inner_empty_ = result.status == net::IoStatus::kAgain ||
                   (result.status == net::IoStatus::kOk && result.bytes < kInnerReadBytes);
    // The kernel tells a reset once, and the write has heard it.
    if (write_failed_ && result.status == net::IoStatus::kEof) return net::IoStatus::kError;
    return result.status;
  }

  net::IoStatus flush() {
    if (buffers_.out.empty()) return net::IoStatus::kOk;
    const net::IoResult result = inner_->write(buffers_.out);
    if (result.status == net::IoStatus::kError) {
      // Nothing is written any more. What the peer said before it broke off, reading tells.
      error_ = inner_->error();
      write_failed_ = true;
      buffers_.out.clear();
      inner_empty_ = false;
    }
    write_blocked_ = write_blocked_ || unsent();
    return result.status;
  }

  net::IoStatus setError(base::Errc code, const char* text) {
    error_ = {code, text};
    ERR_clear_error();
    return net::IoStatus::kError;
  }

  event::Loop& loop_;
  std::unique_ptr<net::Transport> inner_;
  std::shared_ptr<const void> context_;
  BioBuffers buffers_;
  std::unique_ptr<HandshakeState> state_;  // after the handshake only where sessions may still come
  SslPtr ssl_;
  Side side_;
  event::Soon again_;
  std::optional<event::Timer> deadline_;       // of the handshake
  std::shared_ptr<const net::PeerInfo> peer_;  // null before the handshake
  net::TransportObserver* observer_ = nullptr;
  HandshakeObserver* told_ = nullptr;  // after the handshake, until an error
  base::Error error_;
  bool established_ = false;
  bool failed_ = false;
  bool write_blocked_ = false;
  bool write_failed_ = false;
  bool read_blocked_ = false;
  bool shutdown_ = false;
  bool inner_empty_ = false;  // until its next report
  bool readable_pending_ = false;
  bool writable_pending_ = false;
};

net::IoResult TlsTransport::read(base::Buffer& into, std::size_t max) {
  if (!established_) return {failed_ ? net::IoStatus::kError : net::IoStatus::kAgain, 0};
  std::size_t total = 0;
  int fills = 0;  // a peer may send records without end that hold nothing for the reader
  net::IoStatus end = net::IoStatus::kOk;
  while (total < max && end == net::IoStatus::kOk) {
    char* out = nullptr;
    const std::size_t room = std::min(into.reserve(out), max - total);
    std::size_t got = 0;
    ERR_clear_error();  // of others: SSL_get_error would take it for ours
    const int result = SSL_read_ex(ssl_.get(), out, room, &got);
    into.commit(result == 1 ? got : 0);
    if (result == 1) {
      total += got;
      countRead(got);
      continue;
    }
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ && fills == kFillsPerRead) {
      end = net::IoStatus::kAgain;
      resumeRead();
    } else if (error == SSL_ERROR_WANT_READ) {
      end = fill();
      ++fills;
    } else if (error == SSL_ERROR_ZERO_RETURN) {
      end = net::IoStatus::kEof;
    } else {
      // In TLS 1.3 the peer says only now that it refuses our certificate.
      if (told_ != nullptr && ERR_peek_error() != 0)
        std::exchange(told_, nullptr)->onFailure(Failure::kProtocol);
      end = setError(base::Errc::kProtocol, failureText(nullptr));
    }
  }
  // Reading may have made an answer: an alert, a key update.
  if (!buffers_.out.empty() && flush() == net::IoStatus::kError) readSoon();
  if (total == 0) return {end, 0};
  if (end == net::IoStatus::kEof || end == net::IoStatus::kError) readSoon();
  return {net::IoStatus::kOk, total};
}

net::IoResult TlsTransport::write(base::Buffer& from) {
  if (!established_) {
    write_blocked_ = true;
    return {failed_ ? net::IoStatus::kError : net::IoStatus::kAgain, 0};
  }
  if (write_failed_) return {net::IoStatus::kError, 0};
  std::size_t total = 0;
  while (!from.empty()) {
    if (buffers_.out.size() >= kUnsentBytesMax) {
      if (flush() == net::IoStatus::kError) return {net::IoStatus::kError, total};
      if (!buffers_.out.empty()) break;
    }
    const std::string_view piece = from.front();
    std::size_t taken = 0;
    if (SSL_write_ex(ssl_.get(), piece.data(), piece.size(), &taken) != 1)
      return {setError(base::Errc::kProtocol, "TLS write failed"), total};
    from.drain(taken);
    total += taken;
    countWritten(taken);
  }
  if (flush() == net::IoStatus::kError) return {net::IoStatus::kError, total};
  write_blocked_ = !from.empty() || unsent();
  return {from.empty() ? net::IoStatus::kOk : net::IoStatus::kAgain, total};
}

void TlsTransport::handshake() {
  if (failed_) return;
  for (;;) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    const int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), result);
    if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ) {
      const char* text = failureText(state_.get());
      (void)flush();  // the alert
      return failHandshake({base::Errc::kProtocol, text}, state_->failure);
    }
    if (flush() == net::IoStatus::kError) return failHandshake(error_, Failure::kClosed);
    if (result == 1) return finishHandshake();
    const net::IoStatus status = fill();
    if (status == net::IoStatus::kAgain) return;
    if (status == net::IoStatus::kEof)
      return failHandshake({base::Errc::kClosed, "closed during TLS handshake"}, Failure::kClosed);
    if (status != net::IoStatus::kOk) return failHandshake(error_, Failure::kClosed);
  }
}

void TlsTransport::failHandshake(base::Error error, Failure failure) {
  if (std::exchange(failed_, true)) return;
  error_ = error;
  if (deadline_) deadline_->cancel();
  // What Envoy's library calls a connection whose version is not agreed upon.
  net::PeerInfo peer;
  peer.tls = true;
  peer.tls_version =
      SSL_get_pending_cipher(ssl_.get()) == nullptr ? "TLSv1.2" : SSL_get_version(ssl_.get());
  peer_ = shared(std::move(peer));
  if (state_ != nullptr && state_->observer != nullptr) state_->observer->onFailure(failure);
  report(error);
}

void TlsTransport::finishHandshake() {
  established_ = true;
  if (deadline_) deadline_->cancel();
  peer_ = shared(describe());
  told_ = state_ != nullptr ? state_->observer : nullptr;
  if (told_ != nullptr) {
    HandshakeReport report;
    report.version = peer_->tls_version;
    report.cipher = peer_->cipher;
    report.group = groupName(ssl_.get());
    report.resumed = SSL_session_reused(ssl_.get()) == 1;
    report.peer_certificate = SSL_get0_peer_certificate(ssl_.get()) != nullptr;
    if (report.peer_certificate && !report.resumed)
      report.signature = peerSignatureName(ssl_.get());
    told_->onHandshake(report);
  }
  if (state_ != nullptr && state_->sessions == nullptr) {
    HandshakeState::attach(ssl_.get(), nullptr);
    state_.reset();
  }
  // Application bytes may already lie decrypted or undecrypted here: no socket report will follow
  // for them. Nor for a write that was tried too early.
  writable_pending_ = std::exchange(write_blocked_, false);
  if (shutdown_) shutdownWrite();
  readSoon();
  if (observer_ != nullptr) observer_->onConnected();
}

net::PeerInfo TlsTransport::describe() const {
  net::PeerInfo peer;
  peer.tls = true;
  SSL* ssl = ssl_.get();
  const unsigned char* alpn = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &alpn, &size);
  peer.alpn.assign(reinterpret_cast<const char*>(alpn), size);
  peer.tls_version = SSL_get_version(ssl);
  peer.cipher = SSL_get_cipher_name(ssl);
  if (const char* sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) peer.sni = sni;
  unsigned id_size = 0;
  const unsigned char* id = SSL_SESSION_get_id(SSL_get_session(ssl), &id_size);
  if (side_ == Side::kServer && SSL_version(ssl) < TLS1_3_VERSION && id_size > 0)
    peer.session_id = base::toHex(std::string_view(reinterpret_cast<const char*>(id), id_size));
  describePeer(ssl, peer);
  if (side_ == Side::kServer) {
    const auto* context =
        static_cast<const OpensslServerContext*>(static_cast<const ServerContext*>(context_.get()));
    const LoadedIdentity* identity = context->identityOf(ssl);
    if (identity != nullptr) peer.local = &identity->described;
    const bool asks = context->trust != nullptr && context->trust->asks();
    // A resumed session was verified when it began, under the same trust.
    peer.validated = SSL_session_reused(ssl) == 1
                         ? asks && SSL_get0_peer_certificate(ssl) != nullptr &&
                               !context->trust->source.accept_untrusted
                         : state_->validated;
  } else {
    const auto* context =
        static_cast<const OpensslClientContext*>(static_cast<const ClientContext*>(context_.get()));
    if (context->identity != nullptr) peer.local = &context->identity->described;
    peer.validated = state_->validated || (SSL_session_reused(ssl) == 1 && context->verifies());
  }
  return peer;
}

/// Fails as soon as somebody listens.
class NotReadyTransport final : public net::Transport {
 public:
  NotReadyTransport(event::Loop& loop, std::unique_ptr<net::Transport> inner)
      : inner_(std::move(inner)), tell_(loop, [this] {
          if (observer_ != nullptr) observer_->onError(error());
        }) {
    tell_.schedule();
  }
  void setObserver(net::TransportObserver* observer) override { observer_ = observer; }
  net::IoResult read(base::Buffer&, std::size_t) override { return {net::IoStatus::kError, 0}; }
  net::IoResult write(base::Buffer&) override { return {net::IoStatus::kAgain, 0}; }
  void resumeRead() override {}
  void shutdownWrite() override {}
  void resetOnClose() override {}
  base::Error error() const override {
    return {base::Errc::kProtocol, "TLS error: Secret is not supplied by SDS"};
  }
  const net::Address& local() const override { return inner_->local(); }
  const net::Address& remote() const override { return inner_->remote(); }
  const net::PeerInfo& peer() const override { return inner_->peer(); }
  int fd() const override { return inner_->fd(); }

 private:
  std::unique_ptr<net::Transport> inner_;
  event::Soon tell_;
  net::TransportObserver* observer_ = nullptr;
};

std::string sessionKey(const net::Address& remote, const ConnectOptions& options) {
  std::string out = remote.toString() + "|" + options.server_name + "|" + options.required_san;
  for (const std::string& each : options.alpn) out += "|" + each;
  return out;
}

}  // namespace

std::unique_ptr<net::Transport> acceptTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                          std::shared_ptr<const ServerContext> context,
                                          const AcceptOptions& options) {
  const auto& server = static_cast<const OpensslServerContext&>(*context);
  SslPtr ssl(SSL_new(server.ctx()));
  auto state = std::make_unique<HandshakeState>();
  state->observer = options.observer;
  auto out = std::make_unique<TlsTransport>(loop, std::move(inner), std::move(ssl), Side::kServer,
                                            std::move(state), std::move(context));
  if (options.handshake_timeout.count() > 0) out->limitHandshake(options.handshake_timeout);
  return out;
}

std::unique_ptr<net::Transport> acceptTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                          std::shared_ptr<const ServerContext> context) {
  return acceptTls(loop, std::move(inner), std::move(context), AcceptOptions{});
}

std::unique_ptr<net::Transport> connectTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                           std::shared_ptr<const ClientContext> context,
                                           const ConnectOptions& options) {
  const auto& client = static_cast<const OpensslClientContext&>(*context);
  SslPtr ssl(SSL_new(client.ctx.get()));
  auto state = std::make_unique<HandshakeState>();
  state->observer = options.observer;
  state->required_san = options.required_san;
  state->enforce_rsa_key_usage = client.settings.enforce_rsa_key_usage;
  const bool ip = net::Address::fromIp(options.server_name, 0).has_value();
  if (!options.server_name.empty() && !ip)
    SSL_set_tlsext_host_name(ssl.get(), options.server_name.c_str());
  if (client.settings.verify_name && !options.server_name.empty()) {
    if (ip) {
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), options.server_name.c_str());
    } else {
      SSL_set1_host(ssl.get(), options.server_name.c_str());
    }
  }
  if (client.alpn.empty() && !options.alpn.empty()) {
    if (const auto wire = alpnWire(options.alpn)) {
      SSL_set_alpn_protos(ssl.get(), reinterpret_cast<const unsigned char*>(wire->data()),
                          static_cast<unsigned>(wire->size()));
    }
  }
  if (client.settings.sessions_max > 0) {
    state->sessions = &client.sessions;
    state->session_key = sessionKey(inner->remote(), options);
    const SessionPtr session = client.sessions.take(state->session_key);
    if (session != nullptr &&
        (client.trust == nullptr || client.trust->stillVouches(session.get())))
      SSL_set_session(ssl.get(), session.get());
  }
  return std::make_unique<TlsTransport>(loop, std::move(inner), std::move(ssl), Side::kClient,
                                        std::move(state), std::move(context));
}

std::unique_ptr<net::Transport> connectTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                           std::shared_ptr<const ClientContext> context,
                                           std::string server_name) {
  ConnectOptions options;
  options.server_name = std::move(server_name);
  return connectTls(loop, std::move(inner), std::move(context), options);
}

std::unique_ptr<net::Transport> notReady(event::Loop& loop, std::unique_ptr<net::Transport> inner) {
  return std::make_unique<NotReadyTransport>(loop, std::move(inner));
}

}  // namespace postern::tls
