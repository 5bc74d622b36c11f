#include "demo/allspark.h"

#include "base/strings.h"
#include "http/grpc.h"
#include "http/server.h"
#include "net/socket.h"

#include <algorithm>
#include <list>
#include <utility>

namespace postern::demo {
namespace {

constexpr std::size_t kTcpConnectionsMax = 4096;
constexpr unsigned kPiCountDefault = 50000;
constexpr unsigned kPiCountMax = 10'000'000;

/// Leibniz' series: work for the processor, as much as asked.
double computePi(unsigned count) {
  double sum = 0;
  for (unsigned i = 0; i < count; ++i) sum += (i % 2 == 0 ? 4.0 : -4.0) / (2.0 * i + 1.0);
  return sum;
}

/// A protobuf message whose field 1 is this text.
std::string textMessage(std::string_view text) {
  std::string out = "\x0a";
  std::size_t size = text.size();
  for (; size >= 0x80; size >>= 7) out += static_cast<char>((size & 0x7f) | 0x80);
  out += static_cast<char>(size);
  return out.append(text);
}

/// Reads one TCP connection to its end and then closes it.
class Sink final : public event::Deferred, private net::TransportObserver {
 public:
  Sink(std::unique_ptr<net::Transport> transport, base::Function<void(Sink&)> over)
      : transport_(std::move(transport)), over_(std::move(over)) {
    transport_->setObserver(this);
  }

 private:
  void onReadable() override {
    for (;;) {
      base::Buffer dropped;
      net::IoStatus status = transport_->read(dropped, 65536).status;
      if (status == net::IoStatus::kAgain) return;
      if (status != net::IoStatus::kOk) return over_(*this);
    }
  }
  void onWritable() override {}
  void onError(base::Error) override { over_(*this); }

  std::unique_ptr<net::Transport> transport_;
  base::Function<void(Sink&)> over_;
};

class AllsparkImpl final : public Allspark {
 public:
  AllsparkImpl(event::Loop& loop, net::Resolver& resolver, AllsparkOptions options)
      : loop_(loop),
        options_(std::move(options)),
        for_http_(Outgoing::make(loop, resolver, options_.http_requests)),
        for_grpc_(Outgoing::make(loop, resolver, options_.grpc_requests)),
        for_tcp_(Outgoing::make(loop, resolver, options_.tcp_requests)) {}

  base::Result<void> listen() {
    POSTERN_TRY(base::Fd http, net::listenSocket(options_.http_listen));
    POSTERN_TRY(base::Fd grpc, net::listenSocket(options_.grpc_listen));
    POSTERN_TRY(base::Fd tcp, net::listenSocket(options_.tcp_listen));
    POSTERN_TRY(base::Fd health, net::listenSocket(options_.health_listen));
    http_address_ = net::localAddress(http.get());
    health_address_ = net::localAddress(health.get());
    http_ = http::Server::make(
        loop_, {}, [this](http::Request request, std::unique_ptr<http::Responder> responder) {
          serve(request, std::move(responder));
        });
    http_->listen(std::move(http));
    grpc_address_ = net::localAddress(grpc.get());
    grpc_ = http::GrpcServer::make(loop_, {});
    grpc_->addMethod("/allspark/Incoming", [this](std::unique_ptr<http::GrpcStream> stream,
                                                  const http::HeaderMap& headers) {
      return serveCall(std::move(stream), headers);
    });
    grpc_->listen(std::move(grpc));
    health_ = http::Server::make(
        loop_, {}, [](http::Request request, std::unique_ptr<http::Responder> responder) {
          const bool known = request.path == "/healthz";
          responder->respond(known ? 200 : 404, {{"content-type", "text/plain"}},
                             known ? "ok" : "not found");
        });
    health_->listen(std::move(health));
    tcp_ = std::make_unique<net::Acceptor>(
        loop_, std::move(tcp), [this](base::Fd fd, const net::Address&) { accept(std::move(fd)); });
    return {};
  }
  net::Address httpAddress() const override { return http_address_; }
  net::Address grpcAddress() const override { return grpc_address_; }
  net::Address tcpAddress() const override { return tcp_->local(); }
  net::Address healthAddress() const override { return health_address_; }

