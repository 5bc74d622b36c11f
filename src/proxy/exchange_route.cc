#include "base/strings.h"
#include "proxy/exchange.h"

#include <algorithm>
#include <initializer_list>

namespace postern::proxy {

namespace {

std::uint64_t randomNumber() {
  thread_local base::Random random;
  return random.next();
}

std::string_view withoutPort(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || host.find(']', colon) != std::string_view::npos)
    return host;
  return host.substr(0, colon);
}

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

/// The share of a policy, lowered by a percentage header of the request.
bool hits(const std::optional<Fraction>& share, std::string_view header) {
  if (!share) return false;
  Fraction used = *share;
  if (auto percent = base::parseInteger<std::uint32_t>(header)) {
    const std::uint64_t wanted = std::uint64_t{*percent} * used.denominator / 100;
    used.numerator = static_cast<std::uint32_t>(std::min<std::uint64_t>(used.numerator, wanted));
  }
  return used.hit(randomNumber());
}

}  // namespace

void Exchange::chooseRoute() {
  if (table_ != nullptr) {
    // Where a header names the host, a request without it is for none.
    const auto host = table_->host_header.empty() ? std::optional(request_.authority())
                                                  : request_.get(table_->host_header);
    if (host) vhost_ = findHost(*table_, *host);
    if (vhost_ != nullptr) route_ = findRoute(*table_, *vhost_, request_, random_);
  }
  if (route_ != nullptr) {
    record_.route_name = route_->name;
    action_ = std::get_if<ForwardAction>(&route_->action);
    if (action_ != nullptr) {
      target_ = &chooseCluster(*action_, random_);
      std::string_view name = target_->name;
      if (!target_->name_header.empty()) name = request_.value(target_->name_header);
      cluster_ = conn_.worker.clusters().find(name);
      if (cluster_ != nullptr && !wantsTls()) record_.upstream_cluster = cluster_->config().name;
      if (action_->idle_timeout) {
        idle_timeout_ = *action_->idle_timeout;
        clear(Deadline::kIdle);
        touch();
      }
      limitStream();
    }
  }
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
  if (!injectFault() && !answerCors()) act();
}

/// The route's limits of a whole exchange. What a caller says in grpc-timeout holds up to the
/// route's maximum, and the upstream is told what is left of it.
void Exchange::limitStream() {
  const auto wanted = action_->grpc_timeout_max ? grpcTimeout(request_.value("grpc-timeout"))
                                                : std::optional<std::chrono::milliseconds>();
  if (wanted) {
    std::chrono::milliseconds limit = *wanted;
    const auto most = *action_->grpc_timeout_max;
    if (most.count() > 0) limit = std::min(limit, most);
    limit = std::max(limit - action_->grpc_timeout_offset, std::chrono::milliseconds(0));
    request_.set("grpc-timeout", std::to_string(limit.count()) + 'm');
    setDeadline(Deadline::kStream, limit);
  } else if (action_->stream_duration_max) {
    clear(Deadline::kStream);
    if (action_->stream_duration_max->count() > 0)
      setDeadline(Deadline::kStream, *action_->stream_duration_max);
  }
}

// ---- fault ----

namespace {

/// What the most specific place that says something of a filter says of it; null: none does.
template <class T>
const T* policyOf(PerFilter::Named<T> PerFilter::* kind, std::string_view filter,
                  std::initializer_list<const PerFilter*> places) {
  for (const PerFilter* place : places) {
    if (place == nullptr) continue;
    for (const auto& [name, policy] : place->*kind) {
      if (name == filter) return policy.get();
    }
  }
  return nullptr;
}

template <class Place>
const PerFilter* filtersOf(const Place* place) {
  return place == nullptr ? nullptr : &place->filters;
}

}  // namespace

const FaultPolicy* Exchange::faultPolicy() const {
  if (config_.fault == nullptr) return nullptr;
  const FaultPolicy* own =
      policyOf(&PerFilter::fault, config_.fault_name,
               {filtersOf(target_), filtersOf(route_), filtersOf(vhost_), filtersOf(table_)});
  return own != nullptr ? own : config_.fault.get();
}

