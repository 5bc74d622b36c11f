#include "proxy/bootstrap.h"

#include "api/message.h"
#include "base/strings.h"
#include "config/supported.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "proxy/config_build.h"
#include "proxy/config_matchers.h"
#include "proxy/honoured_fields.h"
#include "proxy/proto_fields.h"

#include <google/protobuf/struct.pb.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace postern::proxy {

namespace {

namespace boot = envoy::config::bootstrap::v3;
namespace core = envoy::config::core::v3;
using config::joinPath;

/// Runtime keys that mean something here; others are kept by nobody, as in Envoy.
void readRuntime(const std::string& prefix, const google::protobuf::Struct& layer,
                 BootstrapValues& out) {
  constexpr std::string_view kListenerPrefix = "envoy.resource_limits.listener.";
  constexpr std::string_view kListenerSuffix = ".connection_limit";
  for (const auto& [name, value] : layer.fields()) {
    const std::string key = prefix.empty() ? name : prefix + "." + name;
    if (value.has_struct_value()) {
      readRuntime(key, value.struct_value(), out);
      continue;
    }
    double number = value.number_value();
    if (value.kind_case() == google::protobuf::Value::kStringValue) {
      number =
          static_cast<double>(base::parseInteger<std::uint64_t>(value.string_value()).value_or(0));
    }
    if (!(number > 0) || number > 1e15) continue;
    const auto limit = static_cast<std::uint64_t>(number);
    if (key == "overload.global_downstream_max_connections") out.connections_max = limit;
    if (key.starts_with(kListenerPrefix) && key.ends_with(kListenerSuffix) &&
        key.size() > kListenerPrefix.size() + kListenerSuffix.size()) {
      out.connection_limits[key.substr(kListenerPrefix.size(), key.size() - kListenerPrefix.size() -
                                                                   kListenerSuffix.size())] = limit;
    }
  }
}

base::ConfigResult<AdsSource> readAds(const core::ApiConfigSource& message,
                                      const std::string& path) {
  AdsSource out;
  switch (message.api_type()) {
    case core::ApiConfigSource::GRPC:
      out.client.variant = xds::Client::Variant::kStateOfTheWorld;
      break;
    case core::ApiConfigSource::DELTA_GRPC:
      out.client.variant = xds::Client::Variant::kDelta;
      break;
    default:
      return base::failConfig(joinPath(path, "api_type"), "must be GRPC or DELTA_GRPC");
  }
  if (message.transport_api_version() != core::V3)
    return base::failConfig(joinPath(path, "transport_api_version"), "must be V3");
  if (message.grpc_services_size() != 1)
    return base::failConfig(joinPath(path, "grpc_services"), "must have exactly one member");
  const auto& service = message.grpc_services(0);
  const std::string at = joinPath(path, "grpc_services", 0);
  if (service.envoy_grpc().cluster_name().empty())
    return base::failConfig(joinPath(at, "envoy_grpc.cluster_name"), "must not be empty");
  out.cluster = service.envoy_grpc().cluster_name();
  out.authority = service.envoy_grpc().authority();
  if (out.authority.empty()) out.authority = out.cluster;
  if (service.envoy_grpc().has_max_receive_message_length())
    out.message_bytes_max = service.envoy_grpc().max_receive_message_length().value();
  out.client.node_in_each_request = !message.set_node_on_first_message_only();
  for (const auto& header : service.initial_metadata())
    out.client.metadata.add(header.key(), header.value());
  return out;
}

xds::NodeInfo readNode(const core::Node& node) {
  xds::NodeInfo out;
  out.id = node.id();
  out.cluster = node.cluster();
  out.region = node.locality().region();
  out.zone = node.locality().zone();
  out.sub_zone = node.locality().sub_zone();
  out.metadata_json = json::dump(api::toJson(node.metadata()));
  return out;
}

}  // namespace

base::ConfigResult<BootstrapValues> readBootstrap(const boot::Bootstrap& bootstrap) {
  BootstrapValues out;
  POSTERN_TRY_VOID(checkHonoured(bootstrap, "", Door::kBootstrap));
  if (bootstrap.admin().has_address()) {
    POSTERN_TRY(out.admin, readAddress(bootstrap.admin().address(), "admin.address"));
  }
  BuildErrors errors;
  for (int i = 0; i < bootstrap.admin().allow_paths_size(); ++i) {
    out.admin_paths.push_back(readString(bootstrap.admin().allow_paths(i),
                                         Place("admin", errors).item("allow_paths", i)));
  }
  if (errors.failed()) return std::unexpected(errors.error());
  const auto& dynamic = bootstrap.dynamic_resources();
  if (dynamic.has_ads_config()) {
    const std::string at = "dynamic_resources.ads_config";
    POSTERN_TRY(out.ads, readAds(dynamic.ads_config(), at));
    bool found = false;
    for (const auto& cluster : bootstrap.static_resources().clusters())
      found = found || cluster.name() == out.ads->cluster;
    if (!found) {
      return base::failConfig(at + ".grpc_services[0].envoy_grpc.cluster_name",
                              "there is no static cluster \"" + out.ads->cluster + "\"");
    }
  }
  const auto timeout =
      [&](const core::ConfigSource& source,
          const std::string& path) -> base::ConfigResult<std::chrono::milliseconds> {
    POSTERN_TRY(const DiscoverySource read, readSource(source, path));
    if (!out.ads) return base::failConfig("dynamic_resources.ads_config", "is required by " + path);
    return read.initial_fetch_timeout;
  };
  if (dynamic.has_cds_config()) {
    POSTERN_TRY(out.clusters_timeout,
                timeout(dynamic.cds_config(), "dynamic_resources.cds_config"));
  }
  if (dynamic.has_lds_config()) {
    POSTERN_TRY(out.listeners_timeout,
                timeout(dynamic.lds_config(), "dynamic_resources.lds_config"));
  }
  for (const auto& layer : bootstrap.layered_runtime().layers())
    readRuntime("", layer.static_layer(), out);
  if (bootstrap.has_overload_manager()) {
    POSTERN_TRY(out.overload, readOverload(bootstrap.overload_manager(), "overload_manager"));
    if (out.overload.connections_max != 0) out.connections_max = out.overload.connections_max;
  }
  out.node = readNode(bootstrap.node());
  return out;
}

}  // namespace postern::proxy
