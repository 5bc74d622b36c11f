#include "node/probe.h"

#include "base/strings.h"
#include "network/namespace_scope.h"
#include "node/pod_fields.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace postern::node {
namespace {

/// Where the probe's sockets are made: in the pod's network, or where we are when it has an address
/// that is reached from here. A namespace that has gone belongs to a pod that is ending.
std::optional<network::NamespaceScope> enterNamespaceOf(ProbeHost& host) {
  const int netns = host.probeNamespace();
  if (netns < 0) return std::nullopt;
  auto scope = network::NamespaceScope::enter(netns);
  if (!scope) return std::nullopt;
  return std::move(*scope);
}

using json::Json;

constexpr std::chrono::milliseconds kEagerPeriod{100};

std::uint16_t portOf(const Json& container, const Json& action) {
  const Json* port = json::find(action, "port");
  if (port == nullptr) return 0;
  if (port->is_number_integer()) return static_cast<std::uint16_t>(port->get<int>());
  for (const Json& each : listAt(container, "ports")) {
    if (*port == each.value("name", "")) {
      return static_cast<std::uint16_t>(json::integerAt(each, "containerPort"));
    }
  }
  return 0;
}

class HttpCheck final : public Check {
 public:
  HttpCheck(event::Loop& loop, ProbeHost& host, const Json& container, const Json& action,
            base::Duration timeout, Done done)
      : done_(std::move(done)), later_(loop, [this] { tell(); }) {
    const std::string scheme = json::stringAt(action, "scheme", "HTTP");
    std::string ip = json::stringAt(action, "host");
    if (ip.empty()) ip = host.probeAddress();
    std::string path = json::stringAt(action, "path", "/");
    if (!path.starts_with('/')) path.insert(path.begin(), '/');
    const std::uint16_t port = portOf(container, action);
    auto address = net::Address::fromIp(ip, port);
    if (port == 0 || !address) {
      tellLater(false, "the probe's port or host is not known");
      return;
    }
    http::Client::Options options;
    options.address = *address;
    options.host = ip;
    options.connections_max = 1;
    options.body_bytes_max = 10 * 1024 * 1024;
    options.connect_timeout = std::chrono::duration_cast<std::chrono::milliseconds>(timeout);
    if (scheme == "HTTPS") {
      auto tls = tls::ClientContext::make({.verify = false});
      if (!tls) {
        tellLater(false, tls.error().message());
        return;
      }
      options.tls = *tls;
    }
    http::ClientRequest request;
    request.path = path;
    request.authority = address->toString();
    request.timeout = options.connect_timeout;
    request.headers.add("user-agent", "kube-probe/1.33");
    request.headers.add("accept", "*/*");
    for (const Json& header : listAt(action, "httpHeaders")) {
      const std::string name = json::stringAt(header, "name");
      if (base::equalsIgnoreCase(name, "host")) {
        request.authority = json::stringAt(header, "value");
      } else {
        request.headers.set(base::toLower(name), json::stringAt(header, "value"));
      }
    }
    url_ = fmt::format("{}://{}{}", base::toLower(scheme), address->toString(), path);
    const auto scope = enterNamespaceOf(host);
    client_ = http::Client::make(loop, std::move(options));
    call_ = client_->fetch(std::move(request), [this](base::Result<http::ClientResponse> result) {
      if (!result)
        return tellLater(false, fmt::format("Get \"{}\": {}", url_, result.error().message()));
      const bool good = result->status >= 200 && result->status < 400;
      tellLater(good,
                good ? "" : fmt::format("HTTP probe failed with statuscode: {}", result->status));
    });
  }

 private:
  // The answer may come inside the constructor, and the owner destroys us when told.
  void tellLater(bool good, std::string text) {
    good_ = good;
    text_ = std::move(text);
    later_.arm({});
  }
  void tell() {
    Done done = std::move(done_);
    done(good_, std::move(text_));
  }

  Done done_;
  std::string url_;
  bool good_ = false;
  std::string text_;
  event::Timer later_;
  std::unique_ptr<http::Client> client_;
  std::unique_ptr<http::Client::Call> call_;
};

class TcpCheck final : public Check, net::TransportObserver {
 public:
  TcpCheck(event::Loop& loop, ProbeHost& host, const Json& container, const Json& action,
           base::Duration timeout, Done done)
      : done_(std::move(done)), later_(loop, [this] { tell(); }) {
    std::string ip = json::stringAt(action, "host");
    if (ip.empty()) ip = host.probeAddress();
    auto address = net::Address::fromIp(ip, portOf(container, action));
    if (!address || address->port() == 0) {
      text_ = "the probe's port or host is not known";
      later_.arm({});
      return;
    }
    target_ = address->toString();
    text_ = fmt::format("dial tcp {}: i/o timeout", target_);
    const auto scope = enterNamespaceOf(host);
    transport_ = net::connectTransport(loop, *address);
    transport_->setObserver(this);
    later_.arm(timeout);
  }

