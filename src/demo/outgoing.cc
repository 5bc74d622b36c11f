#include "demo/outgoing.h"

#include "base/log.h"
#include "base/strings.h"
#include "http/client.h"
#include "http/grpc.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <optional>
#include <utility>

namespace postern::demo {
namespace {

base::LogComponent log_("demo");

constexpr std::chrono::seconds kCallTimeout{30};
constexpr std::string_view kPropagated[] = {
    "x-request-id",        "x-b3-traceid",      "x-b3-spanid",       "x-b3-parentspanid",
    "x-b3-sampled",        "x-b3-flags",        "x-ot-span-context", "x-datadog-trace-id",
    "x-datadog-parent-id", "x-datadog-sampled", "end-user",          "user-agent",
};

/// One outgoing call: look-up, then an HTTP exchange, a gRPC call or a TCP stream. Ends once, with
/// or without an error.
class Call final : public event::Deferred, private net::TransportObserver {
 public:
  using Done = base::Function<void(Call& call, const std::string& error)>;
  Call(event::Loop& loop, const Target& target, Done done)
      : loop_(loop),
        target_(target),
        done_(std::move(done)),
        timer_(loop, [this] { finish("timed out"); }) {}

  void start(net::Resolver& resolver, http::HeaderMap headers) {
    headers_ = std::move(headers);
    timer_.arm(kCallTimeout);
    query_ = resolver.resolve(target_.host, net::DnsFamily::kV4Preferred,
                              [this](base::Result<net::DnsAnswer> answer) { resolved(answer); });
  }

 private:
  void resolved(const base::Result<net::DnsAnswer>& answer) {
    if (!answer) return finish(answer.error().message());
    if (answer->addresses.empty()) return finish("no address");
    net::Address address = answer->addresses.front();
    address.setPort(target_.port);
    if (target_.scheme == "tcp") return startTcp(address);
    if (target_.scheme == "grpc") return startGrpc(address);
    http::Client::Options options;
    options.address = address;
    options.host =
        target_.port == 80 ? target_.host : fmt::format("{}:{}", target_.host, target_.port);
    client_ = http::Client::make(loop_, std::move(options));
    http::ClientRequest request;
    request.path = target_.path;
    request.headers = std::move(headers_);
    request.timeout = kCallTimeout;
    call_ = client_->fetch(std::move(request), [this](base::Result<http::ClientResponse> response) {
      if (!response) return finish(response.error().message());
      finish(response->status < 400 ? "" : fmt::format("status {}", response->status));
    });
  }

  void startGrpc(const net::Address& address) {
    http::GrpcChannel::Options options;
    options.address = address;
    options.host = fmt::format("{}:{}", target_.host, target_.port);
    channel_ = http::GrpcChannel::make(loop_, std::move(options));
    http::GrpcCallbacks callbacks;
    callbacks.on_close = [this](http::GrpcStatus status) {
      finish(status.code == 0 ? ""
                              : fmt::format("gRPC status {}: {}", status.code, status.message));
    };
    grpc_ = channel_->call(target_.path, headers_, std::move(callbacks));
    grpc_->send("");  // the message has no fields
    grpc_->close();
  }
  void startTcp(const net::Address& address) {
    left_ = std::size_t{target_.count} * kTcpUnitBytes;
    transport_ = net::connectTransport(loop_, address);
    transport_->setObserver(this);
  }
  void onConnected() override { pump(); }
  void onWritable() override { pump(); }
  void pump() {
    static const std::string kDots(1024, '.');
    while (left_ > 0 || !out_.empty()) {
      while (left_ > 0 && out_.size() < 64 * kDots.size()) {
        out_.append(std::string_view(kDots).substr(0, std::min(left_, kDots.size())));
        left_ -= std::min(left_, kDots.size());
      }
      net::IoStatus status = transport_->write(out_).status;
      if (status == net::IoStatus::kAgain) return;
      if (status != net::IoStatus::kOk) return finish(transport_->error().message());
    }
    if (!std::exchange(ended_, true)) transport_->shutdownWrite();
  }
  void onReadable() override {
    for (;;) {
      base::Buffer dropped;
      net::IoStatus status = transport_->read(dropped, 65536).status;
      if (status == net::IoStatus::kAgain) return;
      if (status == net::IoStatus::kOk) continue;
      if (status == net::IoStatus::kError) return finish(transport_->error().message());
      return finish(ended_ ? "" : "closed by the peer before the end");
    }
  }
  void onError(base::Error error) override { finish(error.message()); }

  void finish(const std::string& error) {
    if (!done_) return;
    timer_.cancel();
    std::exchange(done_, nullptr)(*this, error);
  }

