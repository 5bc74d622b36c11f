#include "agent/xds_relay.h"

#include "agent/bootstrap.h"
#include "base/log.h"
#include "http/grpc.h"
#include "net/socket.h"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

namespace postern::agent {
namespace {

base::LogComponent kRelayLog("xds-relay");

constexpr int kUnavailable = 14;  // gRPC status codes
constexpr int kResourceExhausted = 8;
constexpr std::uint16_t kPlainPort = 15010;  // cleartext discovery, Istio's convention
constexpr std::size_t kFileBytesMax = 1024 * 1024;

constexpr const char* kMethods[] = {
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"};

base::ConfigResult<std::string> readFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return base::failConfig(path, "cannot be read");
  std::string out;
  char piece[4096];
  while (in.read(piece, sizeof(piece)), in.gcount() > 0) {
    out.append(piece, static_cast<std::size_t>(in.gcount()));
    if (out.size() > kFileBytesMax) return base::failConfig(path, "is over 1 MiB");
  }
  return out;
}

class XdsRelayImpl;

/// One stream of the proxy and its counterpart.
class Pair final : public event::Deferred {
 public:
  Pair(XdsRelayImpl& relay, std::string method, std::unique_ptr<http::GrpcStream> down)
      : relay_(relay), method_(std::move(method)), down_(std::move(down)) {}

  http::GrpcCallbacks downCallbacks() {
    http::GrpcCallbacks out;
    out.on_message = [this](std::string_view message) { fromProxy(message); };
    out.on_half_close = [this] { finish({}); };
    out.on_close = [this](http::GrpcStatus) {
      down_closed_ = true;
      finish({});
    };
    return out;
  }
  void start();
  void finish(http::GrpcStatus status);

 private:
  void resolved(base::Result<net::DnsAnswer> answer);
  void connect(const net::Address& address);
  void fromProxy(std::string_view message);
  void fromControlPlane(std::string_view message);

  XdsRelayImpl& relay_;
  const std::string method_;
  std::unique_ptr<http::GrpcStream> down_;
  std::unique_ptr<net::Resolver::Query> query_;
  std::unique_ptr<http::GrpcChannel> channel_;
  std::unique_ptr<http::GrpcStream> up_;
  std::vector<std::string> early_;  // said by the proxy before the way up was open
  std::size_t early_bytes_ = 0;
  bool down_closed_ = false;
  bool done_ = false;
};

class XdsRelayImpl final : public XdsRelay {
 public:
  XdsRelayImpl(event::Loop& loop_in, net::Resolver& resolver_in, const AgentOptions& options_in)
      : loop(loop_in), resolver(resolver_in), options(options_in) {}
  ~XdsRelayImpl() override {
    while (!pairs_.empty()) pairs_.begin()->first->finish({kUnavailable, "agent stops"});
  }

  base::ConfigResult<void> open() {
    const std::string path = xdsSocketPath(options);
    ::unlink(path.c_str());
    auto listener = net::listenSocket(net::Address::unixPath(path));
    if (!listener) return base::failConfig(path, listener.error().message());
    server_ = http::GrpcServer::make(loop, {});
    for (const char* method : kMethods) {
      server_->addMethod(
          method, [this, method](std::unique_ptr<http::GrpcStream> stream, const http::HeaderMap&) {
            auto pair = std::make_unique<Pair>(*this, method, std::move(stream));
            Pair* raw = pair.get();
            pairs_[raw] = std::move(pair);
            raw->start();
            return raw->downCallbacks();
          });
    }
    server_->listen(std::move(*listener));
    return {};
  }

  void forget(Pair* pair) {
    auto it = pairs_.find(pair);
    if (it == pairs_.end()) return;
    loop.destroyLater(std::move(it->second));
    pairs_.erase(it);
  }

  event::Loop& loop;
  net::Resolver& resolver;
  const AgentOptions& options;

