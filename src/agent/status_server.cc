#include "agent/status_server.h"

#include "base/strings.h"
#include "http/client.h"
#include "http/server.h"
#include "net/socket.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <map>

namespace postern::agent {
namespace {

using json::Json;

constexpr std::chrono::seconds kProbeTimeoutDefault{1};
constexpr std::chrono::seconds kAdminTimeout{2};

/// One application probe, as the injector wrote it down.
struct Prober {
  bool tcp = false;
  std::uint16_t port = 0;
  std::string path = "/";
  std::string host;
  bool https = false;
  http::HeaderMap headers;
  std::chrono::seconds timeout = kProbeTimeoutDefault;
};

base::ConfigResult<Prober> parseProber(const std::string& path, const Json& value) {
  Prober out;
  const Json* http = json::find(value, "httpGet");
  const Json* tcp = json::find(value, "tcpSocket");
  const Json* action = http != nullptr ? http : tcp;
  if (action == nullptr) return base::failConfig(path, "must have httpGet or tcpSocket");
  out.tcp = http == nullptr;
  const long long port = json::integerAt(*action, "port", 0);
  if (port < 1 || port > 65535) return base::failConfig(path + ".port", "must be 1-65535");
  out.port = static_cast<std::uint16_t>(port);
  out.path = json::stringAt(*action, "path", "/");
  if (!out.path.starts_with('/')) out.path.insert(0, "/");
  out.host = json::stringAt(*action, "host");
  out.https = json::stringAt(*action, "scheme") == "HTTPS";
  for (const Json& header : action->value("httpHeaders", Json::array())) {
    const std::string name = json::stringAt(header, "name");
    if (base::equalsIgnoreCase(name, "host")) {
      out.host = json::stringAt(header, "value");
    } else if (!name.empty()) {
      out.headers.add(name, json::stringAt(header, "value"));
    }
  }
  out.timeout = std::chrono::seconds(std::max(1LL, json::integerAt(value, "timeoutSeconds", 1)));
  return out;
}

/// Asks one question of a loopback port and passes the answer on; destroys itself.
class Question final : public event::Deferred {
 public:
  static void ask(event::Loop& loop, const Prober& prober,
                  std::unique_ptr<http::Responder> responder) {
    (new Question(loop, std::move(responder)))->start(prober);
  }

 private:
  Question(event::Loop& loop, std::unique_ptr<http::Responder> responder)
      : loop_(loop), responder_(std::move(responder)) {}

  void start(const Prober& prober) {
    http::Client::Options options;
    options.address = net::Address::loopback(prober.port);
    options.host = prober.host.empty() ? "localhost" : prober.host;
    options.connect_timeout = prober.timeout;
    if (prober.https) {
      // A probe asks whether the application lives, not who it is; the kubelet does not verify
      // either.
      tls::ClientOptions tls_options;
      tls_options.verify = false;
      auto context = tls::ClientContext::make(tls_options);
      if (!context) return answer(500, context.error().message());
      options.tls = *context;
    }
    client_ = http::Client::make(loop_, std::move(options));
    http::ClientRequest request;
    request.path = prober.path;
    request.headers = prober.headers;
    request.timeout = prober.timeout;
    call_ = client_->fetch(std::move(request), [this](base::Result<http::ClientResponse> response) {
      if (!response) return answer(500, response.error().message());
      answer(response->status, response->status < 400 ? "" : response->body.substr(0, 1024));
    });
  }

  void answer(int status, std::string body) {
    responder_->respond(status, {}, std::move(body));
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  event::Loop& loop_;
  std::unique_ptr<http::Responder> responder_;
  std::unique_ptr<http::Client> client_;
  std::unique_ptr<http::Client::Call> call_;
};

/// Whether a port accepts connections; destroys itself.
class TcpQuestion final : public net::TransportObserver, public event::Deferred {
 public:
  static void ask(event::Loop& loop, const Prober& prober,
                  std::unique_ptr<http::Responder> responder) {
    new TcpQuestion(loop, prober, std::move(responder));
  }
  void onConnected() override { answer(200, ""); }
  void onReadable() override {}
  void onWritable() override {}
  void onError(base::Error error) override { answer(500, error.message()); }

 private:
  TcpQuestion(event::Loop& loop, const Prober& prober, std::unique_ptr<http::Responder> responder)
      : loop_(loop),
        responder_(std::move(responder)),
        deadline_(loop, [this] { answer(500, "connection timeout"); }) {
    transport_ = net::connectTransport(loop, net::Address::loopback(prober.port));
    transport_->setObserver(this);
    deadline_.arm(prober.timeout);
  }
  void answer(int status, std::string body) {
    if (!responder_) return;
    deadline_.cancel();
    transport_->setObserver(nullptr);
    std::exchange(responder_, nullptr)->respond(status, {}, std::move(body));
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  event::Loop& loop_;
  std::unique_ptr<http::Responder> responder_;
  std::unique_ptr<net::Transport> transport_;
  event::Timer deadline_;
};

class StatusServerImpl final : public StatusServer {
 public:
  StatusServerImpl(event::Loop& loop, const AgentOptions& options, const ProxyProcess& proxy,
                   base::Function<void()> on_quit)
      : loop_(loop), options_(options), proxy_(proxy), on_quit_(std::move(on_quit)) {}