  event::Loop& loop_;
  const Target& target_;
  Done done_;
  event::Timer timer_;
  http::HeaderMap headers_;
  std::unique_ptr<net::Resolver::Query> query_;
  std::unique_ptr<http::Client> client_;
  std::unique_ptr<http::Client::Call> call_;
  std::unique_ptr<http::GrpcChannel> channel_;
  std::unique_ptr<http::GrpcStream> grpc_;
  std::unique_ptr<net::Transport> transport_;
  base::Buffer out_;
  std::size_t left_ = 0;
  bool ended_ = false;
};

class OutgoingImpl final : public Outgoing {
 public:
  OutgoingImpl(event::Loop& loop, net::Resolver& resolver, std::vector<Target> targets)
      : loop_(loop), resolver_(resolver), targets_(std::move(targets)) {}

  void run(http::HeaderMap headers, base::Function<void()> done) override {
    auto batch = batches_.emplace(batches_.end());
    batch->done = std::move(done);
    for (const Target& target : targets_) {
      // A TCP target's count is the length of its one stream.
      unsigned calls = target.scheme == "tcp" ? std::min(target.count, 1u) : target.count;
      for (unsigned i = 0; i < calls; ++i) {
        batch->calls.push_back(std::make_unique<Call>(
            loop_, target, [this, batch, &target](Call& call, const std::string& error) {
              over(batch, call, target, error);
            }));
      }
    }
    if (batch->calls.empty()) return complete(batch);
    // No call ends inside start(), so the list stays as it is.
    for (const auto& call : batch->calls) call->start(resolver_, headers);
  }

 private:
  struct Batch {
    std::list<std::unique_ptr<Call>> calls;
    base::Function<void()> done;
  };
  using Iterator = std::list<Batch>::iterator;

  void over(Iterator batch, Call& call, const Target& target, const std::string& error) {
    if (!error.empty()) {
      log_.error("outgoing request {}://{}:{}{} failed: {}", target.scheme, target.host,
                 target.port, target.path, error);
    }
    auto it = std::find_if(batch->calls.begin(), batch->calls.end(),
                           [&](const auto& each) { return each.get() == &call; });
    loop_.destroyLater(std::move(*it));
    batch->calls.erase(it);
    if (batch->calls.empty()) complete(batch);
  }
  void complete(Iterator batch) {
    base::Function<void()> done = std::move(batch->done);
    batches_.erase(batch);
    done();
  }

  event::Loop& loop_;
  net::Resolver& resolver_;
  std::vector<Target> targets_;
  std::list<Batch> batches_;
};

}  // namespace

base::ConfigResult<Target> parseUrl(std::string_view url) {
  Target out;
  std::size_t colon = url.find("://");
  if (colon == std::string_view::npos) return base::failConfig(std::string(url), "not a URL");
  out.scheme = url.substr(0, colon);
  if (out.scheme != "http" && out.scheme != "grpc" && out.scheme != "tcp")
    return base::failConfig(std::string(url), "scheme must be http, grpc or tcp");
  std::string_view rest = url.substr(colon + 3);
  std::size_t slash = rest.find('/');
  std::string_view authority = rest.substr(0, slash);
  if (slash != std::string_view::npos) out.path = rest.substr(slash);
  std::size_t port_at = authority.rfind(':');
  if (authority.ends_with(']')) port_at = std::string_view::npos;
  out.host = authority.substr(0, port_at);
  if (out.host.starts_with('[') && out.host.ends_with(']'))
    out.host = out.host.substr(1, out.host.size() - 2);
  if (out.host.empty()) return base::failConfig(std::string(url), "host is missing");
  if (port_at == std::string_view::npos) {
    if (out.scheme != "http") return base::failConfig(std::string(url), "port is missing");
    out.port = 80;
    return out;
  }
  auto port = base::parseInteger<std::uint16_t>(authority.substr(port_at + 1));
  if (!port || *port == 0) return base::failConfig(std::string(url), "port must be 1-65535");
  out.port = *port;
  return out;
}

base::ConfigResult<std::vector<Target>> parseTargets(std::string_view text) {
  std::vector<Target> out;
  for (std::string_view item : base::split(text, ' ')) {
    item = base::trim(item);
    if (item.empty()) continue;
    std::size_t hash = item.rfind('#');
    POSTERN_TRY(Target target, parseUrl(item.substr(0, hash)));
    if (hash != std::string_view::npos)
      target.count = base::parseInteger<unsigned>(item.substr(hash + 1)).value_or(0);
    target.count = std::min(target.count, kCallsPerTargetMax);
    out.push_back(std::move(target));
  }
  return out;
}

http::HeaderMap propagated(const http::HeaderMap& incoming) {
  http::HeaderMap out;
  for (std::string_view name : kPropagated) {
    if (auto value = incoming.get(name)) out.add(name, *value);
  }
  return out;
}

std::unique_ptr<Outgoing> Outgoing::make(event::Loop& loop, net::Resolver& resolver,
                                         std::vector<Target> targets) {
  return std::make_unique<OutgoingImpl>(loop, resolver, std::move(targets));
}

}  // namespace postern::demo
