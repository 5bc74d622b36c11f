#include "proxy/cluster.h"

#include <algorithm>
#include <string>
#include <utility>

namespace postern::proxy {

ClusterStats::ClusterStats(stats::Scope& s)
    : scope(s),
      upstream_cx_total(s.counter("upstream_cx_total")),
      upstream_cx_http1_total(s.counter("upstream_cx_http1_total")),
      upstream_cx_http2_total(s.counter("upstream_cx_http2_total")),
      upstream_cx_connect_fail(s.counter("upstream_cx_connect_fail")),
      upstream_cx_connect_timeout(s.counter("upstream_cx_connect_timeout")),
      upstream_cx_destroy(s.counter("upstream_cx_destroy")),
      upstream_cx_overflow(s.counter("upstream_cx_overflow")),
      upstream_cx_none_healthy(s.counter("upstream_cx_none_healthy")),
      upstream_cx_rx_bytes_total(s.counter("upstream_cx_rx_bytes_total")),
      upstream_cx_tx_bytes_total(s.counter("upstream_cx_tx_bytes_total")),
      upstream_cx_active(s.gauge("upstream_cx_active")),
      upstream_cx_connect_ms(s.histogram("upstream_cx_connect_ms")),
      upstream_cx_length_ms(s.histogram("upstream_cx_length_ms")),
      upstream_rq_total(s.counter("upstream_rq_total")),
      upstream_rq_pending_total(s.counter("upstream_rq_pending_total")),
      upstream_rq_pending_overflow(s.counter("upstream_rq_pending_overflow")),
      upstream_rq_pending_failure_eject(s.counter("upstream_rq_pending_failure_eject")),
      upstream_rq_cancelled(s.counter("upstream_rq_cancelled")),
      upstream_rq_timeout(s.counter("upstream_rq_timeout")),
      upstream_rq_retry(s.counter("upstream_rq_retry")),
      upstream_rq_retry_success(s.counter("upstream_rq_retry_success")),
      upstream_rq_retry_overflow(s.counter("upstream_rq_retry_overflow")),
      upstream_rq_active(s.gauge("upstream_rq_active")),
      upstream_rq_pending_active(s.gauge("upstream_rq_pending_active")),
      upstream_rq_time(s.histogram("upstream_rq_time")),
      lb_healthy_panic(s.counter("lb_healthy_panic")),
      membership_change(s.counter("membership_change")),
      membership_total(s.gauge("membership_total")),
      membership_healthy(s.gauge("membership_healthy")),
      membership_degraded(s.gauge("membership_degraded")),
      response_codes(s),
      http2(s, "http2.") {}

// ---- circuit breakers ----

namespace {

constexpr std::string_view kPriorityNames[] = {"default", "high"};
constexpr std::string_view kOpenNames[] = {"cx_open", "rq_pending_open", "rq_open",
                                           "rq_retry_open"};
constexpr std::string_view kRemainingNames[] = {"remaining_cx", "remaining_pending", "remaining_rq",
                                                "remaining_retries"};

std::string breakerName(std::size_t priority, std::string_view name) {
  std::string out = "circuit_breakers.";
  out.append(kPriorityNames[priority]).append(".").append(name);
  return out;
}

}  // namespace

/// Makes the gauges of the breakers. They are the same for all workers: what one adds another may
/// take away, the sum is right.
void ClusterState::showBreakers() {
  for (std::size_t p = 0; p < 2; ++p) {
    const auto priority = static_cast<RoutingPriority>(p);
    const bool track = config().breakers[p].track_remaining;
    if (counts_members_) stats_.scope.gauge(breakerName(p, "cx_pool_open")).add(0);
    for (std::size_t r = 0; r < kResourceCount; ++r) {
      const auto resource = static_cast<Resource>(r);
      if (counts_members_) stats_.scope.gauge(breakerName(p, kOpenNames[r])).add(0);
      if (!track) {
        remaining_[p][r] = nullptr;
        continue;
      }
      remaining_[p][r] = &stats_.scope.gauge(breakerName(p, kRemainingNames[r]));
      if (!counts_members_) continue;
      const std::uint32_t before =
          std::exchange(shown_limits_[p][r], fixedLimit(resource, priority));
      remaining_[p][r]->add(std::int64_t{shown_limits_[p][r]} - before);
    }
  }
}

std::atomic<std::uint32_t>& ClusterState::used(Resource resource, RoutingPriority priority) const {
  ClusterUse::Priority& all = entry_.use->priorities[static_cast<int>(priority)];
  switch (resource) {
    case Resource::kConnections:
      return all.connections;
    case Resource::kPending:
      return all.pending;
    case Resource::kRequests:
      return all.requests;
    case Resource::kRetries:
      break;
  }
  return all.retries;
}

std::uint32_t ClusterState::fixedLimit(Resource resource, RoutingPriority priority) const {
  const CircuitBreaker& breaker = config().breakers[static_cast<int>(priority)];
  switch (resource) {
    case Resource::kConnections:
      return breaker.connections_max;
    case Resource::kPending:
      return breaker.pending_max;
    case Resource::kRequests:
      return breaker.requests_max;
    case Resource::kRetries:
      break;
  }
  return breaker.retry_budget ? breaker.retry_budget->concurrency_min : breaker.retries_max;
}

std::uint32_t ClusterState::limit(Resource resource, RoutingPriority priority) const {
  const std::uint32_t fixed = fixedLimit(resource, priority);
  const auto& budget = config().breakers[static_cast<int>(priority)].retry_budget;
  if (resource != Resource::kRetries || !budget) return fixed;
  const std::uint32_t load = used(Resource::kRequests, priority).load(std::memory_order_relaxed) +
                             used(Resource::kPending, priority).load(std::memory_order_relaxed);
  return std::max(fixed, static_cast<std::uint32_t>(budget->percent / 100 * load));
}

bool ClusterState::available(Resource resource, RoutingPriority priority) {
  // The workers may overshoot together, as Envoy's do: a limit is not worth a compare-and-swap
  // loop.
  return used(resource, priority).load(std::memory_order_relaxed) < limit(resource, priority);
}

bool ClusterState::tryTake(Resource resource, RoutingPriority priority) {
  if (!available(resource, priority)) return false;
  take(resource, priority);
  return true;
}

void ClusterState::take(Resource resource, RoutingPriority priority) {
  const auto p = static_cast<std::size_t>(priority);
  const auto r = static_cast<std::size_t>(resource);
  const std::uint32_t before = used(resource, priority).fetch_add(1, std::memory_order_relaxed);
  const std::uint32_t most = limit(resource, priority);
  if (remaining_[p][r] != nullptr && before < fixedLimit(resource, priority))
    remaining_[p][r]->sub();
  std::atomic<bool>& open = entry_.use->priorities[p].open[r];
  if (before + 1 >= most && !open.exchange(true, std::memory_order_relaxed))
    stats_.scope.gauge(breakerName(p, kOpenNames[r])).add();
}

void ClusterState::give(Resource resource, RoutingPriority priority) {
  const auto p = static_cast<std::size_t>(priority);
  const auto r = static_cast<std::size_t>(resource);
  const std::uint32_t before = used(resource, priority).fetch_sub(1, std::memory_order_relaxed);
  if (remaining_[p][r] != nullptr && before <= fixedLimit(resource, priority))
    remaining_[p][r]->add();
  std::atomic<bool>& open = entry_.use->priorities[p].open[r];
  if (open.load(std::memory_order_relaxed) && before - 1 < limit(resource, priority) &&
      open.exchange(false, std::memory_order_relaxed)) {
    stats_.scope.gauge(breakerName(p, kOpenNames[r])).sub();
  }
}

// ---- UpstreamTicket ----

namespace {
double milliseconds(base::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}
}  // namespace

UpstreamTicket::UpstreamTicket(ClusterPtr cluster, HostPtr host, RoutingPriority priority)
    : cluster_(std::move(cluster)),
      host_(std::move(host)),
      priority_(priority),
      started_(cluster_->now()) {
  ClusterStats& stats = cluster_->stats();
  stats.upstream_cx_total.add();
  stats.upstream_cx_active.add();
  ++host_->cx_total;
  ++host_->cx_active;
  cluster_->take(Resource::kConnections, priority_);
}

UpstreamTicket::~UpstreamTicket() {
  ClusterStats& stats = cluster_->stats();
  stats.upstream_cx_active.sub();
  stats.upstream_cx_destroy.add();
  if (connected_) stats.upstream_cx_length_ms.record(milliseconds(cluster_->now() - started_));
  --host_->cx_active;
  cluster_->give(Resource::kConnections, priority_);
}

void UpstreamTicket::connected() {
  connected_ = true;
  cluster_->stats().upstream_cx_connect_ms.record(milliseconds(cluster_->now() - started_));
}

void UpstreamTicket::failed(Failure failure) {
  ++host_->cx_connect_fail;
  cluster_->stats().upstream_cx_connect_fail.add();
  if (failure == Failure::kTimeout) cluster_->stats().upstream_cx_connect_timeout.add();
}

}  // namespace postern::proxy