  base::ConfigResult<void> open() {
    POSTERN_TRY_VOID(readProbers());
    server_ = http::Server::make(
        loop_, {}, [this](http::Request request, std::unique_ptr<http::Responder> responder) {
          answer(request, std::move(responder));
        });
    for (std::uint16_t port : {options_.agent_port, options_.ready_port}) {
      auto socket = net::listenSocket(*net::Address::fromIp("0.0.0.0", port));
      if (!socket) return base::failConfig(fmt::format("port {}", port), socket.error().message());
      addresses_.push_back(net::localAddress(socket->get()));
      server_->listen(std::move(*socket));
    }
    return {};
  }
  void drain() override { draining_ = true; }
  std::vector<net::Address> addresses() const override { return addresses_; }

 private:
  using ResponderPtr = std::unique_ptr<http::Responder>;

  base::ConfigResult<void> readProbers() {
    if (options_.probers_json.empty()) return {};
    auto all = json::parse(options_.probers_json);
    if (!all) return base::failConfig("ISTIO_KUBE_APP_PROBERS", all.error().message());
    if (!all->is_object() || all->size() > kProbersMax)
      return base::failConfig("ISTIO_KUBE_APP_PROBERS", "must be an object of at most 1000 probes");
    for (const auto& [path, value] : all->items()) {
      POSTERN_TRY(probers_[path], parseProber("ISTIO_KUBE_APP_PROBERS[" + path + "]", value));
    }
    return {};
  }

  void answer(const http::Request& request, ResponderPtr responder) {
    if (request.path == "/healthz/ready") return ready(std::move(responder));
    if (request.path == "/stats/prometheus" || request.path == "/metrics")
      return metrics(std::move(responder));
    if (auto it = probers_.find(request.path); it != probers_.end()) {
      return it->second.tcp ? TcpQuestion::ask(loop_, it->second, std::move(responder))
                            : Question::ask(loop_, it->second, std::move(responder));
    }
    if (request.path == "/quitquitquit") return quit(request, *responder);
    responder->respond(404, {}, "not found\n");
  }

  void ready(ResponderPtr responder) {
    if (draining_) return responder->respond(503, {}, "draining\n");
    if (!proxy_.running()) return responder->respond(503, {}, "the proxy is not running\n");
    fetchAdmin("/ready", std::move(responder),
               [](http::Responder& to, base::Result<http::ClientResponse> from) {
                 if (!from) return to.respond(503, {}, "proxy: " + from.error().message() + "\n");
                 if (from->status != 200) return to.respond(503, {}, "proxy: " + from->body);
                 to.respond(200, {}, "");
               });
  }

  void metrics(ResponderPtr responder) {
    const unsigned restarts = proxy_.restarts();
    fetchAdmin("/stats/prometheus", std::move(responder),
               [restarts](http::Responder& to, base::Result<http::ClientResponse> from) {
                 std::string body =
                     "# TYPE postern_agent_proxy_restarts_total counter\n"
                     "postern_agent_proxy_restarts_total " +
                     std::to_string(restarts) + "\n";
                 // Without the proxy there are still the agent's own numbers.
                 if (from && from->status == 200) body = from->body + body;
                 http::HeaderMap headers;
                 headers.add("content-type", "text/plain; version=0.0.4");
                 to.respond(200, std::move(headers), std::move(body));
               });
  }

  void quit(const http::Request& request, http::Responder& responder) {
    if (request.method != "POST") return responder.respond(405, {}, "use POST\n");
    if (!request.remote.isLoopback())
      return responder.respond(403, {}, "only from within the pod\n");
    responder.respond(200, {}, "ok\n");
    if (on_quit_) on_quit_();
  }

  template <class F>
  void fetchAdmin(const char* path, ResponderPtr responder, F pass) {
    if (!admin_) {
      http::Client::Options options;
      options.address = net::Address::loopback(options_.admin_port);
      options.host = "localhost";
      options.connect_timeout = kAdminTimeout;
      admin_ = http::Client::make(loop_, std::move(options));
    }
    http::ClientRequest request;
    request.path = path;
    request.timeout = kAdminTimeout;
    const std::uint64_t id = ++last_call_;
    // The call ends in a later turn; its handle goes with the answer.
    calls_[id] = admin_->fetch(
        std::move(request),
        [this, id, pass, to = std::shared_ptr<http::Responder>(std::move(responder))](
            base::Result<http::ClientResponse> from) {
          pass(*to, std::move(from));
          auto it = calls_.find(id);
          if (it == calls_.end()) return;
          loop_.post([call = std::shared_ptr<http::Client::Call>(std::move(it->second))] {});
          calls_.erase(it);
        });
  }

  event::Loop& loop_;
  const AgentOptions& options_;
  const ProxyProcess& proxy_;
  base::Function<void()> on_quit_;
  std::map<std::string, Prober, std::less<>> probers_;
  std::vector<net::Address> addresses_;
  std::unique_ptr<http::Client> admin_;
  std::map<std::uint64_t, std::unique_ptr<http::Client::Call>> calls_;
  std::uint64_t last_call_ = 0;
  std::unique_ptr<http::Server> server_;
  bool draining_ = false;
};

}  // namespace

base::ConfigResult<std::unique_ptr<StatusServer>> StatusServer::start(
    event::Loop& loop, const AgentOptions& options, const ProxyProcess& proxy,
    base::Function<void()> on_quit) {
  auto out = std::make_unique<StatusServerImpl>(loop, options, proxy, std::move(on_quit));
  POSTERN_TRY_VOID(out->open());
  return out;
}

}  // namespace postern::agent
