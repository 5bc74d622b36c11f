// The TLS transport: OpenSSL between two memory buffers of ours, so that the socket is read and
// written by the plain transport below and one turn's records leave in one write.
#include "base/strings.h"
#include "tls/context.h"
#include "tls/x509.h"

#include <openssl/err.h>

#include <algorithm>
#include <utility>

namespace postern::tls {
namespace {

constexpr std::size_t kInnerReadBytes = 65536;
// Ciphertext waiting for a slow socket; above it the writer is told to wait.
constexpr std::size_t kUnsentBytesMax = 256 * 1024;

enum class Side : unsigned char { kServer, kClient };

class TlsTransport final : public net::Transport, public net::TransportObserver {
 public:
  TlsTransport(event::Loop& loop, std::unique_ptr<net::Transport> inner, SslPtr ssl, Side side,
               std::shared_ptr<const void> context)
      : inner_(std::move(inner)),
        context_(std::move(context)),
        ssl_(std::move(ssl)),
        side_(side),
        again_(loop, [this] { onAgain(); }) {
    BIO* in = BIO_new(BIO_s_mem());
    BIO* out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl_.get(), in, out);
    if (side_ == Side::kServer) {
      SSL_set_accept_state(ssl_.get());
    } else {
      SSL_set_connect_state(ssl_.get());
    }
    inner_->setObserver(this);
    peer_.tls = true;
    if (side_ == Side::kServer) resumeRead();
  }
  ~TlsTransport() override { inner_->setObserver(nullptr); }

  void setObserver(net::TransportObserver* observer) override { observer_ = observer; }

  net::IoResult read(base::Buffer& into, std::size_t max) override {
    if (!established_) return {net::IoStatus::kAgain, 0};
    std::size_t total = 0;
    while (total < max) {
      char* out = nullptr;
      std::size_t room = std::min(into.reserve(out), max - total);
      std::size_t got = 0;
      int result = SSL_read_ex(ssl_.get(), out, room, &got);
      into.commit(result == 1 ? got : 0);
      if (result == 1) {
        total += got;
        continue;
      }
      int error = SSL_get_error(ssl_.get(), result);
      if (error == SSL_ERROR_WANT_READ) {
        net::IoStatus status = pullCiphertext();
        if (status == net::IoStatus::kOk) continue;
        if (total > 0) {
          if (status != net::IoStatus::kAgain) resumeRead();
          return {net::IoStatus::kOk, total};
        }
        return {status, 0};
      }
      if (total > 0) {
        resumeRead();
        return {net::IoStatus::kOk, total};
      }
      if (error == SSL_ERROR_ZERO_RETURN) return {net::IoStatus::kEof, 0};
      return {setError(base::Errc::kProtocol, "TLS read failed"), 0};
    }
    return {net::IoStatus::kOk, total};
  }

  net::IoResult write(base::Buffer& from) override {
    if (!established_) {
      write_blocked_ = true;
      return {net::IoStatus::kAgain, 0};
    }
    std::size_t total = 0;
    while (!from.empty()) {
      if (unsent_.size() >= kUnsentBytesMax) {
        net::IoStatus status = flush();
        if (status == net::IoStatus::kError) return {status, total};
        if (!unsent_.empty()) break;
      }
      std::string_view piece = from.front();
      std::size_t taken = 0;
      if (SSL_write_ex(ssl_.get(), piece.data(), piece.size(), &taken) != 1) {
        return {setError(base::Errc::kProtocol, "TLS write failed"), total};
      }
      from.drain(taken);
      total += taken;
      collectCiphertext();
    }
    if (flush() == net::IoStatus::kError) return {net::IoStatus::kError, total};
    write_blocked_ = !from.empty();
    return {from.empty() ? net::IoStatus::kOk : net::IoStatus::kAgain, total};
  }

  void resumeRead() override {
    readable_pending_ = true;
    again_.arm({});
  }

