// What both ends of xDS share: the method name, type URLs in push order, and who a proxy is.
#pragma once

#include "api/message.h"

#include <array>
#include <string>
#include <string_view>

namespace postern::xds {

inline constexpr std::string_view kDeltaMethod =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
inline constexpr std::string_view kStreamMethod =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// Clusters before the endpoints they need, listeners before the routes they need.
inline constexpr std::array<std::string_view, 4> kPushOrder = {
    api::kClusterType, api::kEndpointType, api::kListenerType, api::kRouteType};

/// Types whose resources are all wanted when a subscription names none.
inline bool isWildcardType(std::string_view type_url) {
  return type_url == api::kClusterType || type_url == api::kListenerType;
}

struct NodeInfo {
  std::string id;
  std::string cluster;
  std::string region;
  std::string zone;
  std::string sub_zone;
  std::string metadata_json = "{}";
};

}  // namespace postern::xds
