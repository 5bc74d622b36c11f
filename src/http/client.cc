// Requests to one origin over a small pool of keep-alive connections.
#include "http/client.h"

#include "http/h1_client.h"
#include "http/h2_client.h"
#include "http/negotiate.h"
#include "http/tunnel_client.h"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>
#include <vector>

namespace postern::http {

ClientConnection* ClientConnection::start(event::Loop& loop,
                                          std::unique_ptr<net::Transport> transport,
                                          Protocol protocol, const ClientLimits& limits,
                                          ClientObserver& observer) {
  switch (protocol) {
    case Protocol::kHttp1:
      return startH1Client(loop, std::move(transport), limits, observer);
    case Protocol::kHttp2:
      return startH2Client(loop, std::move(transport), limits, observer);
    case Protocol::kTunnel:
      return startTunnelClient(loop, std::move(transport), observer);
    case Protocol::kAuto:
      break;
  }
  // Without TLS there is no ALPN: HTTP/1.1.
  if (!transport->peer().tls) return startH1Client(loop, std::move(transport), limits, observer);
  return startNegotiatedClient(loop, std::move(transport), limits, observer);
}

namespace {

class ClientImpl;

base::Error errorOf(ResetReason reason) {
  switch (reason) {
    case ResetReason::kConnectFailure:
      return {base::Errc::kRefused, "connection failed"};
    case ResetReason::kTimeout:
      return {base::Errc::kTimeout, "request timed out"};
    case ResetReason::kProtocol:
    case ResetReason::kInvalidField:
      return {base::Errc::kProtocol, "malformed answer"};
    case ResetReason::kOverflow:
      return {base::Errc::kLimitExceeded, "answer too large"};
    case ResetReason::kLocal:
      return {base::Errc::kCancelled, "cancelled"};
    case ResetReason::kCancel:
      return {base::Errc::kClosed, "reset by the peer"};
    default:
      return {base::Errc::kClosed, "connection lost"};
  }
}

/// One request, waiting, running or over. The caller's handle (CallHandle) and the client share it.
class ClientExchange final : public StreamObserver {
 public:
  ClientExchange(event::Loop& loop, ClientImpl& owner, ClientRequest request,
                 std::size_t body_bytes_max)
      : owner_(&owner),
        request_(std::move(request)),
        body_bytes_max_(body_bytes_max),
        timer_(loop, [this] { fail({base::Errc::kTimeout, "request timed out"}); }) {
    timer_.arm(request_.timeout);
  }

  base::Function<void(base::Result<ClientResponse>)> whole;
  Client::StreamCallbacks pieces;
  bool streaming = false;

  void run(ClientConnection& connection, const std::string& default_authority);
  /// Ends with an error: at most one callback, the last thing done here.
  void fail(base::Error error);
  void cancel();

  void onHeaders(HeaderMap headers, End end) override;
  void onData(base::Buffer& data, End end) override;
  void onTrailers(HeaderMap) override { finish(); }
  void onReset(ResetReason reason) override;

 private:
  void finish();
  bool mayRetry(ResetReason reason) const {
    if (retried_) return false;
    if (reason == ResetReason::kRefused || reason == ResetReason::kNotSent) return true;
    return reason == ResetReason::kLostBeforeReply &&
           (request_.method == "GET" || request_.method == "HEAD");
  }

  ClientImpl* owner_;  // null when over
  ClientRequest request_;
  std::size_t body_bytes_max_;
  event::Timer timer_;
  Stream* stream_ = nullptr;
  ClientResponse response_;
  bool retried_ = false;
};

class CallHandle final : public Client::Call {
 public:
  explicit CallHandle(std::shared_ptr<ClientExchange> exchange) : exchange_(std::move(exchange)) {}
  ~CallHandle() override { exchange_->cancel(); }

 private:
  std::shared_ptr<ClientExchange> exchange_;
};

class ClientImpl final : public Client, public ClientObserver {
 public:
  ClientImpl(event::Loop& loop, Options options)
      : loop_(loop),
        options_(std::move(options)),
        retry_(loop, [this] { dispatch(); }),
        multiplexes_(options_.protocol == Protocol::kHttp2 ||
                     (options_.protocol == Protocol::kAuto && options_.tls != nullptr)) {}
  ~ClientImpl() override {
    auto running = running_;
    for (auto& each : running) each->cancel();
    auto waiting = std::move(waiting_);
    for (auto& each : waiting) each->cancel();
    while (!open_.empty()) open_.begin()->first->close();
  }