  void shutdownWrite() override {
    shutdown_ = true;
    if (established_) {
      SSL_shutdown(ssl_.get());
      ERR_clear_error();
      collectCiphertext();
    }
    if (flush() == net::IoStatus::kOk && unsent_.empty()) inner_->shutdownWrite();
  }
  void resetOnClose() override { inner_->resetOnClose(); }
  base::Error error() const override { return error_; }
  const net::Address& local() const override { return inner_->local(); }
  const net::Address& remote() const override { return inner_->remote(); }
  const net::PeerInfo& peer() const override { return peer_; }
  int fd() const override { return inner_->fd(); }

 private:
  // ---- from the plain transport ----
  void onConnected() override { handshake(); }
  void onReadable() override {
    if (!established_) {
      handshake();
    } else if (observer_ != nullptr) {
      observer_->onReadable();
    }
  }
  void onWritable() override {
    if (flush() == net::IoStatus::kError) return report(error_);
    if (!unsent_.empty()) return;
    if (shutdown_) inner_->shutdownWrite();
    if (established_ && std::exchange(write_blocked_, false) && observer_ != nullptr)
      observer_->onWritable();
  }
  void onError(base::Error error) override {
    error_ = error;
    report(error);
  }

  void report(base::Error error) {
    if (observer_ != nullptr) observer_->onError(error);
  }

  void onAgain() {
    if (!std::exchange(readable_pending_, false)) return;
    onReadable();
  }

  void handshake() {
    for (;;) {
      int result = SSL_do_handshake(ssl_.get());
      int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), result);
      collectCiphertext();
      if (flush() == net::IoStatus::kError) return report(error_);
      if (result == 1) return finishHandshake();
      if (error != SSL_ERROR_WANT_READ) {
        setError(base::Errc::kProtocol,
                 verifyFailed() ? "TLS certificate verification failed" : "TLS handshake failed");
        return report(error_);
      }
      net::IoStatus status = pullCiphertext();
      if (status == net::IoStatus::kAgain) return;
      if (status == net::IoStatus::kEof)
        setError(base::Errc::kClosed, "closed during TLS handshake");
      if (status != net::IoStatus::kOk) return report(error_);
    }
  }

  bool verifyFailed() const { return SSL_get_verify_result(ssl_.get()) != X509_V_OK; }

  void finishHandshake() {
    established_ = true;
    describePeer();
    // Application bytes may already lie decrypted or undecrypted here: no socket report will follow
    // for them.
    resumeRead();
    if (observer_ != nullptr) observer_->onConnected();
  }

  void describePeer();
  void describeNames(X509* cert);

  /// Moves bytes from the socket into OpenSSL.
  net::IoStatus pullCiphertext() {
    base::Buffer bytes;
    net::IoResult result = inner_->read(bytes, kInnerReadBytes);
    if (result.status == net::IoStatus::kError) error_ = inner_->error();
    if (result.status != net::IoStatus::kOk) return result.status;
    while (!bytes.empty()) {
      std::string_view piece = bytes.front();
      BIO_write(SSL_get_rbio(ssl_.get()), piece.data(), static_cast<int>(piece.size()));
      bytes.drain(piece.size());
    }
    return net::IoStatus::kOk;
  }

  void collectCiphertext() {
    BIO* out = SSL_get_wbio(ssl_.get());
    while (BIO_ctrl_pending(out) > 0) {
      char* space = nullptr;
      std::size_t room = unsent_.reserve(space);
      int n = BIO_read(out, space, static_cast<int>(room));
      unsent_.commit(n > 0 ? static_cast<std::size_t>(n) : 0);
      if (n <= 0) return;
    }
  }

  net::IoStatus flush() {
    if (unsent_.empty()) return net::IoStatus::kOk;
    net::IoResult result = inner_->write(unsent_);
    if (result.status == net::IoStatus::kError) error_ = inner_->error();
    return result.status;
  }

  net::IoStatus setError(base::Errc code, const char* text) {
    error_ = {code, text};
    ERR_clear_error();
    return net::IoStatus::kError;
  }

  std::unique_ptr<net::Transport> inner_;
  std::shared_ptr<const void> context_;
  SslPtr ssl_;
  Side side_;
  event::Timer again_;
  base::Buffer unsent_;
  net::PeerInfo peer_;
  net::TransportObserver* observer_ = nullptr;
  base::Error error_;
  bool established_ = false;
  bool write_blocked_ = false;
  bool shutdown_ = false;
  bool readable_pending_ = false;
};

