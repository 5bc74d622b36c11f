#include "stats/http_stats.h"

namespace postern::stats {

HttpStats::HttpStats(Scope& scope)
    : cx_total(scope.counter("downstream_cx_total")),
      cx_destroy(scope.counter("downstream_cx_destroy")),
      cx_active(scope.gauge("downstream_cx_active")),
      cx_http1_total(scope.counter("downstream_cx_http1_total")),
      cx_http2_total(scope.counter("downstream_cx_http2_total")),
      cx_length_ms(scope.histogram("downstream_cx_length_ms")),
      cx_rx_bytes(scope.counter("downstream_cx_rx_bytes_total")),
      cx_tx_bytes(scope.counter("downstream_cx_tx_bytes_total")),
      cx_protocol_error(scope.counter("downstream_cx_protocol_error")),
      cx_drain_close(scope.counter("downstream_cx_drain_close")),
      cx_overload_disable_keepalive(scope.counter("downstream_cx_overload_disable_keepalive")),
      rq_overload_close(scope.counter("downstream_rq_overload_close")),
      cx_max_duration_reached(scope.counter("downstream_cx_max_duration_reached")),
      cx_max_requests_reached(scope.counter("downstream_cx_max_requests_reached")),
      cx_idle_timeout(scope.counter("downstream_cx_idle_timeout")),
      cx_delayed_close_timeout(scope.counter("downstream_cx_delayed_close_timeout")),
      cx_upgrades_total(scope.counter("downstream_cx_upgrades_total")),
      cx_upgrades_active(scope.gauge("downstream_cx_upgrades_active")),
      rq_total(scope.counter("downstream_rq_total")),
      rq_http1_total(scope.counter("downstream_rq_http1_total")),
      rq_http2_total(scope.counter("downstream_rq_http2_total")),
      rq_active(scope.gauge("downstream_rq_active")),
      rq_completed(scope.counter("downstream_rq_completed")),
      rq_1xx(scope.counter("downstream_rq_1xx")),
      rq_2xx(scope.counter("downstream_rq_2xx")),
      rq_3xx(scope.counter("downstream_rq_3xx")),
      rq_4xx(scope.counter("downstream_rq_4xx")),
      rq_5xx(scope.counter("downstream_rq_5xx")),
      rq_time(scope.histogram("downstream_rq_time")),
      rq_rx_reset(scope.counter("downstream_rq_rx_reset")),
      rq_tx_reset(scope.counter("downstream_rq_tx_reset")),
      rq_idle_timeout(scope.counter("downstream_rq_idle_timeout")),
      rq_timeout(scope.counter("downstream_rq_timeout")),
      rq_header_timeout(scope.counter("downstream_rq_header_timeout")),
      rq_max_duration_reached(scope.counter("downstream_rq_max_duration_reached")),
      rq_rejected_via_ip_detection(scope.counter("downstream_rq_rejected_via_ip_detection")),
      rq_non_relative_path(scope.counter("downstream_rq_non_relative_path")),
      rq_failed_path_normalization(scope.counter("downstream_rq_failed_path_normalization")),
      rq_redirected_with_normalized_path(
          scope.counter("downstream_rq_redirected_with_normalized_path")),
      rq_ws_on_non_ws_route(scope.counter("downstream_rq_ws_on_non_ws_route")),
      rq_response_before_rq_complete(scope.counter("downstream_rq_response_before_rq_complete")),
      no_route(scope.counter("no_route")),
      no_cluster(scope.counter("no_cluster")),
      rq_redirect(scope.counter("rq_redirect")),
      rq_direct_response(scope.counter("rq_direct_response")),
      router_rq_total(scope.counter("rq_total")),
      rq_reset_after_response_started(scope.counter("rq_reset_after_downstream_response_started")),
      fault_delays(scope.counter("fault.delays_injected")),
      fault_aborts(scope.counter("fault.aborts_injected")),
      fault_overflow(scope.counter("fault.faults_overflow")),
      faults_active(scope.gauge("fault.active_faults")),
      cors_valid(scope.counter("cors.origin_valid")),
      cors_invalid(scope.counter("cors.origin_invalid")) {}

void HttpStats::completed(int response_code) {
  rq_completed.add();
  switch (response_code / 100) {
    case 1:
      return rq_1xx.add();
    case 2:
      return rq_2xx.add();
    case 3:
      return rq_3xx.add();
    case 4:
      return rq_4xx.add();
    case 5:
      return rq_5xx.add();
    default:
      return;
  }
}

}  // namespace postern::stats