  std::unique_ptr<Call> fetch(
      ClientRequest request, base::Function<void(base::Result<ClientResponse>)> callback) override {
    auto exchange =
        std::make_shared<ClientExchange>(loop_, *this, std::move(request), options_.body_bytes_max);
    exchange->whole = std::move(callback);
    return submit(std::move(exchange));
  }
  std::unique_ptr<Call> stream(ClientRequest request, StreamCallbacks callbacks) override {
    auto exchange =
        std::make_shared<ClientExchange>(loop_, *this, std::move(request), options_.body_bytes_max);
    exchange->pieces = std::move(callbacks);
    exchange->streaming = true;
    return submit(std::move(exchange));
  }

  void again(ClientExchange& exchange) {
    auto it = find(running_, exchange);
    if (it == running_.end()) return;
    waiting_.push_front(std::move(*it));
    running_.erase(it);
    retry_.arm({});
  }
  /// Keeps the exchange alive for the caller's frame.
  std::shared_ptr<ClientExchange> forget(ClientExchange& exchange) {
    for (auto* list : {&running_, &waiting_}) {
      auto it = find(*list, exchange);
      if (it == list->end()) continue;
      std::shared_ptr<ClientExchange> kept = std::move(*it);
      list->erase(it);
      return kept;
    }
    return nullptr;
  }

  // ---- ClientObserver ----
  void onConnected(ClientConnection& connection) override {
    connecting_.erase(&connection);
    multiplexes_ = connection.multiplexes();
    open_[&connection]->arm(options_.idle_timeout);  // nobody may want it any more
    retry_.arm({});
  }
  void onAvailable(ClientConnection& connection) override {
    auto it = open_.find(&connection);
    if (it != open_.end() && connection.activeStreams() == 0)
      it->second->arm(options_.idle_timeout);
    retry_.arm({});
  }
  void onDraining(ClientConnection&) override {}
  void onClosed(ClientConnection& connection, base::Error error) override {
    const bool never_connected = connecting_.erase(&connection) > 0;
    open_.erase(&connection);
    // Nobody else would tell the ones that wait for this connection.
    if (never_connected && open_.empty()) {
      auto waiting = std::move(waiting_);
      waiting_.clear();
      for (auto& each : waiting) each->fail(error);
      return;
    }
    if (!waiting_.empty()) retry_.arm({});
  }

 private:
  using List = std::deque<std::shared_ptr<ClientExchange>>;
  static List::iterator find(List& list, ClientExchange& exchange) {
    return std::find_if(list.begin(), list.end(),
                        [&](const auto& each) { return each.get() == &exchange; });
  }

  std::unique_ptr<Call> submit(std::shared_ptr<ClientExchange> exchange) {
    waiting_.push_back(exchange);
    retry_.arm({});
    return std::make_unique<CallHandle>(std::move(exchange));
  }

  void dispatch() {
    for (auto it = open_.begin(); it != open_.end() && !waiting_.empty();) {
      auto& [connection, timer] = *it;
      if (!connection->canOpen()) {
        ++it;
        continue;
      }
      timer->cancel();
      std::shared_ptr<ClientExchange> next = std::move(waiting_.front());
      waiting_.pop_front();
      running_.push_back(next);
      next->run(*connection, options_.host);
    }
    // One connection may carry all of them: the first tells.
    const std::size_t wanted =
        multiplexes_ ? std::min<std::size_t>(waiting_.size(), 1) : waiting_.size();
    while (connecting_.size() < wanted && open_.size() < options_.connections_max) connect();
  }

  void connect() {
    std::unique_ptr<net::Transport> transport = net::connectTransport(loop_, options_.address);
    if (options_.tls)
      transport = tls::connectTls(loop_, std::move(transport), options_.tls, options_.host);
    ClientConnection* connection =
        ClientConnection::start(loop_, std::move(transport), options_.protocol, {}, *this);
    // Until connected the timer bounds connecting, later idleness.
    auto timer = std::make_unique<event::Timer>(loop_, [connection] { connection->close(); });
    timer->arm(options_.connect_timeout);
    open_[connection] = std::move(timer);
    connecting_[connection] = true;
  }

