#include "api/message.h"
#include "base/strings.h"
#include "config/supported.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/network/connection_limit/v3/connection_limit.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "proxy/config_build.h"
#include "proxy/config_http.h"
#include "proxy/filter_chain_match.h"
#include "proxy/honoured_fields.h"
#include "proxy/proto_fields.h"
#include "proxy/tls_socket.h"
#include "stats/stats.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
namespace listener = envoy::config::listener::v3;
namespace filters = envoy::extensions::filters;
using config::joinPath;

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
    const bool wildcard = name.starts_with("*.");
    if (name.find('*', wildcard ? 1 : 0) != std::string::npos) {
      return base::failConfig(joinPath(path, "server_names", i),
                              "partial wildcards are not supported in \"server_names\"");
    }
    if (name.empty())
      return base::failConfig(joinPath(path, "server_names", i), "must not be empty");
    out.server_names.push_back(base::toLower(name));
  }
  return {};
}

base::ConfigResult<FilterChainMatch> readChainMatch(const listener::FilterChainMatch& message,
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

base::ConfigResult<ConnectionLimitFilter> readConnectionLimit(
    const filters::network::connection_limit::v3::ConnectionLimit& message,
    const std::string& path) {
  ConnectionLimitFilter out;
  if (message.stat_prefix().empty())
    return base::failConfig(joinPath(path, "stat_prefix"), "must not be empty");
  out.stat_scope = "connection_limit." + message.stat_prefix() + ".";
  out.max = message.max_connections().value();
  if (out.max == 0)
    return base::failConfig(joinPath(path, "max_connections"), "must be at least 1");
  POSTERN_TRY(out.delay, readDuration(message.delay(), joinPath(path, "delay")));
  return out;
}

/// The filters of a chain: sni_cluster and connection limits, then one that ends the chain.
base::ConfigResult<void> readNetworkFilters(const listener::FilterChain& message,
                                            const std::string& path, FilterChain& out) {
  bool from_sni = false;
  for (int i = 0; i < message.filters_size(); ++i) {
    const std::string at = joinPath(path, "filters", i);
    const std::string inner = joinPath(at, "typed_config");
    const bool last = i + 1 == message.filters_size();
    POSTERN_TRY(const auto config, unpackKnown(message.filters(i).typed_config(), inner));
    if (as<filters::network::sni_cluster::v3::SniCluster>(*config) != nullptr && !last) {
      from_sni = true;
      continue;
    }
    if (const auto* limit = as<filters::network::connection_limit::v3::ConnectionLimit>(*config);
        limit != nullptr && !last) {
      POSTERN_TRY(auto read, readConnectionLimit(*limit, inner));
      out.limits.push_back(std::move(read));
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
    const listener::FilterChain& message, const std::string& path, const Listener& owner) {
  auto out = std::make_shared<FilterChain>();
  out->name = message.name();
  out->fingerprint = api::serialize(message) + std::to_string(owner.buffer_bytes_max);
  POSTERN_TRY(out->match,
              readChainMatch(message.filter_chain_match(), joinPath(path, "filter_chain_match")));
  out->match_key = api::serialize(message.filter_chain_match());
  if (message.has_transport_socket()) {
    POSTERN_TRY(out->tls,
                readDownstreamSocket(message.transport_socket(), joinPath(path, "transport_socket"),
                                     out->match.server_names));
  }
  if (message.has_transport_socket_connect_timeout()) {
    POSTERN_TRY(out->handshake_timeout,
                readDuration(message.transport_socket_connect_timeout(),
                             joinPath(path, "transport_socket_connect_timeout")));
  }
  POSTERN_TRY_VOID(readNetworkFilters(message, path, *out));
  if (auto* http = std::get_if<HttpManager>(&out->filter))
    http::limitUnsent(http->limits, owner.buffer_bytes_max);
  return std::shared_ptr<const FilterChain>(std::move(out));
}

/// No connection may have two chains to choose from.
base::ConfigResult<void> checkDistinct(const Listener& out, const std::string& path) {
  const auto fail = [&](std::size_t at, const std::string& why) {
    return base::failConfig(
        joinPath(joinPath(path, "filter_chains", static_cast<int>(at)), "filter_chain_match"),
        "error adding listener '" + out.address.toString() + "': " + why);
  };
  std::map<std::string_view, std::size_t> keys;
  std::multimap<std::optional<std::uint16_t>, std::size_t> by_port;  // fewer pairs to compare
  for (std::size_t i = 0; i < out.chains.size(); ++i) {
    const FilterChain& chain = *out.chains[i];
    const auto [same, added] = keys.try_emplace(chain.match_key, i);
    if (!added) {
      return fail(i, "filter chain '" + chain.name + "' has the same matching rules defined as '" +
                         out.chains[same->second]->name + "'");
    }
    const auto [begin, end] = by_port.equal_range(chain.match.destination_port);
    for (auto it = begin; it != end; ++it) {
      if (overlap(chain.match, out.chains[it->second]->match))
        return fail(i, "multiple filter chains with overlapping matching rules are defined");
    }
    by_port.emplace(chain.match.destination_port, i);
  }
  return {};
}

base::ConfigResult<void> readChains(const listener::Listener& message, const std::string& path,
                                    Listener& out) {
  std::set<std::string> names;
  for (int i = 0; i < message.filter_chains_size(); ++i) {
    const std::string at = joinPath(path, "filter_chains", i);
    POSTERN_TRY(auto chain, readChain(message.filter_chains(i), at, out));
    out.chains.push_back(std::move(chain));
  }
  POSTERN_TRY_VOID(checkDistinct(out, path));
  if (message.has_default_filter_chain()) {
    POSTERN_TRY(out.fallback, readChain(message.default_filter_chain(),
                                        joinPath(path, "default_filter_chain"), out));
  }
  if (out.chains.empty() && out.fallback == nullptr)
    return base::failConfig(
        joinPath(path, "filter_chains"),
        "error adding listener '" + out.address.toString() + "': no filter chains specified");
  const auto collect = [&](const FilterChain& chain) {
    const auto* http = std::get_if<HttpManager>(&chain.filter);
    if (http == nullptr || http->rds_name.empty()) return;
    out.routes_timeout = std::max(out.routes_timeout, http->rds_timeout);
    if (names.insert(http->rds_name).second) out.route_names.push_back(http->rds_name);
  };
  for (const auto& chain : out.chains) collect(*chain);
  if (out.fallback != nullptr) collect(*out.fallback);
  return {};
}

}  // namespace

base::ConfigResult<std::shared_ptr<const Listener>> buildListener(const listener::Listener& message,
                                                                  std::string_view path_view) {
  const std::string path(path_view);
  POSTERN_TRY_VOID(checkHonoured(message, path, Door::kListener));
  auto out = std::make_shared<Listener>();
  POSTERN_TRY_VOID(readListenerSockets(message, path, *out));
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
  out->bypass_overload = message.bypass_overload_manager();
  if (out->udp) {
    POSTERN_TRY(out->logs, buildAccessLogs(message.access_log(), joinPath(path, "access_log")));
    return std::shared_ptr<const Listener>(std::move(out));
  }
  out->use_original_dst = message.use_original_dst().value();
  POSTERN_TRY_VOID(readListenerFilters(message, path, *out));
  if (message.has_listener_filters_timeout()) {
    POSTERN_TRY(out->filters_timeout, readDuration(message.listener_filters_timeout(),
                                                   joinPath(path, "listener_filters_timeout")));
  }
  out->continue_on_timeout = message.continue_on_listener_filters_timeout();
  // 0: no limit, but for those that hold without the field.
  if (message.per_connection_buffer_limit_bytes().value() != 0)
    out->buffer_bytes_max = message.per_connection_buffer_limit_bytes().value();
  POSTERN_TRY(out->logs, buildAccessLogs(message.access_log(), joinPath(path, "access_log")));
  POSTERN_TRY_VOID(readChains(message, path, *out));
  return std::shared_ptr<const Listener>(std::move(out));
}

}  // namespace postern::proxy
