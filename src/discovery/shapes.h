// Building blocks of Envoy configuration shared by the generators. Internal to this folder;
// includes nlohmann.
#pragma once

#include "discovery/generate.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace postern::discovery::shapes {

using json::Json;

inline constexpr const char* kPassthrough = "PassthroughCluster";
inline constexpr const char* kBlackHole = "BlackHoleCluster";
inline constexpr const char* kInboundPassthrough = "InboundPassthroughCluster";

std::string clusterName(const model::Destination& to, std::uint32_t port);
std::string outboundName(std::uint32_t port, std::string_view subset, std::string_view host);
std::string inboundName(std::uint32_t port);

/// {"@type": …, fields}
Json typed(std::string_view type, Json fields);
Json named(std::string_view name, std::string_view type, Json fields);
Json socketAddress(std::string_view ip, std::uint32_t port);
Json adsSource();
Json httpInspector();
Json tlsInspector();
/// The file access log of the mesh settings; an empty array when it is off.
Json accessLog(const model::MeshSettings& mesh);
Json tcpProxy(std::string_view stat_prefix, std::string_view cluster, const Json& access_log);
/// A TCP proxy over a rule's destinations.
Json tcpProxyTo(std::string_view stat_prefix,
                const std::vector<model::WeightedDestination>& destinations, std::uint32_t port,
                const Json& access_log);

enum class Side : unsigned char { kOutbound, kInbound, kGateway };
/// The HTTP connection manager as a network filter; `routes` is {"rds": …} or {"route_config": …}.
Json httpManager(Side side, std::string_view stat_prefix, const Json& routes,
                 const Json& access_log);
Json rds(std::string_view name);
Json chain(std::string_view name, Json match, Json filters);
/// The one outbound route without any VirtualService.
Json defaultRoute(std::string_view cluster, std::string_view operation);
Json defaultRetryPolicy();

}  // namespace postern::discovery::shapes