 private:
  void onConnected() override {
    good_ = true;
    text_.clear();
    later_.arm({});
  }
  void onReadable() override {}
  void onWritable() override {}
  void onError(base::Error error) override {
    text_ = fmt::format("dial tcp {}: connect: {}", target_, error.message());
    later_.arm({});
  }
  void tell() {
    Done done = std::move(done_);
    done(good_, std::move(text_));
  }

  Done done_;
  std::string target_;
  bool good_ = false;
  std::string text_;
  event::Timer later_;
  std::unique_ptr<net::Transport> transport_;
};

class ExecCheck final : public Check {
 public:
  ExecCheck(event::Loop& loop, ProbeHost& host, const Json& container, const Json& action,
            base::Duration timeout, Done done)
      : done_(std::move(done)), timer_(loop, [this] { tell(false, "command timed out"); }) {
    std::vector<std::string> argv;
    for (const Json& word : listAt(action, "command")) {
      if (word.is_string()) argv.push_back(word.get<std::string>());
    }
    timer_.arm(timeout);
    host.probeExec(json::stringAt(container, "name"), std::move(argv),
                   [this, alive = std::weak_ptr<void>(alive_)](int code, std::string output) {
                     if (alive.lock()) tell(code == 0, std::move(output));
                   });
  }

 private:
  void tell(bool good, std::string text) {
    if (!done_) return;
    Done done = std::move(done_);
    done(good, std::move(text));
  }
  Done done_;
  std::shared_ptr<void> alive_ = std::make_shared<char>();
  event::Timer timer_;
};

class NoCheck final : public Check {
 public:
  NoCheck(event::Loop& loop, Done done)
      : done_(std::move(done)), timer_(loop, [this] {
          Done told = std::move(done_);
          told(false, "this kind of check is not supported: use httpGet, tcpSocket or exec");
        }) {
    timer_.arm({});
  }

 private:
  Done done_;
  event::Timer timer_;
};

base::Duration seconds(const Json& spec, const char* field, long long fallback, long long least) {
  return std::chrono::seconds(std::max(least, json::integerAt(spec, field, fallback)));
}

}  // namespace

std::unique_ptr<Check> Check::start(event::Loop& loop, ProbeHost& host, const Json& container,
                                    const Json& action, base::Duration timeout, Done done) {
  if (const Json* http = json::find(action, "httpGet")) {
    return std::make_unique<HttpCheck>(loop, host, container, *http, timeout, std::move(done));
  }
  if (const Json* tcp = json::find(action, "tcpSocket")) {
    return std::make_unique<TcpCheck>(loop, host, container, *tcp, timeout, std::move(done));
  }
  if (const Json* exec = json::find(action, "exec")) {
    return std::make_unique<ExecCheck>(loop, host, container, *exec, timeout, std::move(done));
  }
  return std::make_unique<NoCheck>(loop, std::move(done));
}

Probe::Probe(event::Loop& loop, ProbeHost& host, const Json& container, const Json& spec,
             bool eager, bool good, Callbacks callbacks)
    : loop_(loop),
      host_(host),
      container_(json::dump(container)),
      action_(json::dump(spec)),
      callbacks_(std::move(callbacks)),
      period_(seconds(spec, "periodSeconds", 10, 1)),
      timeout_(seconds(spec, "timeoutSeconds", 1, 1)),
      success_threshold_(
          static_cast<int>(std::max(1LL, json::integerAt(spec, "successThreshold", 1)))),
      failure_threshold_(
          static_cast<int>(std::max(1LL, json::integerAt(spec, "failureThreshold", 3)))),
      eager_(eager),
      good_(good),
      timer_(loop, [this] { check(); }) {
  timer_.arm(seconds(spec, "initialDelaySeconds", 0, 0));
}

void Probe::check() {
  const auto container = json::parse(container_);
  const auto action = json::parse(action_);
  check_ = Check::start(loop_, host_, *container, *action, timeout_,
                        [this](bool good, std::string text) { onResult(good, text); });
}

void Probe::onResult(bool good, const std::string& text) {
  check_.reset();
  timer_.arm(eager_ && !good ? std::min<base::Duration>(period_, kEagerPeriod) : period_);
  if (good) {
    eager_ = false;
    failures_ = 0;
    if (++successes_ >= success_threshold_ && !good_) {
      good_ = true;
      return callbacks_.on_change(true);
    }
    return;
  }
  successes_ = 0;
  // A check between two periods may succeed early but does not count as a failure.
  const base::MonotonicTime now = loop_.now();
  if (last_counted_ != base::MonotonicTime{} && now - last_counted_ < period_ - kEagerPeriod)
    return;
  last_counted_ = now;
  ++failures_;
  const bool turned = failures_ >= failure_threshold_ && good_;
  const bool exhausted = failures_ == failure_threshold_ && !good_;
  if (turned) good_ = false;
  const std::weak_ptr<void> watch = alive_;
  callbacks_.on_fail(text);
  if (watch.lock() && (turned || exhausted)) callbacks_.on_change(false);
}

}  // namespace postern::node