  event::Loop& loop_;
  Options options_;
  event::Timer retry_;
  std::map<ClientConnection*, std::unique_ptr<event::Timer>> open_;
  std::map<ClientConnection*, bool> connecting_;
  List waiting_;
  List running_;
  bool multiplexes_;  // as far as known
};

void ClientExchange::run(ClientConnection& connection, const std::string& default_authority) {
  HeaderMap headers;
  headers.add(":method", request_.method);
  headers.add(":scheme", connection.transport().peer().tls ? "https" : "http");
  headers.add(":path", request_.path);
  headers.add(":authority", request_.authority.empty() ? default_authority : request_.authority);
  request_.headers.each(
      [&](std::string_view name, std::string_view value) { headers.add(name, value); });
  if (!request_.body.empty()) headers.set("content-length", std::to_string(request_.body.size()));
  stream_ = &connection.open(*this);
  Stream& stream = *stream_;
  stream.sendHeaders(headers, request_.body.empty() ? End::kYes : End::kNo);
  if (request_.body.empty()) return;
  base::Buffer body{request_.body};
  stream.sendData(body, End::kYes);
}

void ClientExchange::onHeaders(HeaderMap headers, End end) {
  response_.status = headers.status();
  if (streaming) {
    timer_.cancel();
    auto kept = end == End::kYes ? owner_->forget(*this) : nullptr;
    if (pieces.on_headers) pieces.on_headers(response_.status, headers);
    if (owner_ == nullptr) return;  // cancelled inside
    if (end == End::kYes) return finish();
  } else {
    response_.headers = std::move(headers);
    if (end == End::kYes) return finish();
  }
  stream_->read();
}

void ClientExchange::onData(base::Buffer& data, End end) {
  if (streaming) {
    while (!data.empty() && owner_ != nullptr) {
      std::string piece(data.front());
      data.drain(piece.size());
      if (pieces.on_data) pieces.on_data(piece);
    }
    if (owner_ == nullptr) return;
  } else if (response_.body.size() + data.size() > body_bytes_max_) {
    return fail({base::Errc::kLimitExceeded, "answer too large"});
  } else {
    response_.body += data.toString();
  }
  if (end == End::kYes) return finish();
  stream_->read();
}

void ClientExchange::onReset(ResetReason reason) {
  stream_ = nullptr;
  if (owner_ == nullptr) return;
  if (mayRetry(reason) && response_.status == 0) {
    retried_ = true;
    return owner_->again(*this);
  }
  fail(errorOf(reason));
}

void ClientExchange::finish() {
  if (owner_ == nullptr) return;
  auto kept = std::exchange(owner_, nullptr)->forget(*this);
  stream_ = nullptr;
  timer_.cancel();
  if (streaming) {
    if (pieces.on_end) std::exchange(pieces.on_end, nullptr)(std::nullopt);
  } else if (whole) {
    std::exchange(whole, nullptr)(std::move(response_));
  }
}

void ClientExchange::fail(base::Error error) {
  if (owner_ == nullptr) return;
  auto kept = std::exchange(owner_, nullptr)->forget(*this);
  timer_.cancel();
  if (stream_ != nullptr) std::exchange(stream_, nullptr)->reset(ResetReason::kLocal);
  if (streaming) {
    if (pieces.on_end) std::exchange(pieces.on_end, nullptr)(error);
  } else if (whole) {
    std::exchange(whole, nullptr)(std::unexpected(error));
  }
}

void ClientExchange::cancel() {
  if (owner_ == nullptr) return;
  auto kept = std::exchange(owner_, nullptr)->forget(*this);
  timer_.cancel();
  if (stream_ != nullptr) std::exchange(stream_, nullptr)->reset(ResetReason::kCancel);
}

}  // namespace

std::unique_ptr<Client> Client::make(event::Loop& loop, Options options) {
  return std::make_unique<ClientImpl>(loop, std::move(options));
}

}  // namespace postern::http
