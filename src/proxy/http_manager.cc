#include "proxy/http_manager.h"

#include "http/server.h"
#include "proxy/route_select.h"
#include "proxy/upstream_pool.h"

#include <fmt/format.h>

#include <random>

namespace postern::proxy {

namespace {

using http::End;
using http::HeaderMap;

std::string requestId() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  const std::uint64_t a = random();
  const std::uint64_t b = random();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff,
                     0x8000 | (b >> 50), b & 0xffffffffffff);
}

class Exchange final : public http::StreamObserver,
                       public UpstreamPool::Waiter,
                       public event::Deferred {
 public:
  Exchange(Worker& worker, const HttpManager& config, const ConnectionFacts& facts,
           http::Stream& down)
      : worker_(worker),
        config_(config),
        facts_(facts),
        down_(down),
        up_side_(*this),
        deadline_(worker.loop(), [this] { timedOut(); }),
        started_(worker.loop().now()) {
    record_.start = std::chrono::system_clock::now();
    record_.downstream_local = facts.destination.toString();
    record_.downstream_remote = down.transport().remote().toString();
    record_.server_name = facts.server_name;
  }

  // ---- downstream ----
  void onHeaders(HeaderMap headers, End end) override;
  void onData(base::Buffer& data, End end) override {
    record_.bytes_received += data.size();
    request_ended_ = end == End::kYes;
    if (up_ == nullptr) return;
    if (up_->sendData(data, end) == http::Flow::kOpen && !request_ended_) down_.read();
  }
  void onTrailers(HeaderMap trailers) override {
    request_ended_ = true;
    if (up_ != nullptr) up_->sendTrailers(trailers);
  }
  void onWritable() override {
    if (up_ != nullptr) up_->read();
  }
  void onReset(http::ResetReason) override {
    record_.flags.set(Flag::kDownstreamConnectionTermination);
    record_.details = "downstream_remote_disconnect";
    record_.response_code = response_started_ ? record_.response_code : 0;
    finish();
  }

  // ---- UpstreamPool::Waiter ----
  void onReady(http::ClientConnection& connection) override {
    waiting_ = false;
    record_.upstream_local = connection.transport().local().toString();
    up_ = &connection.open(up_side_);
    const End end = request_ended_ ? End::kYes : End::kNo;
    if (up_->sendHeaders(request_, end) == http::Flow::kOpen && !request_ended_) down_.read();
  }
  void onFailed(base::Error error) override {
    waiting_ = false;
    record_.failure = error.message();
    reply(503,
          "upstream connect error or disconnect/reset before headers. reset reason: remote "
          "connection failure, transport failure reason: " +
              record_.failure,
          Flag::kUpstreamConnectionFailure,
          "upstream_reset_before_response_started{remote_connection_failure}");
  }

 private:
  struct UpSide final : http::StreamObserver {
    explicit UpSide(Exchange& owner) : exchange(owner) {}
    void onHeaders(HeaderMap headers, End end) override {
      exchange.upHeaders(std::move(headers), end);
    }
    void onData(base::Buffer& data, End end) override { exchange.upData(data, end); }
    void onTrailers(HeaderMap trailers) override {
      exchange.up_ = nullptr;
      exchange.down_.sendTrailers(trailers);
      exchange.finish();
    }
    void onWritable() override {
      if (!exchange.request_ended_) exchange.down_.read();
    }
    void onReset(http::ResetReason) override { exchange.upReset(); }
    Exchange& exchange;
  };

  void forward(const ForwardAction& action);
  void rewrite(const ForwardAction& action);
  void redirect(const Redirect& to);
  void upHeaders(HeaderMap headers, End end);
  void upData(base::Buffer& data, End end);
  void upReset();
  void timedOut();
  void reply(int status, std::string body, std::optional<Flag> flag, const char* details,
             const std::string& location = "");
  void finish();

  Worker& worker_;
  const HttpManager& config_;
  const ConnectionFacts& facts_;
  std::shared_ptr<const RouteTable> table_;
  http::Stream& down_;
  http::Stream* up_ = nullptr;
  UpSide up_side_;
  event::Timer deadline_;
  base::MonotonicTime started_;
  base::MonotonicTime sent_{};
  HeaderMap request_;
  HeaderMap logged_;  // the request as the client sent it
  HeaderMap response_;
  const Route* route_ = nullptr;
  AccessRecord record_;
  bool request_ended_ = false;
  bool response_started_ = false;
  bool waiting_ = false;
  bool done_ = false;
};

