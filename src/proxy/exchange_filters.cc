// Fault injection and CORS, the filters between the choice of a route and the router.
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
  std::chrono::milliseconds delay = policy->delay;
  if (policy->delay_by_header) {
    delay = std::chrono::milliseconds(
        base::parseInteger<std::uint32_t>(request_.value("x-envoy-fault-delay-request"))
            .value_or(0));
  }
  if (delay.count() > 0 &&
      hits(policy->delay_share, policy->delay_by_header
                                    ? request_.value("x-envoy-fault-delay-request-percentage")
                                    : std::string_view()) &&
      beginFault(*policy)) {
    conn_.stats.fault_delays.add();
    record_.flags.set(formatter::Flag::kDelayInjected);
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
  if ((status != 0 || grpc_status >= 0) && hits(policy->abort_share, percentage) &&
      beginFault(*policy)) {
    conn_.stats.fault_aborts.add();
    return reply({.status = status == 0 ? 200 : status,
                  .body = "fault filter abort",
                  .flag = formatter::Flag::kFaultInjected,
                  .details = "fault_filter_abort",
                  .grpc_status = grpc_status});
  }
  afterFault();
}

void Exchange::afterFault() {
  if (config_.cors_first || !answerCors()) act();
}

/// False when as many go on as may. A delay and what follows it are one.
bool Exchange::beginFault(const FaultPolicy& policy) {
  if (fault_active_) return true;
  std::atomic<std::uint32_t>& active = *config_.faults_active;
  if (active.fetch_add(1, std::memory_order_relaxed) >= policy.active_max) {
    active.fetch_sub(1, std::memory_order_relaxed);
    conn_.stats.fault_overflow.add();
    return false;
  }
  fault_active_ = true;
  conn_.stats.faults_active.add();
  return true;
}

void Exchange::endFault() {
  config_.faults_active->fetch_sub(1, std::memory_order_relaxed);
  conn_.stats.faults_active.sub();
}

// ---- CORS ----

namespace {

template <class T>
bool says(const T& list) {
  return !list.empty();
}
bool says(const std::optional<bool>& choice) { return choice.has_value(); }

bool allows(const std::vector<StringMatcher>& origins, std::string_view origin) {
  // Who would allow "*" allows everybody.
  return std::any_of(origins.begin(), origins.end(), [&](const StringMatcher& each) {
    return each.matches(origin) || each.matches("*");
  });
}

}  // namespace

/// What the most specific policy that says something of a field says of it.
template <class T>
const T& Exchange::CorsPolicies::merged(T CorsPolicy::* field) const {
  for (std::size_t i = 0; i + 1 < count; ++i) {
    if (says(all[i]->*field)) return all[i]->*field;
  }
  return all[count - 1]->*field;
}

Exchange::CorsPolicies Exchange::corsPolicies() const {
  CorsPolicies out;
  if (config_.cors_name.empty() || action_ == nullptr) return out;  // only of what is forwarded
  for (const PerFilter* place :
       {filtersOf(target_), filtersOf(route_), filtersOf(vhost_), filtersOf(table_)}) {
    const CorsPolicy* found = policyOf(&PerFilter::cors, config_.cors_name, {place});
    if (found != nullptr) out.all[out.count++] = found;
  }
  return out;
}

/// Answers a preflight; true when it did.
bool Exchange::answerCors() {
  const CorsPolicies policies = corsPolicies();
  const std::string_view origin = request_.value("origin");
  if (policies.count == 0 || origin.empty() || !policies.all[0]->enabled.hit(random_)) return false;
  const bool valid = allows(policies.merged(&CorsPolicy::origins), origin);
  (valid ? conn_.stats.cors_valid : conn_.stats.cors_invalid).add();
  if (valid) cors_origin_ = origin;
  const std::string_view wanted = request_.value("access-control-request-method");
  if (request_.method() != "OPTIONS" || wanted.empty()) return false;
  if (!valid && policies.merged(&CorsPolicy::forward_not_matching_preflights).value_or(true))
    return false;
  response_ = HeaderMap{{":status", "200"}};
  if (valid) response_.add("access-control-allow-origin", cors_origin_);
  // What would be allowed is told to everybody, as Envoy does; without an origin it allows nothing.
  if (policies.merged(&CorsPolicy::credentials).value_or(false))
    response_.add("access-control-allow-credentials", "true");
  const std::string& methods = policies.merged(&CorsPolicy::methods);
  const std::string& headers = policies.merged(&CorsPolicy::headers);
  // "*" would not hold for a request with credentials; what was asked for does.
  const std::string_view asked = request_.value("access-control-request-headers");
  if (!methods.empty())
    response_.add("access-control-allow-methods", methods == "*" ? wanted : methods);
  if (!headers.empty())
    response_.add("access-control-allow-headers", headers == "*" ? asked : headers);
  const std::string& max_age = policies.merged(&CorsPolicy::max_age);
  if (!max_age.empty()) response_.add("access-control-max-age", max_age);
  const std::string& exposed = policies.merged(&CorsPolicy::exposed);
  if (valid && !exposed.empty()) response_.add("access-control-expose-headers", exposed);
  record_.details = "cors_response";
  record_.response_code = 200;
  sendResponseHeaders(End::kYes);
  responseComplete();
  return true;
}

void Exchange::addCors(HeaderMap& headers) const {
  if (cors_origin_.empty()) return;
  const CorsPolicies policies = corsPolicies();
  headers.set("access-control-allow-origin", cors_origin_);
  if (policies.merged(&CorsPolicy::credentials).value_or(false))
    headers.set("access-control-allow-credentials", "true");
  const std::string& exposed = policies.merged(&CorsPolicy::exposed);
  if (!exposed.empty()) headers.set("access-control-expose-headers", exposed);
}

}  // namespace postern::proxy
