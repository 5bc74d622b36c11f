#include "api/message.h"
#include "base/strings.h"
#include "config/supported.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb.h"
#include "proxy/config_build.h"
#include "proxy/config_http.h"
#include "proxy/stats.h"

#include <google/protobuf/message.h>

#include <limits>
#include <map>
#include <set>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
namespace listener = envoy::config::listener::v3;
namespace filters = envoy::extensions::filters;
using config::joinPath;

template <class T>
const T* as(const google::protobuf::Message& message) {
  return google::protobuf::DynamicCastToGenerated<const T>(&message);
}

base::ConfigResult<void> readRanges(
    const google::protobuf::RepeatedPtrField<core::CidrRange>& messages, const std::string& path,
    std::vector<net::Cidr>& out) {
  for (int i = 0; i < messages.size(); ++i) {
    const auto range =
        net::Cidr::make(messages[i].address_prefix(), messages[i].prefix_len().value());
    if (!range) {
      return base::failConfig(path + "[" + std::to_string(i) + "]",
                              "is not a range: " + messages[i].address_prefix() + "/" +
                                  std::to_string(messages[i].prefix_len().value()));
    }
    out.push_back(*range);
  }
  return {};
}

base::ConfigResult<std::uint16_t> readPort(std::uint32_t port, const std::string& path) {
  if (port == 0 || port > std::numeric_limits<std::uint16_t>::max())
    return base::failConfig(path, "must be between 1 and 65535");
  return static_cast<std::uint16_t>(port);
}

base::ConfigResult<void> readServerNames(const listener::FilterChainMatch& message,
                                         const std::string& path, FilterChainMatch& out) {
  for (int i = 0; i < message.server_names_size(); ++i) {
    const std::string& name = message.server_names(i);
    if (name == "*") continue;  // any name, also none: as if nothing were given
    if (name.find('*', 1) != std::string::npos || (name.starts_with('*') && name.size() < 3) ||
        (name.starts_with('*') && name[1] != '.') || name.empty()) {
      return base::failConfig(joinPath(path, "server_names", i),
                              "must be a name, or a name after \"*.\"");
    }
    out.server_names.push_back(base::toLower(name));
  }
  return {};
}

base::ConfigResult<FilterChainMatch> readMatch(const listener::FilterChainMatch& message,
                                               const std::string& path) {
  FilterChainMatch out;
  if (message.has_destination_port()) {
    POSTERN_TRY(out.destination_port,
                readPort(message.destination_port().value(), joinPath(path, "destination_port")));
  }
  POSTERN_TRY_VOID(
      readRanges(message.prefix_ranges(), joinPath(path, "prefix_ranges"), out.prefixes));
  POSTERN_TRY_VOID(readServerNames(message, path, out));
  out.transport_protocol = message.transport_protocol();
  out.application_protocols.assign(message.application_protocols().begin(),
                                   message.application_protocols().end());
  POSTERN_TRY_VOID(readRanges(message.direct_source_prefix_ranges(),
                              joinPath(path, "direct_source_prefix_ranges"), out.direct_sources));
  switch (message.source_type()) {
    case listener::FilterChainMatch::ANY:
      break;
    case listener::FilterChainMatch::SAME_IP_OR_LOOPBACK:
      out.source_type = SourceType::kSameIpOrLoopback;
      break;
    case listener::FilterChainMatch::EXTERNAL:
      out.source_type = SourceType::kExternal;
      break;
    default:
      return base::failConfig(joinPath(path, "source_type"), "is not a known type");
  }
  POSTERN_TRY_VOID(readRanges(message.source_prefix_ranges(),
                              joinPath(path, "source_prefix_ranges"), out.sources));
  for (int i = 0; i < message.source_ports_size(); ++i) {
    POSTERN_TRY(const std::uint16_t port,
                readPort(message.source_ports(i), joinPath(path, "source_ports", i)));
    out.source_ports.push_back(port);
  }
  return out;
}

