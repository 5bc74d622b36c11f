// GrpcChannel: calls over one HTTP/2 client connection.
#include "base/strings.h"
#include "http/grpc_call.h"
#include "tls/settings.h"

#include <algorithm>
#include <deque>
#include <utility>

namespace postern::http {
namespace {

/// PROTOCOL-HTTP2: what an answer that is no gRPC answer means.
int codeOfHttpStatus(int status) {
  switch (status) {
    case 400:
      return kGrpcInternal;
    case 401:
      return kGrpcUnauthenticated;
    case 403:
      return kGrpcPermissionDenied;
    case 404:
      return kGrpcUnimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return kGrpcUnavailable;
    default:
      return kGrpcUnknown;
  }
}

GrpcStatus statusOfServerReset(ResetReason reason) {
  switch (reason) {
    case ResetReason::kRefused:
      return {kGrpcUnavailable, "refused by the server"};
    case ResetReason::kConnectFailure:
      return {kGrpcUnavailable, "connection failed"};
    case ResetReason::kConnectionLost:
    case ResetReason::kLostBeforeReply:
    case ResetReason::kLocal:
      return {kGrpcUnavailable, "connection lost"};
    case ResetReason::kProtocol:
    case ResetReason::kInvalidField:
      return {kGrpcInternal, "the server broke the protocol"};
    case ResetReason::kOverflow:
      return {kGrpcResourceExhausted, "reset by the server: too much"};
    default:
      return {kGrpcCancelled, "cancelled by the server"};
  }
}

class ClientCall final : public GrpcCall {
 public:
  ClientCall(event::Loop& loop, std::size_t message_bytes_max, HeaderMap request)
      : GrpcCall(loop, message_bytes_max), request_(std::move(request)) {}

  void open(ClientConnection& connection) {
    peer_ = connection.transport().peer();
    remote_ = connection.transport().remote();
    stream_ = &connection.open(*this);
    request_.set(":scheme", peer_.tls ? "https" : "http");
    stream_->sendHeaders(request_, End::kNo);
    request_.clear();
    pump();
    if (half_closed_) endRequest();
  }
  /// No connection will carry it.
  void refuse(std::string text) { finish({kGrpcUnavailable, std::move(text)}, Tell::kLater); }
  bool over() const { return over_; }

  void onHeaders(HeaderMap headers, End end) override {
    const int status = headers.status();
    if (headers.has("grpc-status") && end == End::kYes) return onTrailers(std::move(headers));
    if (status != 200)
      return failLocally({codeOfHttpStatus(status), "HTTP status " + std::to_string(status)});
    if (!headers.value("content-type").starts_with("application/grpc"))
      return failLocally({kGrpcUnknown, "the answer is not gRPC"});
    if (end == End::kYes) return onBodyEnd();
    stream_->read();
  }
  void onTrailers(HeaderMap trailers) override {
    const auto code = base::parseInteger<int>(trailers.value("grpc-status"));
    if (!code) return finish({kGrpcUnknown, "the answer ended without a status"}, Tell::kNow);
    finish({*code, codec::decodeGrpcText(trailers.value("grpc-message"))}, Tell::kNow);
  }
  void onReset(ResetReason reason) override { finish(statusOfServerReset(reason), Tell::kLater); }

  void close(GrpcStatus) override {
    if (over_ || std::exchange(half_closed_, true)) return;
    if (stream_ != nullptr) endRequest();
  }
  void abandon() override {
    handle_gone_ = true;
    if (over_) return;
    if (stream_ != nullptr) stream_->reset(ResetReason::kCancel);
    finish({}, Tell::kNow);
  }

 private:
  void endRequest() { stream_->sendData(pending_, End::kYes); }
  void onBodyEnd() override {
    finish({kGrpcUnknown, "the answer ended without a status"}, Tell::kNow);
  }
  void failLocally(GrpcStatus status) override {
    // A stream whose end was delivered is gone; resetting it is harmless within its turn.
    stream_->reset(ResetReason::kCancel);
    finish(std::move(status), Tell::kNow);
  }