/// True when the exchange waits or is over.
bool Exchange::injectFault() {
  const FaultPolicy* policy = faultPolicy();
  if (policy == nullptr || (!policy->delay_share && !policy->abort_share)) return false;
  if (!policy->upstream_cluster.empty() &&
      (target_ == nullptr || target_->name != policy->upstream_cluster)) {
    return false;
  }
  if (!allMatch(policy->headers, request_)) return false;
  if (policy->active_max &&
      conn_.stats.faults_active.value() >= static_cast<std::int64_t>(*policy->active_max)) {
    conn_.stats.fault_overflow.add();
    return false;
  }
  std::chrono::milliseconds delay = policy->delay;
  if (policy->delay_by_header) {
    delay = std::chrono::milliseconds(
        base::parseInteger<std::uint32_t>(request_.value("x-envoy-fault-delay-request"))
            .value_or(0));
  }
  if (delay.count() > 0 &&
      hits(policy->delay_share, policy->delay_by_header
                                    ? request_.value("x-envoy-fault-delay-request-percentage")
                                    : std::string_view())) {
    fault_active_ = true;
    conn_.stats.faults_active.add();
    conn_.stats.fault_delays.add();
    record_.flags.set(Flag::kDelayInjected);
    setDeadline(Deadline::kDelay, delay);
    return true;
  }
  if (!policy->abort_share) return false;
  abortByFault();
  return true;
}

/// Aborts if chance wants it; goes on otherwise. Also what follows an injected delay.
void Exchange::abortByFault() {
  const FaultPolicy* policy = faultPolicy();
  int status = policy->abort_status;
  int grpc_status = policy->abort_grpc_status;
  std::string_view percentage;
  if (policy->abort_by_header) {
    status = base::parseInteger<int>(request_.value("x-envoy-fault-abort-request")).value_or(0);
    grpc_status =
        base::parseInteger<int>(request_.value("x-envoy-fault-abort-grpc-request")).value_or(-1);
    percentage = request_.value("x-envoy-fault-abort-request-percentage");
    if (status != 0 && (status < 200 || status > 599)) status = 0;
  }
  if ((status != 0 || grpc_status >= 0) && hits(policy->abort_share, percentage)) {
    if (!fault_active_) {
      fault_active_ = true;
      conn_.stats.faults_active.add();
    }
    conn_.stats.fault_aborts.add();
    return reply({.status = status == 0 ? 200 : status,
                  .body = "fault filter abort",
                  .flag = Flag::kFaultInjected,
                  .details = "fault_filter_abort",
                  .grpc_status = grpc_status});
  }
  if (!answerCors()) act();
}

// ---- CORS ----

namespace {

bool allows(const CorsPolicy& policy, std::string_view origin) {
  return std::any_of(policy.origins.begin(), policy.origins.end(),
                     [&](const StringMatcher& each) { return each.matches(origin); });
}

}  // namespace

const CorsPolicy* Exchange::corsPolicy() const {
  if (config_.cors_name.empty()) return nullptr;
  return policyOf(&PerFilter::cors, config_.cors_name,
                  {filtersOf(target_), filtersOf(route_), filtersOf(vhost_), filtersOf(table_)});
}

/// Answers a preflight; true when it did.
bool Exchange::answerCors() {
  const CorsPolicy* policy = corsPolicy();
  const auto origin = request_.get("origin");
  if (policy == nullptr || !origin || !policy->enabled.hit(random_)) return false;
  const bool valid = allows(*policy, *origin);
  (valid ? conn_.stats.cors_valid : conn_.stats.cors_invalid).add();
  if (request_.method() != "OPTIONS" || !request_.has("access-control-request-method"))
    return false;
  if (!valid && policy->forward_not_matching_preflights) return false;
  response_ = HeaderMap{{":status", "200"}};
  if (valid) {
    response_.add("access-control-allow-origin", *origin);
    if (policy->credentials) response_.add("access-control-allow-credentials", "true");
  }
  // What would be allowed is told to everybody, as Envoy does; without an origin it allows nothing.
  if (!policy->methods.empty()) response_.add("access-control-allow-methods", policy->methods);
  if (!policy->headers.empty()) response_.add("access-control-allow-headers", policy->headers);
  if (!policy->max_age.empty()) response_.add("access-control-max-age", policy->max_age);
  if (valid && !policy->exposed.empty())
    response_.add("access-control-expose-headers", policy->exposed);
  record_.details = "cors_response";
  record_.response_code = 200;
  sendResponseHeaders(End::kYes);
  responseComplete();
  return true;
}