 private:
  std::map<Pair*, std::unique_ptr<Pair>> pairs_;
  std::unique_ptr<http::GrpcServer> server_;
};

void Pair::start() {
  query_ = relay_.resolver.resolve(
      relay_.options.discovery_host, net::DnsFamily::kV4Preferred,
      [this](base::Result<net::DnsAnswer> answer) { resolved(std::move(answer)); });
}

void Pair::resolved(base::Result<net::DnsAnswer> answer) {
  if (!answer || answer->addresses.empty()) {
    const std::string why = answer ? "no address" : answer.error().message();
    kRelayLog.warning("{}: {}", relay_.options.discovery_host, why);
    return finish({kUnavailable, relay_.options.discovery_host + ": " + why});
  }
  net::Address address = answer->addresses.front();
  address.setPort(relay_.options.discovery_port);
  connect(address);
}

void Pair::connect(const net::Address& address) {
  http::GrpcChannel::Options channel;
  channel.address = address;
  channel.host = relay_.options.discovery_host;
  http::HeaderMap metadata;
  if (relay_.options.discovery_port != kPlainPort) {
    // Read for each connection: both files are renewed while we run.
    auto roots = readFile(relay_.options.paths.root_cert_file);
    auto token = readFile(relay_.options.paths.token_file);
    if (!roots || !token) {
      const std::string why = (!roots ? roots : token).error().message();
      kRelayLog.warning("{}", why);
      return finish({kUnavailable, why});
    }
    tls::ClientOptions tls_options;
    tls_options.ca_pem = *roots;
    tls_options.alpn = {"h2"};
    auto context = tls::ClientContext::make(tls_options);
    if (!context) {
      kRelayLog.warning("{}", context.error().message());
      return finish({kUnavailable, context.error().message()});
    }
    channel.tls = *context;
    while (!token->empty() && (token->back() == '\n' || token->back() == ' ')) token->pop_back();
    metadata.add("authorization", "Bearer " + *token);
  }
  channel_ = http::GrpcChannel::make(relay_.loop, std::move(channel));
  http::GrpcCallbacks callbacks;
  callbacks.on_message = [this](std::string_view message) { fromControlPlane(message); };
  callbacks.on_close = [this](http::GrpcStatus status) {
    kRelayLog.info("stream to {} ended: {} {}", relay_.options.discovery_host, status.code,
                   status.message);
    finish(status.code == 0 ? http::GrpcStatus{kUnavailable, "the control plane ended the stream"}
                            : status);
  };
  up_ = channel_->call(method_, metadata, std::move(callbacks));
  for (const std::string& each : std::exchange(early_, {})) up_->send(each);
}

void Pair::fromProxy(std::string_view message) {
  if (done_) return;
  if (up_ == nullptr) {
    early_bytes_ += message.size();
    if (early_bytes_ > kXdsUnsentBytesMax)
      return finish({kResourceExhausted, "too much is waiting for the control plane"});
    early_.emplace_back(message);
    return;
  }
  up_->send(message);
  if (up_->unsentBytes() > kXdsUnsentBytesMax)
    finish({kResourceExhausted, "too much is waiting for the control plane"});
}

void Pair::fromControlPlane(std::string_view message) {
  if (done_) return;
  down_->send(message);
  if (down_->unsentBytes() > kXdsUnsentBytesMax)
    finish({kResourceExhausted, "too much is waiting for the proxy"});
}

void Pair::finish(http::GrpcStatus status) {
  if (done_) return;
  done_ = true;
  if (up_ != nullptr) up_->close();
  if (!down_closed_) down_->close(std::move(status));
  relay_.forget(this);
}

}  // namespace

base::ConfigResult<std::unique_ptr<XdsRelay>> XdsRelay::start(event::Loop& loop,
                                                              net::Resolver& resolver,
                                                              const AgentOptions& options) {
  auto out = std::make_unique<XdsRelayImpl>(loop, resolver, options);
  POSTERN_TRY_VOID(out->open());
  return out;
}

}  // namespace postern::agent