  HeaderMap request_;
};

class ChannelImpl final : public GrpcChannel, public ClientObserver {
 public:
  ChannelImpl(event::Loop& loop, Options options, std::unique_ptr<net::Transport> transport)
      : loop_(loop), options_(std::move(options)), timer_(loop, [this] { connection_->close(); }) {
    if (options_.tls) {
      tls::ConnectOptions secure;
      secure.server_name = options_.tls_name.value_or(options_.host);
      secure.required_san = options_.required_san;
      secure.alpn = {"h2"};
      transport = tls::connectTls(loop_, std::move(transport), options_.tls, secure);
    }
    connection_ = ClientConnection::start(loop_, std::move(transport), Protocol::kHttp2,
                                          options_.limits, *this);
    timer_.arm(options_.connect_timeout);
  }
  ~ChannelImpl() override {
    if (connection_ != nullptr) connection_->close();
  }

  std::unique_ptr<GrpcStream> call(std::string_view full_name, const HeaderMap& metadata,
                                   GrpcCallbacks callbacks) override {
    HeaderMap request;
    request.reserve(metadata.size() + 8, metadata.bytes() + 256);
    request.add(":method", "POST");
    request.add(":scheme", "http");
    request.add(":path", full_name);
    request.add(":authority", options_.host.empty() ? "localhost" : options_.host);
    request.add("content-type", "application/grpc");
    request.add("te", "trailers");
    metadata.each([&](std::string_view name, std::string_view value) { request.add(name, value); });
    auto made = std::make_shared<ClientCall>(loop_, options_.message_bytes_max, std::move(request));
    made->own(made);
    made->callbacks = std::move(callbacks);
    auto handle = std::make_unique<GrpcHandle>(made);
    if (closed()) {
      made->refuse(reason_);
    } else if (connection_->canOpen()) {
      made->open(*connection_);
    } else {
      waiting_.push_back(std::move(made));
    }
    return handle;
  }
  bool closed() const override { return connection_ == nullptr || draining_; }

  // ---- ClientObserver ----
  void onConnected(ClientConnection& connection) override {
    timer_.cancel();
    onAvailable(connection);
  }
  void onAvailable(ClientConnection& connection) override {
    while (!waiting_.empty() && connection.canOpen()) {
      std::shared_ptr<ClientCall> next = std::move(waiting_.front());
      waiting_.pop_front();
      if (!next->over()) next->open(connection);
    }
  }
  void onDraining(ClientConnection&) override {
    draining_ = true;
    reason_ = "the server is going away";
    refuseWaiting();
  }
  void onClosed(ClientConnection&, base::Error error) override {
    timer_.cancel();
    connection_ = nullptr;
    reason_ = error.message();
    refuseWaiting();
  }

 private:
  void refuseWaiting() {
    for (auto& each : std::exchange(waiting_, {}))
      if (!each->over()) each->refuse(reason_);
  }

  event::Loop& loop_;
  Options options_;
  event::Timer timer_;  // bounds connecting
  ClientConnection* connection_ = nullptr;
  std::deque<std::shared_ptr<ClientCall>> waiting_;
  std::string reason_ = "the channel is closed";
  bool draining_ = false;
};

}  // namespace

std::unique_ptr<GrpcChannel> GrpcChannel::make(event::Loop& loop, Options options) {
  std::unique_ptr<net::Transport> transport = net::connectTransport(loop, options.address);
  return over(loop, std::move(options), std::move(transport));
}

std::unique_ptr<GrpcChannel> GrpcChannel::over(event::Loop& loop, Options options,
                                               std::unique_ptr<net::Transport> transport) {
  return std::make_unique<ChannelImpl>(loop, std::move(options), std::move(transport));
}

}  // namespace postern::http