void Exchange::addCors(HeaderMap& headers) const {
  const CorsPolicy* policy = corsPolicy();
  const auto origin = request_.get("origin");
  if (policy == nullptr || !origin || !policy->enabled.hit(random_) || !allows(*policy, *origin))
    return;
  headers.set("access-control-allow-origin", *origin);
  if (policy->credentials) headers.set("access-control-allow-credentials", "true");
  if (!policy->exposed.empty()) headers.set("access-control-expose-headers", policy->exposed);
}

// ---- the router ----

void Exchange::act() {
  if (route_ == nullptr) {
    conn_.stats.no_route.add();
    return reply(
        {.status = 404, .body = "", .flag = Flag::kNoRouteFound, .details = "route_not_found"});
  }
  if (wantsTls()) return redirectToTls();
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
  std::string location = "https://";
  location.append(request_.authority()).append(request_.path());
  reply({.status = 301,
         .body = "",
         .flag = std::nullopt,
         .details = "direct_response",
         .location = location});
}

std::string Exchange::prefixReplaced(std::string_view target, std::string_view with) const {
  const std::size_t path_size = pathOnly(target).size();
  const RouteMatch::Kind kind = route_->match.kind;
  const bool prefix =
      kind == RouteMatch::Kind::kPrefix || kind == RouteMatch::Kind::kSeparatedPrefix;
  const std::size_t replaced = prefix ? route_->match.path.size() : path_size;
  std::string out(with);
  out += target.substr(std::min(replaced, target.size()));
  return out;
}

void Exchange::redirect(const Redirect& to) {
  conn_.stats.rq_redirect.add();
  const std::string_view target = request_.path();
  const std::size_t path_size = pathOnly(target).size();
  std::string path;
  if (!to.path.empty()) {
    path = to.path;
    if (to.path.find('?') == std::string::npos && !to.strip_query) path += target.substr(path_size);
  } else if (to.rewrites_prefix) {
    path = prefixReplaced(target, to.prefix);
  } else if (to.regex != nullptr) {
    path = replaceAll(to.regex, target.substr(0, path_size), to.substitution);
    path += target.substr(path_size);
  } else {
    path = target;
  }
  if (to.strip_query && to.path.empty()) path.resize(std::min(path.find('?'), path.size()));
  const std::string_view before = request_.value("x-forwarded-proto");
  const std::string scheme(to.scheme.empty() ? before : std::string_view(to.scheme));
  std::string host(to.host.empty() ? request_.authority() : std::string_view(to.host));
  if (to.port != 0) {
    host = std::string(withoutPort(host)) + ':' + std::to_string(to.port);
  } else if (to.host.empty() && scheme != before) {
    // The old scheme's port makes no sense with the new one.
    if ((before == "http" && host.ends_with(":80")) ||
        (before == "https" && host.ends_with(":443"))) {
      host = withoutPort(host);
    }
  }
  const std::string location = scheme + "://" + host + path;
  reply({.status = to.status,
         .body = "",
         .flag = std::nullopt,
         .details = "direct_response",
         .location = location,
         .route_headers = true});
}

void Exchange::respondDirectly(const DirectResponse& direct) {
  conn_.stats.rq_direct_response.add();
  std::string formatted;
  if (direct.formatted) {
    record_.local_reply = direct.body;
    record_.response_code = direct.status;
    direct.body_format.append(formatted, record_);
  }
  reply({.status = direct.status,
         .body = direct.formatted ? std::string_view(formatted) : std::string_view(direct.body),
         .flag = std::nullopt,
         .details = "direct_response",
         .content_type = direct.content_type,
         .route_headers = true});
}

