#include "config/supported.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/udp/udp_proxy/v3/route.pb.h"
#include "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.pb.h"
#include "net/datagram.h"
#include "proxy/config_build.h"
#include "proxy/config_http.h"

#include <google/protobuf/message.h>

namespace postern::proxy {

namespace {

namespace listener = envoy::config::listener::v3;
namespace udp = envoy::extensions::filters::udp::udp_proxy::v3;
using config::joinPath;

/// Changes `out` where a size is given.
base::ConfigResult<void> readDatagramSize(const envoy::config::core::v3::UdpSocketConfig& message,
                                          const std::string& path, std::size_t& out) {
  if (!message.has_max_rx_datagram_size()) return {};
  const auto size = message.max_rx_datagram_size().value();
  if (size == 0 || size > net::kDatagramBytesMax) {
    return base::failConfig(joinPath(path, "max_rx_datagram_size"),
                            "must be between 1 and " + std::to_string(net::kDatagramBytesMax));
  }
  out = size;
  return {};
}

/// The cluster all datagrams go to.
base::ConfigResult<std::string> readUdpRoute(const udp::UdpProxyConfig& message,
                                             const std::string& path) {
  if (message.has_matcher()) {
    const std::string at = joinPath(path, "matcher.on_no_match.action.typed_config");
    POSTERN_TRY(const auto action,
                unpackKnown(message.matcher().on_no_match().action().typed_config(), at));
    const auto* route = google::protobuf::DynamicCastToGenerated<const udp::Route>(action.get());
    if (route == nullptr)
      return base::failConfig(at, action->GetDescriptor()->full_name() + " is not supported");
    if (route->cluster().empty()) return base::failConfig(at + ".cluster", "must not be empty");
    return route->cluster();
  }
  if (message.cluster().empty()) return base::failConfig(joinPath(path, "cluster"), "is required");
  return message.cluster();
}

base::ConfigResult<UdpProxy> readProxy(const udp::UdpProxyConfig& message,
                                       const std::string& path) {
  UdpProxy out;
  out.stat_prefix = message.stat_prefix();
  if (out.stat_prefix.empty())
    return base::failConfig(joinPath(path, "stat_prefix"), "must not be empty");
  POSTERN_TRY(out.cluster, readUdpRoute(message, path));
  if (message.has_idle_timeout()) {
    const std::string at = joinPath(path, "idle_timeout");
    POSTERN_TRY(out.idle_timeout, readDuration(message.idle_timeout(), at));
    if (out.idle_timeout.count() == 0) return base::failConfig(at, "must be at least 1ms");
  }
  POSTERN_TRY_VOID(readDatagramSize(message.upstream_socket_config(),
                                    joinPath(path, "upstream_socket_config"),
                                    out.upstream_datagram_bytes_max));
  out.balances_datagrams = message.use_per_packet_load_balancing();
  POSTERN_TRY(out.logs, buildAccessLogs(message.access_log(), joinPath(path, "access_log")));
  return out;
}

}  // namespace

base::ConfigResult<UdpProxy> readUdpProxy(const listener::Listener& message,
                                          std::string_view path) {
  if (message.filter_chains_size() != 0 || message.has_default_filter_chain()) {
    return base::failConfig(
        joinPath(path, "filter_chains"),
        "error adding listener: " + std::to_string(message.filter_chains_size()) +
            " filter chain(s) specified for connection-less UDP listener.");
  }
  if (message.listener_filters_size() != 1) {
    return base::failConfig(joinPath(path, "listener_filters"),
                            "must hold one UDP proxy for a UDP address");
  }
  const std::string at = joinPath(joinPath(path, "listener_filters", 0), "typed_config");
  POSTERN_TRY(const auto config, unpackKnown(message.listener_filters(0).typed_config(), at));
  const auto* found =
      google::protobuf::DynamicCastToGenerated<const udp::UdpProxyConfig>(config.get());
  if (found == nullptr) {
    return base::failConfig(
        at, config->GetDescriptor()->full_name() + " is not a supported filter of a UDP listener");
  }
  POSTERN_TRY(UdpProxy out, readProxy(*found, at));
  POSTERN_TRY_VOID(readDatagramSize(message.udp_listener_config().downstream_socket_config(),
                                    joinPath(path, "udp_listener_config.downstream_socket_config"),
                                    out.datagram_bytes_max));
  return out;
}

}  // namespace postern::proxy