/// The filters of a chain: at most one sni_cluster, then one that ends the chain.
base::ConfigResult<void> readFilters(const listener::FilterChain& message, const std::string& path,
                                     FilterChain& out) {
  bool from_sni = false;
  for (int i = 0; i < message.filters_size(); ++i) {
    const std::string at = joinPath(path, "filters", i);
    const std::string inner = joinPath(at, "typed_config");
    const bool last = i + 1 == message.filters_size();
    POSTERN_TRY(const auto config, unpackKnown(message.filters(i).typed_config(), inner));
    if (as<filters::network::sni_cluster::v3::SniCluster>(*config) != nullptr && !last) {
      POSTERN_TRY_VOID(checkSupported(*config, inner));
      from_sni = true;
      continue;
    }
    if (!last) return base::failConfig(at, "ends the chain, it must be its last filter");
    if (const auto* tcp = as<filters::network::tcp_proxy::v3::TcpProxy>(*config)) {
      POSTERN_TRY(TcpProxy read, buildTcpProxy(*tcp, inner));
      read.cluster_from_sni = from_sni;
      out.filter = std::move(read);
    } else if (const auto* http =
                   as<filters::network::http_connection_manager::v3::HttpConnectionManager>(
                       *config)) {
      POSTERN_TRY(HttpManager read, buildHttpManager(*http, inner));
      out.filter = std::move(read);
    } else {
      return base::failConfig(
          inner, config->GetDescriptor()->full_name() + " is not a supported network filter");
    }
  }
  if (message.filters_size() == 0)
    return base::failConfig(joinPath(path, "filters"), "must not be empty");
  return {};
}

base::ConfigResult<std::shared_ptr<const FilterChain>> readChain(
    const listener::FilterChain& message, const std::string& path) {
  auto out = std::make_shared<FilterChain>();
  out->name = message.name();
  out->fingerprint = api::serialize(message);
  if (message.has_transport_socket()) {
    envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer raw;
    if (!api::unpack(message.transport_socket().typed_config(), raw)) {
      return base::failConfig(joinPath(path, "transport_socket.typed_config"),
                              "only RawBuffer is supported");
    }
  }
  POSTERN_TRY(out->match,
              readMatch(message.filter_chain_match(), joinPath(path, "filter_chain_match")));
  out->match_key = api::serialize(message.filter_chain_match());
  POSTERN_TRY_VOID(readFilters(message, path, *out));
  return std::shared_ptr<const FilterChain>(std::move(out));
}

base::ConfigResult<void> readChains(const listener::Listener& message, const std::string& path,
                                    Listener& out) {
  std::map<std::string, int> matches;
  std::set<std::string> names;
  for (int i = 0; i < message.filter_chains_size(); ++i) {
    const std::string at = joinPath(path, "filter_chains", i);
    POSTERN_TRY(auto chain, readChain(message.filter_chains(i), at));
    const auto [same, added] = matches.try_emplace(chain->match_key, i);
    if (!added) {
      return base::failConfig(
          joinPath(at, "filter_chain_match"),
          "is the same as that of filter_chains[" + std::to_string(same->second) + "]");
    }
    out.chains.push_back(std::move(chain));
  }
  if (message.has_default_filter_chain()) {
    POSTERN_TRY(out.fallback,
                readChain(message.default_filter_chain(), joinPath(path, "default_filter_chain")));
  }
  if (out.chains.empty() && out.fallback == nullptr)
    return base::failConfig(joinPath(path, "filter_chains"), "must not be empty");
  const auto collect = [&](const FilterChain& chain) {
    const auto* http = std::get_if<HttpManager>(&chain.filter);
    if (http != nullptr && !http->rds_name.empty() && names.insert(http->rds_name).second)
      out.route_names.push_back(http->rds_name);
  };
  for (const auto& chain : out.chains) collect(*chain);
  if (out.fallback != nullptr) collect(*out.fallback);
  return {};
}

base::ConfigResult<void> readListenerFilters(const listener::Listener& message,
                                             const std::string& path, Listener& out) {
  for (int i = 0; i < message.listener_filters_size(); ++i) {
    const std::string at = joinPath(joinPath(path, "listener_filters", i), "typed_config");
    POSTERN_TRY(const auto config, unpackKnown(message.listener_filters(i).typed_config(), at));
    POSTERN_TRY_VOID(checkSupported(*config, at));
    if (as<filters::listener::original_dst::v3::OriginalDst>(*config) != nullptr) {
      out.filters.push_back(ListenerFilter::kOriginalDst);
    } else if (as<filters::listener::http_inspector::v3::HttpInspector>(*config) != nullptr) {
      out.filters.push_back(ListenerFilter::kHttpInspector);
    } else if (const auto* tls = as<filters::listener::tls_inspector::v3::TlsInspector>(*config)) {
      out.filters.push_back(ListenerFilter::kTlsInspector);
      if (tls->has_max_client_hello_size()) {
        const auto size = tls->max_client_hello_size().value();
        if (size == 0 || size > 16 * 1024) {
          return base::failConfig(joinPath(at, "max_client_hello_size"),
                                  "must be between 1 and 16384");
        }
        out.client_hello_bytes_max = size;
      }
    } else {
      return base::failConfig(
          at, config->GetDescriptor()->full_name() + " is not a supported listener filter");
    }
  }
  // use_original_dst means nothing without the filter that finds the original destination.
  const bool has = !out.filters.empty() && out.filters.front() == ListenerFilter::kOriginalDst;
  if (out.use_original_dst && !has)
    out.filters.insert(out.filters.begin(), ListenerFilter::kOriginalDst);
  return {};
}

