#include "proxy/cluster.h"

#include <algorithm>

namespace postern::proxy {

ClusterStats::ClusterStats(StatsScope& s)
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
      response_codes(s) {}

std::atomic<std::uint32_t>& ClusterState::used(Resource resource, RoutingPriority priority) {
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

std::uint32_t ClusterState::limit(Resource resource, RoutingPriority priority) const {
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
  return breaker.retries_max;
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
  used(resource, priority).fetch_add(1, std::memory_order_relaxed);
}

void ClusterState::give(Resource resource, RoutingPriority priority) {
  used(resource, priority).fetch_sub(1, std::memory_order_relaxed);
}

// ---- UpstreamTicket ----

namespace {
double milliseconds(base::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}
}  // namespace

UpstreamTicket::UpstreamTicket(ClusterState& cluster, HostPtr host)
    : cluster_(cluster), host_(std::move(host)), started_(cluster.now()) {
  ClusterStats& stats = cluster_.stats();
  stats.upstream_cx_total.add();
  stats.upstream_cx_active.add();
  ++host_->cx_total;
  ++host_->cx_active;
  cluster_.take(Resource::kConnections);
}

UpstreamTicket::~UpstreamTicket() {
  ClusterStats& stats = cluster_.stats();
  stats.upstream_cx_active.sub();
  stats.upstream_cx_destroy.add();
  if (connected_) stats.upstream_cx_length_ms.record(milliseconds(cluster_.now() - started_));
  --host_->cx_active;
  cluster_.give(Resource::kConnections);
}

void UpstreamTicket::connected() {
  connected_ = true;
  cluster_.stats().upstream_cx_connect_ms.record(milliseconds(cluster_.now() - started_));
}

void UpstreamTicket::failed(Failure failure) {
  ++host_->cx_connect_fail;
  cluster_.stats().upstream_cx_connect_fail.add();
  if (failure == Failure::kTimeout) cluster_.stats().upstream_cx_connect_timeout.add();
}

}  // namespace postern::proxy