void Exchange::onHeaders(HeaderMap headers, End end) {
  request_ = std::move(headers);
  request_ended_ = end == End::kYes;
  record_.protocol = down_.httpVersion() == 0   ? "HTTP/1.0"
                     : down_.httpVersion() == 2 ? "HTTP/2"
                                                : "HTTP/1.1";
  if (!request_.has("x-request-id")) request_.set("x-request-id", requestId());
  if (!request_.has("x-forwarded-proto")) request_.set("x-forwarded-proto", request_.scheme());
  if (config_.use_remote_address) request_.add("x-forwarded-for", down_.transport().remote().ip());
  logged_ = request_;
  // Upgrades are not offered: the request goes on as an ordinary one (RFC 9110 7.8).
  for (const char* name : {"upgrade", "http2-settings", "keep-alive", "proxy-connection"})
    request_.remove(name);
  table_ = config_.routes != nullptr ? config_.routes : worker_.routes(config_.rds_name);
  if (table_ == nullptr) return reply(404, "", Flag::kNoRouteFound, "route_not_found");
  const VirtualHost* host = findHost(*table_, request_.authority());
  if (host != nullptr) route_ = findRoute(*table_, *host, request_, 0);
  if (route_ == nullptr) return reply(404, "", Flag::kNoRouteFound, "route_not_found");
  record_.route_name = route_->name;
  if (const auto* direct = std::get_if<DirectResponse>(&route_->action))
    return reply(direct->status, direct->body, std::nullopt, "direct_response");
  if (const auto* to = std::get_if<Redirect>(&route_->action)) return redirect(*to);
  forward(std::get<ForwardAction>(route_->action));
}

void Exchange::redirect(const Redirect& to) {
  std::string path(request_.path());
  if (!to.path.empty()) path = to.path;
  if (to.rewrites_prefix) path = to.prefix + path.substr(route_->match.path.size());
  const std::string_view scheme =
      !to.scheme.empty() ? std::string_view(to.scheme) : request_.value("x-forwarded-proto");
  const std::string_view host = to.host.empty() ? request_.authority() : to.host;
  reply(to.status, "", std::nullopt, "direct_response",
        fmt::format("{}://{}{}", scheme, host, path));
}

void Exchange::rewrite(const ForwardAction& action) {
  if (!action.prefix_rewrite.empty()) {
    const std::string original(request_.path());
    request_.set("x-envoy-original-path", original);
    request_.set(":path", action.prefix_rewrite + original.substr(route_->match.path.size()));
  }
  if (!action.host_rewrite.empty()) request_.set(":authority", action.host_rewrite);
  route_->request.apply(request_, record_);
}

void Exchange::forward(const ForwardAction& action) {
  const std::string& name = chooseCluster(action, 0).name;
  record_.upstream_cluster = name;
  ClusterState* cluster = worker_.clusters().find(name);
  if (cluster == nullptr) return reply(503, "", Flag::kNoClusterFound, "cluster_not_found");
  PickRequest pick;
  pick.original = &facts_.destination;
  auto host = cluster->pick(pick);
  if (!host)
    return reply(503, "no healthy upstream", Flag::kNoHealthyUpstream, "no_healthy_upstream");
  rewrite(action);
  record_.upstream_host = host->address.toString();
  sent_ = worker_.loop().now();
  if (action.timeout.count() > 0) deadline_.arm(action.timeout);
  waiting_ = true;
  worker_.pool().acquire(*cluster, host, *this);
}

