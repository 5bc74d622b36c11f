#include "base/strings.h"
#include "http/request_text.h"
#include "proxy/exchange.h"
#include "proxy/route_select.h"

#include <algorithm>

namespace postern::proxy {

namespace {

// Nobody waits for a century; more would overflow nanoseconds.
constexpr std::chrono::seconds kLimitMax{3'000'000'000};

/// "100m" and the like (gRPC over HTTP/2); nothing when malformed.
std::optional<std::chrono::milliseconds> grpcTimeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  const auto number = base::parseInteger<std::int64_t>(text.substr(0, text.size() - 1));
  if (!number || *number < 0) return std::nullopt;
  switch (text.back()) {
    case 'H':
      return std::chrono::hours(*number);
    case 'M':
      return std::chrono::minutes(*number);
    case 'S':
      return std::chrono::seconds(*number);
    case 'm':
      return std::chrono::milliseconds(*number);
    case 'u':
      return std::chrono::milliseconds((*number + 999) / 1000);
    case 'n':
      return std::chrono::milliseconds((*number + 999'999) / 1'000'000);
    default:
      return std::nullopt;
  }
}

/// The same back, in at most eight digits.
std::string grpcTimeoutText(std::chrono::milliseconds limit) {
  constexpr std::int64_t kMost = 99'999'999;
  constexpr std::pair<char, std::int64_t> kUnits[] = {{'m', 1000}, {'S', 60}, {'M', 60}};
  std::int64_t number = limit.count();
  for (const auto& [unit, next] : kUnits) {
    if (number <= kMost) return std::to_string(number) + unit;
    number /= next;
  }
  return std::to_string(std::min(number, kMost)) + 'H';
}

}  // namespace

void Exchange::chooseRoute() {
  if (table_ != nullptr) {
    // Where a header names the host, a request without it is for none.
    const auto host = table_->host_header.empty() ? std::optional(request_.authority())
                                                  : request_.get(table_->host_header);
    if (host) vhost_ = findHost(*table_, *host);
    if (vhost_ != nullptr && !wantsTls()) route_ = findRoute(*table_, *vhost_, request_, random_);
  }
  if (route_ != nullptr) {
    record_.route_name = route_->name;
    action_ = std::get_if<ForwardAction>(&route_->action);
    if (action_ != nullptr) {
      target_ = &chooseCluster(*action_, random_);
      std::string_view name = target_->name;
      if (!target_->name_header.empty()) name = request_.value(target_->name_header);
      cluster_ = conn_.worker.clusters().find(name);
      if (cluster_ != nullptr) {
        record_.upstream_cluster = cluster_->name();
        record_.upstream_observed = cluster_->observedName();
      }
      if (action_->idle_timeout) {
        idle_timeout_ = *action_->idle_timeout;
        clear(Deadline::kIdle);
        touch();
      }
      limitStream();
    }
  }
  if (config_.log_new_requests) logNow("DownstreamStart");
  if (!upgrade_.empty()) {
    request_ended_ = false;  // what follows is the tunnel's
    clear(Deadline::kRequest);
  }
  // Without a route CONNECT is answered as other requests are.
  if (!upgrade_.empty() && (route_ != nullptr || upgrade_ != "connect")) {
    bool allowed = std::find(config_.upgrades.begin(), config_.upgrades.end(), upgrade_) !=
                   config_.upgrades.end();
    if (action_ != nullptr) {
      for (const auto& [type, enabled] : action_->upgrades) {
        if (type == upgrade_) allowed = enabled;
      }
    }
    if (!allowed) {
      conn_.stats.rq_ws_on_non_ws_route.add();
      if (target_ != nullptr) record_.upstream_cluster = target_->name;
      return reply({.status = 403,
                    .body = "",
                    .flag = std::nullopt,
                    .details = "upgrade_failed",
                    .close = true});
    }
  }
  if (config_.cors_first && answerCors()) return;
  if (!injectFault()) afterFault();
}

/// The route's limits of a whole exchange. What a caller says in grpc-timeout holds up to the
/// route's maximum; a gRPC upstream is told what is left of it.
void Exchange::limitStream() {
  const auto wanted = action_->grpc_timeout_max ? grpcTimeout(request_.value("grpc-timeout"))
                                                : std::optional<std::chrono::milliseconds>();
  std::chrono::milliseconds limit{0};
  if (wanted) {
    limit = *wanted;
    const auto most = *action_->grpc_timeout_max;
    if (most.count() > 0) limit = std::min(limit, most);
    limit = std::max(limit - action_->grpc_timeout_offset, std::chrono::milliseconds(0));
  } else if (action_->stream_duration_max) {
    clear(Deadline::kStream);
    limit = *action_->stream_duration_max;
    if (limit.count() == 0) return;
  } else {
    return;
  }
  if (grpc_) request_.set("grpc-timeout", grpcTimeoutText(limit));
  setDeadline(Deadline::kStream, std::min<std::chrono::milliseconds>(limit, kLimitMax));
}

// ---- the router ----

void Exchange::act() {
  if (vhost_ != nullptr && wantsTls()) return redirectToTls();
  if (route_ == nullptr) {
    conn_.stats.no_route.add();
    return reply({.status = 404,
                  .body = "",
                  .flag = formatter::Flag::kNoRouteFound,
                  .details = "route_not_found"});
  }
  if (const auto* direct = std::get_if<DirectResponse>(&route_->action))
    return respondDirectly(*direct);
  if (const auto* to = std::get_if<Redirect>(&route_->action)) return redirect(*to);
  forward();
}

/// The virtual host is for TLS only and this request came without.
bool Exchange::wantsTls() const {
  const VirtualHost::Tls tls = vhost_->require_tls;
  if (tls == VirtualHost::Tls::kNone || request_.value("x-forwarded-proto") == "https")
    return false;
  return tls == VirtualHost::Tls::kAll || !internal_;
}

void Exchange::redirectToTls() {
  conn_.stats.rq_redirect.add();
  std::string location;  // none of a CONNECT, which has no path
  if (!request_.path().empty())
    location.append("https://").append(request_.authority()).append(request_.path());
  reply({.status = 301,
         .body = "",
         .flag = std::nullopt,
         .details = "direct_response",
         .location = location});
}

void Exchange::redirect(const Redirect& to) {
  conn_.stats.rq_redirect.add();
  const std::string_view target = request_.path();
  const std::size_t path_size = http::pathOnly(target).size();
  std::string path;
  if (!to.path.empty()) {
    path = to.path;
    if (to.path.find('?') == std::string::npos && !to.strip_query) path += target.substr(path_size);
  } else if (!to.prefix.empty()) {
    path = prefixReplaced(target, to.prefix);
  } else if (to.regex != nullptr) {
    path = replaceAll(to.regex, target.substr(0, path_size), to.substitution);
    if (path.empty()) path = target.substr(0, path_size);
    path += target.substr(path_size);
  } else {
    path = target;
  }
  if (to.strip_query && to.path.empty()) path.resize(std::min(path.find('?'), path.size()));
  const std::string scheme(to.scheme.empty() ? request_.scheme() : std::string_view(to.scheme));
  // Of the connection; what a client of HTTP/2 says may be another.
  const std::string_view before = request_.value("x-forwarded-proto");
  std::string host(to.host.empty() ? request_.authority() : std::string_view(to.host));
  if (to.port != 0) {
    host = std::string(http::withoutPort(host)) + ':' + std::to_string(to.port);
  } else if (to.host.empty() && scheme != before) {
    // The old scheme's port makes no sense with the new one.
    if ((before == "http" && host.ends_with(":80")) ||
        (before == "https" && host.ends_with(":443"))) {
      host = http::withoutPort(host);
    }
  }
  const std::string location = scheme + "://" + host + path;
  reply({.status = to.status,
         .body = "",
         .flag = std::nullopt,
         .details = "direct_response",
         .location = location,
         .by = By::kRoute});
}

void Exchange::respondDirectly(const DirectResponse& direct) {
  conn_.stats.rq_direct_response.add();
  std::string formatted;
  if (direct.formatted) {
    record_.local_reply = direct.body;
    direct.body_format.append(formatted, record_, direct.omit_empty ? "" : "-");
  }
  reply({.status = direct.status,
         .body = direct.formatted ? std::string_view(formatted) : std::string_view(direct.body),
         .flag = std::nullopt,
         .details = "direct_response",
         .content_type = direct.content_type,
         .by = By::kRoute});
}

void Exchange::forward() {
  if (cluster_ == nullptr) {
    conn_.stats.no_cluster.add();
    return reply({.status = action_->cluster_not_found_status,
                  .body = "",
                  .flag = formatter::Flag::kNoClusterFound,
                  .details = "cluster_not_found"});
  }
  conn_.stats.router_rq_total.add();
  // The target of a tunnel has a port, whatever routes look at.
  if (!connect_port_.empty())
    request_.set(":authority", std::string(request_.authority()) + connect_port_);
  timeout_ = routeTimeout();
  if (action_->retry) per_try_timeout_ = action_->retry->per_try_timeout;
  if (envoy_headers_) {
    if (auto per_try = base::parseInteger<std::uint32_t>(
            request_.value("x-envoy-upstream-rq-per-try-timeout-ms"))) {
      per_try_timeout_ = std::chrono::milliseconds(*per_try);
    }
    request_.remove("x-envoy-upstream-rq-timeout-ms");
  }
  if (timeout_.count() > 0 && per_try_timeout_ >= timeout_) per_try_timeout_ = {};
  announceTimeout({});
  if (vhost_->attempt_count_in_request) request_.set("x-envoy-attempt-count", "1");
  finalizeRequest();
  startRetries();
  record_.at.connect_begin = now();
  tryUpstream();
}

/// After the route's changes of headers: those may ask for retries, as a caller does.
void Exchange::startRetries() {
  retry_.start(action_->retry ? &*action_->retry : nullptr, request_, envoy_headers_);
  if (!envoy_headers_) return;
  timeout_is_no_content_ = request_.has("x-envoy-upstream-rq-timeout-alt-response");
  for (const char* used :
       {"x-envoy-upstream-rq-timeout-alt-response", "x-envoy-retry-on", "x-envoy-retry-grpc-on",
        "x-envoy-max-retries", "x-envoy-retriable-status-codes", "x-envoy-retriable-header-names",
        "x-envoy-upstream-rq-per-try-timeout-ms"}) {
    request_.remove(used);
  }
}

}  // namespace postern::proxy