void TlsTransport::describePeer() {
  const unsigned char* alpn = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &alpn, &size);
  peer_.alpn.assign(reinterpret_cast<const char*>(alpn), size);
  peer_.tls_version = SSL_get_version(ssl_.get());
  peer_.cipher = SSL_get_cipher_name(ssl_.get());
  if (const char* sni = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name)) peer_.sni = sni;
  CertPtr cert(SSL_get1_peer_certificate(ssl_.get()));
  if (cert) describeNames(cert.get());
}

void TlsTransport::describeNames(X509* cert) {
  BioPtr pem(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(pem.get(), cert);
  peer_.certificate_pem = bioText(pem.get());
  BioPtr subject(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(subject.get(), X509_get_subject_name(cert), 0, XN_FLAG_RFC2253);
  peer_.subject = bioText(subject.get());
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned hash_size = 0;
  X509_digest(cert, EVP_sha256(), hash, &hash_size);
  peer_.sha256_fingerprint =
      base::toHex(std::string_view(reinterpret_cast<char*>(hash), hash_size));
  X509_NAME* name = X509_get_subject_name(cert);
  auto text = [name](int at) {
    const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                       static_cast<std::size_t>(ASN1_STRING_length(value)));
  };
  for (int at = -1; (at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0;) {
    peer_.common_name = text(at);
  }
  for (int at = -1; (at = X509_NAME_get_index_by_NID(name, NID_organizationName, at)) >= 0;) {
    peer_.organizations.push_back(text(at));
  }
  auto* names =
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(cert, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* each = sk_GENERAL_NAME_value(names, i);
    if (each->type != GEN_URI && each->type != GEN_DNS) continue;
    const ASN1_STRING* value =
        each->type == GEN_URI ? each->d.uniformResourceIdentifier : each->d.dNSName;
    std::string out(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                    static_cast<std::size_t>(ASN1_STRING_length(value)));
    // A NUL inside a name is an attack on those who compare it as text.
    if (out.find('\0') != std::string::npos) continue;
    (each->type == GEN_URI ? peer_.uri_sans : peer_.dns_sans).push_back(std::move(out));
  }
  GENERAL_NAMES_free(names);
}

}  // namespace

std::unique_ptr<net::Transport> acceptTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                          std::shared_ptr<const ServerContext> context) {
  const auto& server = static_cast<const OpensslServerContext&>(*context);
  SslPtr ssl(SSL_new(server.ctx.get()));
  return std::make_unique<TlsTransport>(loop, std::move(inner), std::move(ssl), Side::kServer,
                                        std::move(context));
}

std::unique_ptr<net::Transport> connectTls(event::Loop& loop, std::unique_ptr<net::Transport> inner,
                                           std::shared_ptr<const ClientContext> context,
                                           std::string server_name) {
  const auto& client = static_cast<const OpensslClientContext&>(*context);
  SslPtr ssl(SSL_new(client.ctx.get()));
  if (net::Address::fromIp(server_name, 0)) {
    if (client.verify)
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), server_name.c_str());
  } else if (!server_name.empty()) {
    SSL_set_tlsext_host_name(ssl.get(), server_name.c_str());
    if (client.verify) SSL_set1_host(ssl.get(), server_name.c_str());
  }
  return std::make_unique<TlsTransport>(loop, std::move(inner), std::move(ssl), Side::kClient,
                                        std::move(context));
}

}  // namespace postern::tls