void Exchange::upHeaders(HeaderMap headers, End end) {
  response_started_ = true;
  deadline_.cancel();
  response_ = std::move(headers);
  record_.response_code = response_.status();
  record_.details = "via_upstream";
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(worker_.loop().now() - sent_);
  response_.set("x-envoy-upstream-service-time", std::to_string(took.count()));
  response_.set("server", config_.server_name);
  route_->response.apply(response_, record_);
  const http::Flow flow = down_.sendHeaders(response_, end);
  if (end == End::kYes) {
    up_ = nullptr;
    return finish();
  }
  if (flow == http::Flow::kOpen) up_->read();
}

void Exchange::upData(base::Buffer& data, End end) {
  record_.bytes_sent += data.size();
  if (end == End::kYes) up_ = nullptr;
  const http::Flow flow = down_.sendData(data, end);
  if (end == End::kYes) return finish();
  if (flow == http::Flow::kOpen) up_->read();
}

void Exchange::upReset() {
  up_ = nullptr;
  if (!response_started_)
    return reply(503,
                 "upstream connect error or disconnect/reset before headers. reset reason: "
                 "connection termination",
                 Flag::kUpstreamConnectionTermination,
                 "upstream_reset_before_response_started{connection_termination}");
  record_.flags.set(Flag::kUpstreamConnectionTermination);
  down_.setObserver(nullptr);
  down_.reset(http::ResetReason::kConnectionLost);
  finish();
}

void Exchange::timedOut() {
  reply(504, "upstream request timeout", Flag::kUpstreamRequestTimeout, "response_timeout");
}

void Exchange::reply(int status, std::string body, std::optional<Flag> flag, const char* details,
                     const std::string& location) {
  if (done_) return;
  if (flag) record_.flags.set(*flag);
  record_.details = details;
  record_.response_code = status;
  record_.bytes_sent = body.size();
  response_ = HeaderMap{{":status", std::to_string(status)}};
  if (!location.empty()) response_.add("location", location);
  response_.add("content-length", std::to_string(body.size()));
  if (!body.empty()) response_.add("content-type", "text/plain");
  response_.add("server", config_.server_name);
  if (route_ != nullptr) route_->response.apply(response_, record_);
  base::Buffer data(body);
  down_.sendHeaders(response_, body.empty() ? End::kYes : End::kNo);
  if (!body.empty()) down_.sendData(data, End::kYes);
  finish();
}

void Exchange::finish() {
  if (done_) return;
  done_ = true;
  deadline_.cancel();
  down_.setObserver(nullptr);
  if (waiting_) worker_.pool().cancel(*this);
  if (up_ != nullptr) std::exchange(up_, nullptr)->reset(http::ResetReason::kCancel);
  record_.request = &logged_;
  record_.response = &response_;
  record_.at.request_begin = started_;
  record_.at.response_end = worker_.loop().now();
  worker_.log(config_.logs, record_);
  worker_.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
}

class Manager final : public http::ServerObserver,
                      public DownstreamConnection,
                      public event::Deferred {
 public:
  Manager(Worker& worker, const HttpManager& config, ConnectionFacts facts)
      : worker_(worker), config_(config), facts_(std::move(facts)) {
    worker_.remember(*this, facts_);
  }
  void start(std::unique_ptr<net::Transport> client) {
    connection_ = http::ServerConnection::start(worker_.loop(), std::move(client),
                                                http::Protocol::kHttp1, {}, *this);
  }
  void close() override { connection_->close(); }
  void drain() override { connection_->drain(); }
  http::StreamObserver* onStream(http::ServerConnection&, http::Stream& stream) override {
    return new Exchange(worker_, config_, facts_, stream);  // destroys itself when finished
  }
  void onClosed(http::ServerConnection&) override {
    worker_.forget(*this);
    worker_.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
  }

 private:
  Worker& worker_;
  const HttpManager& config_;
  const ConnectionFacts facts_;
  http::ServerConnection* connection_ = nullptr;
};

}  // namespace

void startHttpManager(Worker& worker, const HttpManager& config,
                      std::unique_ptr<net::Transport> client, ConnectionFacts facts) {
  auto* manager = new Manager(worker, config, std::move(facts));  // destroys itself when closed
  manager->start(std::move(client));
}

}  // namespace postern::proxy
