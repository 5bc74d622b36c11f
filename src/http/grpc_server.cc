// GrpcServer: methods by path over HTTP/2 server connections.
#include "base/strings.h"
#include "http/grpc_call.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

namespace postern::http {
namespace {

using Methods = std::map<std::string, GrpcServer::Method, std::less<>>;

GrpcStatus statusOfClientReset(ResetReason reason) {
  switch (reason) {
    case ResetReason::kConnectionLost:
    case ResetReason::kLostBeforeReply:
      return {kGrpcUnavailable, "connection lost"};
    case ResetReason::kProtocol:
    case ResetReason::kInvalidField:
      return {kGrpcInternal, "the client broke the protocol"};
    default:
      return {kGrpcCancelled, "cancelled by the client"};
  }
}

class ServerCall final : public GrpcCall {
 public:
  ServerCall(event::Loop& loop, std::size_t message_bytes_max, Methods& methods, Stream& stream)
      : GrpcCall(loop, message_bytes_max), methods_(methods) {
    stream_ = &stream;
  }

  void onHeaders(HeaderMap headers, End end) override;
  void onTrailers(HeaderMap) override { onBodyEnd(); }
  void onReset(ResetReason reason) override { finish(statusOfClientReset(reason), Tell::kLater); }

  void close(GrpcStatus status) override {
    if (over_) return;
    pump();
    half_closed_ = true;
    HeaderMap trailers;
    if (!head_sent_) {
      trailers.add(":status", "200");
      trailers.add("content-type", "application/grpc");
    }
    trailers.add("grpc-status", std::to_string(status.code));
    if (!status.message.empty())
      trailers.add("grpc-message", codec::encodeGrpcText(status.message));
    if (head_sent_) {
      stream_->sendTrailers(trailers);
    } else {
      stream_->sendHeaders(trailers, End::kYes);
    }
    finish(std::move(status), Tell::kLater);
  }
  void abandon() override {
    handle_gone_ = true;
    close({kGrpcUnavailable, "the server dropped the call"});
  }

 private:
  void onBodyEnd() override {
    if (!handle_gone_ && callbacks.on_half_close) callbacks.on_half_close();
  }
  void failLocally(GrpcStatus status) override { close(std::move(status)); }
  void beforeWrite() override {
    if (std::exchange(head_sent_, true)) return;
    stream_->sendHeaders({{":status", "200"}, {"content-type", "application/grpc"}}, End::kNo);
  }
  void refuse(int status, std::string_view more_name = {}, std::string_view more_value = {}) {
    HeaderMap headers{{":status", std::to_string(status)}};
    if (!more_name.empty()) headers.add(more_name, more_value);
    handle_gone_ = true;
    stream_->sendHeaders(headers, End::kYes);
    finish({}, Tell::kNow);
  }

  Methods& methods_;  // used in onHeaders only: the server may go before the call
  bool head_sent_ = false;
};

void ServerCall::onHeaders(HeaderMap headers, End end) {
  const std::shared_ptr<GrpcCall> kept = self_;
  if (headers.method() != "POST") return refuse(405, "allow", "POST");
  const std::string_view type = headers.value("content-type");
  if (!type.starts_with("application/grpc") ||
      (type.size() > 16 && type[16] != '+' && type[16] != ';'))
    return refuse(415, "accept-post", "application/grpc");
  peer_ = stream_->transport().peer();
  remote_ = stream_->transport().remote();
  auto method = methods_.find(headers.path());
  if (method == methods_.end()) {
    handle_gone_ = true;
    return close({kGrpcUnimplemented, "unknown method " + std::string(headers.path())});
  }
  callbacks = method->second(std::make_unique<GrpcHandle>(kept), headers);
  if (over_) return;
  if (end == End::kYes) return onBodyEnd();
  stream_->read();
}

class GrpcServerImpl final : public GrpcServer, public ServerObserver {
 public:
  GrpcServerImpl(event::Loop& loop, Options options)
      : loop_(loop), options_(std::move(options)), limits_(options_.limits) {}
  ~GrpcServerImpl() override {
    acceptors_.clear();
    while (!open_.empty()) open_.back()->close();
  }

  void addMethod(std::string full_name, Method method) override {
    methods_.insert_or_assign(std::move(full_name), std::move(method));
  }
  void listen(base::Fd listener) override {
    acceptors_.push_back(std::make_unique<net::Acceptor>(
        loop_, std::move(listener),
        [this](base::Fd fd, const net::Address&) { serve(std::move(fd)); }));
  }
  void serve(base::Fd connection) override {
    if (open_.size() >= options_.limits.connections_max) return;
    std::unique_ptr<net::Transport> transport =
        net::makeSocketTransport(loop_, std::move(connection));
    if (options_.tls) transport = tls::acceptTls(loop_, std::move(transport), options_.tls);
    open_.push_back(
        ServerConnection::start(loop_, std::move(transport), Protocol::kHttp2, limits_, *this));
  }
  void setTls(std::shared_ptr<const tls::ServerContext> tls) override {
    options_.tls = std::move(tls);
  }
  void drain() override {
    acceptors_.clear();
    auto all = open_;
    for (ServerConnection* each : all) each->drain();
  }
  std::size_t connections() const override { return open_.size(); }

  StreamObserver* onStream(ServerConnection&, Stream& stream) override {
    auto call = std::make_shared<ServerCall>(loop_, options_.message_bytes_max, methods_, stream);
    call->own(call);
    return call.get();
  }
  void onClosed(ServerConnection& connection) override { std::erase(open_, &connection); }

 private:
  event::Loop& loop_;
  Options options_;
  const SharedLimits limits_;
  Methods methods_;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors_;
  std::vector<ServerConnection*> open_;
};

}  // namespace

std::unique_ptr<GrpcServer> GrpcServer::make(event::Loop& loop, Options options) {
  return std::make_unique<GrpcServerImpl>(loop, std::move(options));
}

}  // namespace postern::http
