// Whole-request serving over server connections.
#include "http/server.h"

#include "base/intrusive_list.h"
#include "base/strings.h"
#include "http/h1_server.h"
#include "http/h2_server.h"
#include "http/negotiate.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace postern::http {

ServerConnection* ServerConnection::start(event::Loop& loop,
                                          std::unique_ptr<net::Transport> transport,
                                          Protocol protocol, const SharedLimits& limits,
                                          ServerObserver& observer) {
  switch (protocol) {
    case Protocol::kHttp1:
      return startH1Server(loop, std::move(transport), {}, limits, observer);
    case Protocol::kHttp2:
      return startH2Server(loop, std::move(transport), {}, *limits, observer);
    case Protocol::kTunnel:  // clients only
    case Protocol::kAuto:
      break;
  }
  return startNegotiatedServer(loop, std::move(transport), limits, observer);
}

std::vector<std::string> Request::parameters(std::string_view name) const {
  std::vector<std::string> out;
  if (query.empty()) return out;
  for (std::string_view pair : base::split(query, '&')) {
    std::size_t equals = pair.find('=');
    auto key = base::percentDecode(pair.substr(0, equals), base::Plus::kSpace);
    if (!key || *key != name) continue;
    std::string_view value =
        equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1);
    out.push_back(base::percentDecode(value, base::Plus::kSpace).value_or(std::string(value)));
  }
  return out;
}

std::string Request::parameter(std::string_view name) const {
  auto all = parameters(name);
  return all.empty() ? std::string() : std::move(all.front());
}

namespace {

/// One request and its answer. Shared by the connection's side (until the stream is over) and the
/// Responder.
class ServerExchange final : public StreamObserver {
 public:
  ServerExchange(Stream& stream, Handler& handler, std::size_t body_bytes_max)
      : stream_(&stream), handler_(handler), body_bytes_max_(body_bytes_max) {}

  void own(std::shared_ptr<ServerExchange> self) { self_ = std::move(self); }

  // ---- StreamObserver ----
  void onHeaders(HeaderMap headers, End end) override {
    request_.method = headers.method();
    std::string_view target = headers.path();
    std::size_t question = target.find('?');
    request_.path = target.substr(0, question);
    if (question != std::string_view::npos) request_.query = target.substr(question + 1);
    request_.remote = stream_->transport().remote();
    request_.peer = stream_->transport().peer();
    const bool waits = base::equalsIgnoreCase(headers.value("expect"), "100-continue");
    request_.headers = std::move(headers);
    if (end == End::kYes) return dispatch();
    if (waits) stream_->sendHeaders({{":status", "100"}}, End::kNo);
    stream_->read();
  }
  void onData(base::Buffer& data, End end) override {
    if (request_.body.size() + data.size() > body_bytes_max_) {
      return respond(413, {{"content-type", "text/plain"}}, "request entity too large\n");
    }
    request_.body += data.toString();
    if (end == End::kYes) return dispatch();
    stream_->read();
  }
  void onTrailers(HeaderMap) override { dispatch(); }
  void onWritable() override {
    if (stream_ == nullptr || !started_) return;
    const std::shared_ptr<ServerExchange> kept = self_;  // the end may be the last of us
    full_ = false;
    if (!pending_.empty() || ended_) pump();
    if (pending_.empty() && drained_) std::exchange(drained_, nullptr)();
  }
  void onReset(ResetReason) override {
    stream_ = nullptr;
    pending_.clear();
    std::shared_ptr<ServerExchange> last = std::move(self_);
    if (gone_) std::exchange(gone_, nullptr)();
  }

