// The statistics of one connection manager in one worker, resolved once. Envoy's names.
#pragma once

#include "stats/stats.h"

namespace postern::stats {

struct HttpStats {
  explicit HttpStats(Scope& scope);
  /// Counts a finished request by the class of its answer.
  void completed(int response_code);

  Counter& cx_total;
  Counter& cx_destroy;
  Gauge& cx_active;
  Counter& cx_http1_total;
  Counter& cx_http2_total;
  Histogram& cx_length_ms;
  Counter& cx_rx_bytes;  // with the end of an exchange or of the connection
  Counter& cx_tx_bytes;
  Counter& cx_protocol_error;
  Counter& cx_drain_close;
  Counter& cx_overload_disable_keepalive;
  Counter& rq_overload_close;
  Counter& cx_max_duration_reached;
  Counter& cx_max_requests_reached;
  Counter& cx_idle_timeout;
  Counter& cx_delayed_close_timeout;
  Counter& cx_upgrades_total;
  Gauge& cx_upgrades_active;
  Counter& rq_total;
  Counter& rq_http1_total;
  Counter& rq_http2_total;
  Gauge& rq_active;
  Counter& rq_completed;
  Counter& rq_1xx;
  Counter& rq_2xx;
  Counter& rq_3xx;
  Counter& rq_4xx;
  Counter& rq_5xx;
  Histogram& rq_time;
  Counter& rq_rx_reset;
  Counter& rq_tx_reset;
  Counter& rq_idle_timeout;
  Counter& rq_timeout;
  Counter& rq_header_timeout;
  Counter& rq_max_duration_reached;
  Counter& rq_rejected_via_ip_detection;
  Counter& rq_non_relative_path;
  Counter& rq_failed_path_normalization;
  Counter& rq_redirected_with_normalized_path;
  Counter& rq_ws_on_non_ws_route;
  Counter& rq_response_before_rq_complete;
  Counter& no_route;
  Counter& no_cluster;
  Counter& rq_redirect;
  Counter& rq_direct_response;
  Counter& router_rq_total;
  Counter& rq_reset_after_response_started;
  Counter& fault_delays;
  Counter& fault_aborts;
  Counter& fault_overflow;
  Gauge& faults_active;
  Counter& cors_valid;
  Counter& cors_invalid;
};

}  // namespace postern::stats