void Exchange::forward() {
  if (cluster_ == nullptr) {
    conn_.stats.no_cluster.add();
    return reply({.status = action_->cluster_not_found_status,
                  .body = "",
                  .flag = Flag::kNoClusterFound,
                  .details = "cluster_not_found"});
  }
  conn_.stats.router_rq_total.add();
  retry_.start(action_->retry ? &*action_->retry : nullptr, request_, envoy_headers_);
  timeout_ = routeTimeout();
  if (action_->retry) per_try_timeout_ = action_->retry->per_try_timeout;
  if (envoy_headers_) {
    if (auto per_try = base::parseInteger<std::uint32_t>(
            request_.value("x-envoy-upstream-rq-per-try-timeout-ms"))) {
      per_try_timeout_ = std::chrono::milliseconds(*per_try);
    }
    timeout_is_no_content_ = request_.has("x-envoy-upstream-rq-timeout-alt-response");
    for (const char* used :
         {"x-envoy-upstream-rq-timeout-alt-response", "x-envoy-retry-on", "x-envoy-retry-grpc-on",
          "x-envoy-max-retries", "x-envoy-retriable-status-codes", "x-envoy-upstream-rq-timeout-ms",
          "x-envoy-upstream-rq-per-try-timeout-ms"}) {
      request_.remove(used);
    }
  }
  if (timeout_.count() > 0 && per_try_timeout_ >= timeout_) per_try_timeout_ = {};
  announceTimeout({});
  if (vhost_->attempt_count_in_request) request_.set("x-envoy-attempt-count", "1");
  finalizeRequest();
  record_.at.connect_begin = now();
  tryUpstream();
}

void Exchange::applyRequestOps() {
  const HeaderOps* all[] = {&target_->request, &route_->request, &vhost_->request,
                            &table_->request};
  if (table_->most_specific_wins) std::reverse(std::begin(all), std::end(all));
  for (const HeaderOps* each : all) {
    if (!each->empty()) each->apply(request_, record_);
  }
}

void Exchange::applyResponseOps(HeaderMap& headers) const {
  if (route_ == nullptr) return;
  static const HeaderOps kNone;
  const HeaderOps* all[] = {target_ == nullptr ? &kNone : &target_->response, &route_->response,
                            &vhost_->response, &table_->response};
  if (table_->most_specific_wins) std::reverse(std::begin(all), std::end(all));
  for (const HeaderOps* each : all) {
    if (!each->empty()) each->apply(headers, record_);
  }
}

void Exchange::finalizeRequest() {
  applyRequestOps();
  rewriteHost();
  rewritePath();
}

void Exchange::setHost(std::string_view host) {
  if (host.empty()) return;
  const std::string before(request_.authority());
  if (!config_.suppress_envoy_headers) request_.set("x-envoy-original-host", before);
  if (action_->append_forwarded_host && !before.empty()) {
    std::string list = request_.joined("x-forwarded-host").value_or("");
    // Only what is not the last one already.
    const std::string_view last =
        base::trim(std::string_view(list).substr(list.rfind(',') + 1));  // npos + 1 is 0
    if (last != before) {
      if (!list.empty()) list += ',';
      request_.set("x-forwarded-host", list + before);
    }
  }
  request_.set(":authority", std::string(host));
}

void Exchange::rewriteHost() {
  if (!target_->host_rewrite.empty()) return request_.set(":authority", target_->host_rewrite);
  if (!action_->host_rewrite.empty()) return setHost(action_->host_rewrite);
  if (!action_->host_rewrite_header.empty())
    return setHost(std::string(request_.value(action_->host_rewrite_header)));
  if (action_->host_path_regex != nullptr) {
    setHost(replaceAll(action_->host_path_regex, pathOnly(request_.path()),
                       action_->host_path_substitution));
  }
}

void Exchange::rewritePath() {
  const std::string_view target = request_.path();
  std::string path;
  if (!action_->prefix_rewrite.empty()) {
    path = prefixReplaced(target, action_->prefix_rewrite);
  } else if (action_->path_regex != nullptr) {
    const std::string_view bare = pathOnly(target);
    path = replaceAll(action_->path_regex, bare, action_->path_substitution);
    path += target.substr(bare.size());
  } else {
    return;
  }
  if (!config_.suppress_envoy_headers) request_.set("x-envoy-original-path", std::string(target));
  request_.set(":path", path);
}

}  // namespace postern::proxy