 private:
  void serve(const http::Request& request, std::unique_ptr<http::Responder> responder) {
    if (request.method != "GET" || request.path != options_.endpoint) {
      return responder->respond(404, {{"content-type", "text/plain"}}, "404 page not found\n");
    }
    for_http_->run(propagated(request.headers), [this, answer = std::move(responder)] {
      answer->respond(200, {{"content-type", "text/plain"}}, work());
    });
  }
  /// Incoming(params) returns (response): the parameters say nothing, the response has one text.
  http::GrpcCallbacks serveCall(std::unique_ptr<http::GrpcStream> stream,
                                const http::HeaderMap& headers) {
    auto call = std::make_shared<std::unique_ptr<http::GrpcStream>>(std::move(stream));
    auto forwarded = std::make_shared<http::HeaderMap>(propagated(headers));
    http::GrpcCallbacks out;
    out.on_half_close = [this, call, forwarded] {
      for_grpc_->run(std::move(*forwarded), [this, call] {
        if (!*call) return;  // the caller has gone
        (*call)->send(textMessage(work()));
        (*call)->close();
      });
    };
    out.on_close = [call](http::GrpcStatus) { call->reset(); };
    return out;
  }
  std::string work() const {
    if (options_.workload == Workload::kEcho) return options_.echo_text;
    // The comparison keeps the computation from being optimised away.
    if (options_.workload == Workload::kPi && computePi(options_.pi_count) < 0) return "";
    return "ok";
  }
  void accept(base::Fd fd) {
    if (sinks_.size() >= kTcpConnectionsMax) return;
    for_tcp_->run({}, [] {});
    sinks_.push_back(std::make_unique<Sink>(net::makeSocketTransport(loop_, std::move(fd)),
                                            [this](Sink& sink) { release(sink); }));
  }
  void release(Sink& sink) {
    auto it = std::find_if(sinks_.begin(), sinks_.end(),
                           [&](const auto& each) { return each.get() == &sink; });
    if (it == sinks_.end()) return;
    loop_.destroyLater(std::move(*it));
    sinks_.erase(it);
  }

  event::Loop& loop_;
  AllsparkOptions options_;
  std::unique_ptr<Outgoing> for_http_;
  std::unique_ptr<Outgoing> for_grpc_;
  std::unique_ptr<Outgoing> for_tcp_;
  std::unique_ptr<http::Server> http_;
  std::unique_ptr<http::GrpcServer> grpc_;
  std::unique_ptr<http::Server> health_;
  std::unique_ptr<net::Acceptor> tcp_;
  std::list<std::unique_ptr<Sink>> sinks_;
  net::Address http_address_;
  net::Address grpc_address_;
  net::Address health_address_;
};

base::ConfigResult<net::Address> addressOf(const base::Function<std::string(const char*)>& variable,
                                           const char* name, std::string_view fallback) {
  std::string text = variable(name);
  // Go writes "any address" as ":8080".
  if (text.starts_with(':')) text = "0.0.0.0" + text;
  auto address = net::Address::parse(text.empty() ? fallback : std::string_view(text));
  if (!address) return base::failConfig(name, "must be an address like 0.0.0.0:8080");
  return *address;
}

base::ConfigResult<std::vector<Target>> targetsOf(
    const base::Function<std::string(const char*)>& variable, const char* name) {
  std::string text = variable(name);
  auto targets = parseTargets(text.empty() ? variable("REQUESTS") : text);
  if (!targets)
    return base::failConfig(text.empty() ? "REQUESTS" : name, targets.error().message());
  return targets;
}

}  // namespace

base::ConfigResult<AllsparkOptions> allsparkOptions(
    const base::Function<std::string(const char* name)>& variable) {
  AllsparkOptions out;
  std::string workload = base::toLower(variable("WORKLOAD"));
  if (workload == "echo") {
    out.workload = Workload::kEcho;
  } else if (workload == "pi") {
    out.workload = Workload::kPi;
  } else if (!workload.empty()) {
    return base::failConfig("WORKLOAD", "must be Echo or PI");
  }
  out.echo_text = variable("ECHO_STR");
  unsigned count = base::parseInteger<unsigned>(variable("PI_COUNT")).value_or(0);
  out.pi_count = count < 1 ? kPiCountDefault : std::min(count, kPiCountMax);
  POSTERN_TRY(out.http_requests, targetsOf(variable, "HTTPREQUESTS"));
  POSTERN_TRY(out.grpc_requests, targetsOf(variable, "GRPCREQUESTS"));
  POSTERN_TRY(out.tcp_requests, targetsOf(variable, "TCPREQUESTS"));
  if (std::string endpoint = variable("HTTPSERVER_ENDPOINT"); !endpoint.empty())
    out.endpoint = endpoint;
  POSTERN_TRY(out.http_listen, addressOf(variable, "HTTPSERVER_LISTENADDRESS", "0.0.0.0:8080"));
  POSTERN_TRY(out.grpc_listen, addressOf(variable, "GRPCSERVER_LISTENADDRESS", "0.0.0.0:8082"));
  POSTERN_TRY(out.tcp_listen, addressOf(variable, "TCPSERVER_LISTENADDRESS", "0.0.0.0:8083"));
  POSTERN_TRY(out.health_listen, addressOf(variable, "HEALTHCHECK_LISTENADDRESS", "0.0.0.0:8081"));
  return out;
}

base::Result<std::unique_ptr<Allspark>> Allspark::make(event::Loop& loop, net::Resolver& resolver,
                                                       AllsparkOptions options) {
  auto out = std::make_unique<AllsparkImpl>(loop, resolver, std::move(options));
  POSTERN_TRY_VOID(out->listen());
  return std::unique_ptr<Allspark>(std::move(out));
}

}  // namespace postern::demo