  // ---- the Responder's half ----
  void respond(int status, HeaderMap headers, std::string body) {
    if (stream_ == nullptr || started_) return;
    setStatus(headers, status);
    if (status != 204 && status != 304) headers.set("content-length", std::to_string(body.size()));
    started_ = ended_ = true;
    Stream& stream = *stream_;
    if (body.empty()) {
      stream.sendHeaders(headers, End::kYes);
    } else {
      stream.sendHeaders(headers, End::kNo);
      base::Buffer bytes{body};
      stream.sendData(bytes, End::kYes);
    }
    over();
  }
  void start(int status, HeaderMap headers) {
    if (stream_ == nullptr || started_) return;
    setStatus(headers, status);
    started_ = true;
    full_ = stream_->sendHeaders(headers, End::kNo) == Flow::kFull;
  }
  std::size_t write(std::string_view bytes) {
    if (stream_ == nullptr || !started_ || ended_) return 0;
    pending_.append(bytes);
    if (!full_) pump();
    return pending_.size();
  }
  void end() {
    if (stream_ == nullptr || !started_ || ended_) return;
    ended_ = true;
    if (!full_) pump();
  }
  void onGone(base::Function<void()> callback) { gone_ = std::move(callback); }
  void onDrained(base::Function<void()> callback) { drained_ = std::move(callback); }
  std::unique_ptr<net::Transport> upgrade(HeaderMap headers, base::Buffer& unread) {
    if (stream_ == nullptr || started_ || stream_->httpVersion() != 1) return nullptr;
    setStatus(headers, 101);
    started_ = ended_ = true;
    stream_->sendHeaders(headers, End::kNo);
    std::unique_ptr<net::Transport> taken = stream_->takeTransport(unread);
    over();
    return taken;
  }
  void abandoned() {
    gone_ = nullptr;
    drained_ = nullptr;
    if (stream_ == nullptr) return;
    if (!started_) return respond(500, {{"content-type", "text/plain"}}, "internal error\n");
    if (!ended_) {
      stream_->reset(ResetReason::kLocal);
      over();
    }
  }

 private:
  static void setStatus(HeaderMap& headers, int status) {
    headers.set(":status", std::to_string(status));
  }
  void dispatch();
  void pump() {
    const bool last = ended_;
    full_ = stream_->sendData(pending_, last ? End::kYes : End::kNo) == Flow::kFull && !last;
    if (last) over();
  }
  void over() {
    stream_ = nullptr;
    gone_ = nullptr;
    drained_ = nullptr;
    std::shared_ptr<ServerExchange> last = std::move(self_);
  }

  Stream* stream_;  // null when the exchange is over
  Handler& handler_;
  std::size_t body_bytes_max_;
  Request request_;
  base::Buffer pending_;
  base::Function<void()> gone_;
  base::Function<void()> drained_;
  std::shared_ptr<ServerExchange> self_;  // the connection's share
  bool started_ = false;
  bool ended_ = false;
  bool full_ = false;
};

class ResponderImpl final : public Responder {
 public:
  explicit ResponderImpl(std::shared_ptr<ServerExchange> exchange)
      : exchange_(std::move(exchange)) {}
  ~ResponderImpl() override { exchange_->abandoned(); }
  void respond(int status, HeaderMap headers, std::string body) override {
    exchange_->respond(status, std::move(headers), std::move(body));
  }
  void start(int status, HeaderMap headers) override {
    exchange_->start(status, std::move(headers));
  }
  std::size_t write(std::string_view bytes) override { return exchange_->write(bytes); }
  void end() override { exchange_->end(); }
  void onGone(base::Function<void()> callback) override { exchange_->onGone(std::move(callback)); }
  void onDrained(base::Function<void()> callback) override {
    exchange_->onDrained(std::move(callback));
  }
  std::unique_ptr<net::Transport> upgrade(HeaderMap headers, base::Buffer& unread) override {
    return exchange_->upgrade(std::move(headers), unread);
  }

 private:
  std::shared_ptr<ServerExchange> exchange_;
};

void ServerExchange::dispatch() {
  auto responder = std::make_unique<ResponderImpl>(self_);
  handler_(std::move(request_), std::move(responder));
}

class ServerImpl final : public Server, public ServerObserver {
 public:
  ServerImpl(event::Loop& loop, Options options, Handler handler)
      : loop_(loop),
        options_(std::move(options)),
        limits_(options_.limits),
        handler_(std::move(handler)) {}
  ~ServerImpl() override {
    acceptors_.clear();
    while (!open_.empty()) open_.back()->close();
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
        ServerConnection::start(loop_, std::move(transport), options_.protocol, limits_, *this));
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
    auto exchange =
        std::make_shared<ServerExchange>(stream, handler_, options_.limits.body_bytes_max);
    exchange->own(exchange);
    return exchange.get();
  }
  void onProtocol(ServerConnection& before, ServerConnection& now) override {
    std::replace(open_.begin(), open_.end(), &before, &now);
  }
  void onClosed(ServerConnection& connection) override { std::erase(open_, &connection); }

 private:
  event::Loop& loop_;
  Options options_;
  const SharedLimits limits_;
  Handler handler_;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors_;
  std::vector<ServerConnection*> open_;
};

}  // namespace

std::unique_ptr<Server> Server::make(event::Loop& loop, Options options, Handler handler) {
  return std::make_unique<ServerImpl>(loop, std::move(options), std::move(handler));
}

}  // namespace postern::http
