#include "config/supported.h"
#include "envoy/config/core/v3/backoff.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "proxy/config_build.h"
#include "proxy/config_http.h"

namespace postern::proxy {

namespace {

namespace tcp = envoy::extensions::filters::network::tcp_proxy::v3;
using config::joinPath;

base::ConfigResult<void> readBackoff(const envoy::config::core::v3::BackoffStrategy& message,
                                     const std::string& path, TcpProxy& out) {
  POSTERN_TRY(out.backoff_base,
              readDuration(message.base_interval(), joinPath(path, "base_interval")));
  if (out.backoff_base.count() == 0)
    return base::failConfig(joinPath(path, "base_interval"), "must be at least 1ms");
  out.backoff_max = out.backoff_base * 10;
  if (!message.has_max_interval()) return {};
  POSTERN_TRY(out.backoff_max,
              readDuration(message.max_interval(), joinPath(path, "max_interval")));
  if (out.backoff_max < out.backoff_base) {
    return base::failConfig(joinPath(path, "max_interval"),
                            "must be greater than or equal to the base_interval");
  }
  return {};
}

/// When the connection to the cluster is made, and again.
base::ConfigResult<void> readConnecting(const tcp::TcpProxy& message, std::string_view path,
                                        TcpProxy& out) {
  if (message.has_backoff_options()) {
    POSTERN_TRY_VOID(
        readBackoff(message.backoff_options(), joinPath(path, "backoff_options"), out));
  }
  if (message.has_max_early_data_bytes())
    out.early_bytes_max = message.max_early_data_bytes().value();
  switch (message.upstream_connect_mode()) {
    case tcp::IMMEDIATE:
      return {};
    case tcp::ON_DOWNSTREAM_DATA:
      out.connect_mode = ConnectMode::kOnData;
      break;
    default:
      return base::failConfig(joinPath(path, "upstream_connect_mode"),
                              "must be IMMEDIATE or ON_DOWNSTREAM_DATA");
  }
  if (out.early_bytes_max == 0) {
    return base::failConfig(joinPath(path, "max_early_data_bytes"),
                            "must be set when upstream_connect_mode is ON_DOWNSTREAM_DATA");
  }
  return {};
}

}  // namespace

base::ConfigResult<TcpProxy> buildTcpProxy(const tcp::TcpProxy& message, std::string_view path) {
  TcpProxy out;
  out.stat_prefix = message.stat_prefix();
  if (out.stat_prefix.empty())
    return base::failConfig(joinPath(path, "stat_prefix"), "must not be empty");
  if (message.has_weighted_clusters()) {
    const std::string at = joinPath(path, "weighted_clusters");
    for (int i = 0; i < message.weighted_clusters().clusters_size(); ++i) {
      const auto& each = message.weighted_clusters().clusters(i);
      const std::string item = joinPath(at, "clusters", i);
      if (each.name().empty()) return base::failConfig(item + ".name", "must not be empty");
      if (each.weight() == 0) return base::failConfig(item + ".weight", "must be at least 1");
      WeightedCluster cluster;
      cluster.name = each.name();
      cluster.weight = each.weight();
      out.clusters.push_back(std::move(cluster));
    }
    if (out.clusters.empty())
      return base::failConfig(joinPath(at, "clusters"), "must not be empty");
  } else {
    if (message.cluster().empty())
      return base::failConfig(joinPath(path, "cluster"), "is required");
    WeightedCluster cluster;
    cluster.name = message.cluster();
    out.clusters.push_back(std::move(cluster));
  }
  if (message.has_idle_timeout()) {
    POSTERN_TRY(out.idle_timeout,
                readDuration(message.idle_timeout(), joinPath(path, "idle_timeout")));
  }
  if (message.has_max_downstream_connection_duration()) {
    const std::string at = joinPath(path, "max_downstream_connection_duration");
    POSTERN_TRY(out.duration_max, readDuration(message.max_downstream_connection_duration(), at));
    if (out.duration_max.count() == 0) return base::failConfig(at, "must be at least 1ms");
  }
  if (message.has_max_downstream_connection_duration_jitter_percentage()) {
    out.duration_jitter_percent =
        message.max_downstream_connection_duration_jitter_percentage().value();
    if (!(out.duration_jitter_percent >= 0 && out.duration_jitter_percent <= 100)) {
      return base::failConfig(
          joinPath(path, "max_downstream_connection_duration_jitter_percentage.value"),
          "must be between 0 and 100");
    }
  }
  POSTERN_TRY_VOID(readConnecting(message, path, out));
  if (message.has_max_connect_attempts()) {
    out.connect_attempts_max = message.max_connect_attempts().value();
    if (out.connect_attempts_max == 0)
      return base::failConfig(joinPath(path, "max_connect_attempts"), "must be at least 1");
  }
  POSTERN_TRY(out.logs, buildAccessLogs(message.access_log(), joinPath(path, "access_log")));
  return out;
}

}  // namespace postern::proxy