base::ConfigResult<void> readSocket(const listener::Listener& message, const std::string& path,
                                    Listener& out) {
  const std::string at = joinPath(path, "address");
  POSTERN_TRY(out.address, readAddress(message.address(), at));
  if (message.address().has_pipe()) {
    out.unix_mode = message.address().pipe().mode();
    if (out.unix_mode > 0777) return base::failConfig(joinPath(at, "pipe.mode"), "is not a mode");
  }
  if (message.has_deprecated_v1() && message.deprecated_v1().has_bind_to_port())
    out.bind = message.deprecated_v1().bind_to_port().value();
  if (message.has_bind_to_port()) out.bind = message.bind_to_port().value();
  if (message.has_enable_reuse_port()) out.reuse_port = message.enable_reuse_port().value();
  out.transparent = message.transparent().value();
  out.freebind = message.freebind().value();
  out.ignore_connection_limit = message.ignore_global_conn_limit();
  if (message.has_tcp_backlog_size()) {
    constexpr std::uint32_t kBacklogMax = 1 << 20;
    out.backlog = static_cast<int>(std::min(message.tcp_backlog_size().value(), kBacklogMax));
  }
  out.stat_name =
      statName(message.stat_prefix().empty() ? out.address.toString() : message.stat_prefix());
  return {};
}

}  // namespace

base::ConfigResult<TcpProxy> buildTcpProxy(const filters::network::tcp_proxy::v3::TcpProxy& message,
                                           std::string_view path) {
  POSTERN_TRY_VOID(checkSupported(message, path));
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
  if (message.has_max_connect_attempts()) {
    out.connect_attempts_max = message.max_connect_attempts().value();
    if (out.connect_attempts_max == 0)
      return base::failConfig(joinPath(path, "max_connect_attempts"), "must be at least 1");
  }
  POSTERN_TRY(out.logs, buildAccessLogs(message.access_log(), joinPath(path, "access_log")));
  return out;
}

base::ConfigResult<std::shared_ptr<const Listener>> buildListener(const listener::Listener& message,
                                                                  std::string_view path_view) {
  const std::string path(path_view);
  POSTERN_TRY_VOID(checkSupported(message, path));
  auto out = std::make_shared<Listener>();
  POSTERN_TRY_VOID(readSocket(message, path, *out));
  out->name = message.name().empty() ? out->address.toString() : message.name();
  switch (message.traffic_direction()) {
    case core::UNSPECIFIED:
      break;
    case core::INBOUND:
      out->direction = TrafficDirection::kInbound;
      break;
    case core::OUTBOUND:
      out->direction = TrafficDirection::kOutbound;
      break;
    default:
      return base::failConfig(joinPath(path, "traffic_direction"), "is not a known direction");
  }
  out->use_original_dst = message.use_original_dst().value();
  POSTERN_TRY_VOID(readListenerFilters(message, path, *out));
  if (message.has_listener_filters_timeout()) {
    POSTERN_TRY(out->filters_timeout, readDuration(message.listener_filters_timeout(),
                                                   joinPath(path, "listener_filters_timeout")));
  }
  out->continue_on_timeout = message.continue_on_listener_filters_timeout();
  if (message.has_per_connection_buffer_limit_bytes())
    out->buffer_bytes_max = message.per_connection_buffer_limit_bytes().value();
  POSTERN_TRY(out->logs, buildAccessLogs(message.access_log(), joinPath(path, "access_log")));
  POSTERN_TRY_VOID(readChains(message, path, *out));
  return std::shared_ptr<const Listener>(std::move(out));
}

}  // namespace postern::proxy
