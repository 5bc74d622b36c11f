// Wherever a configuration holds a message of a type of its own choice (Any), one that means
// nothing there is refused by the path of the place.
#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "proxy/bootstrap.h"
#include "proxy/config_build.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace postern::proxy {
namespace {

using nlohmann::json;

json any(const std::string& type, json fields = json::object()) {
  fields["@type"] = "type.googleapis.com/envoy." + type;
  return fields;
}
json held(const std::string& type, json fields = json::object()) {
  return {{"name", "x"}, {"typed_config", any(type, std::move(fields))}};
}
json addressBy(const char* protocol = "TCP") {
  return {
      {"socket_address", {{"address", "127.0.0.1"}, {"port_value", 0}, {"protocol", protocol}}}};
}

constexpr const char* kHttpFilters = "extensions.filters.http.";
constexpr const char* kNetwork = "extensions.filters.network.";

json listener() {
  const std::string http = kHttpFilters;
  json retry = {{"retry_host_predicate",
                 {held("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}}};
  json weight = {{"name", "c"}, {"weight", 1}};
  json route = {
      {"match", {{"prefix", "/"}}},
      {"route", {{"retry_policy", retry}, {"weighted_clusters", {{"clusters", {weight}}}}}}};
  json host = {{"name", "v"}, {"domains", {"*"}}, {"routes", json::array({route})}};
  json log = held("extensions.access_loggers.file.v3.FileAccessLog", {{"path", "/dev/null"}});
  json manager =
      held(std::string(kNetwork) + "http_connection_manager.v3.HttpConnectionManager",
           {{"stat_prefix", "s"},
            {"access_log", {log}},
            {"request_id_extension",
             {{"typed_config", any("extensions.request_id.uuid.v3.UuidRequestIdConfig")}}},
            {"original_ip_detection_extensions",
             {held("extensions.http.original_ip_detection.xff.v3.XffConfig")}},
            {"early_header_mutation_extensions",
             {held("extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation")}},
            {"http_protocol_options",
             {{"header_key_format",
               {{"stateful_formatter", held("extensions.http.header_formatters.preserve_case.v3."
                                            "PreserveCaseFormatterConfig")}}}}},
            {"route_config", {{"name", "r"}, {"virtual_hosts", json::array({host})}}},
            {"http_filters", {held(http + "cors.v3.Cors"), held(http + "router.v3.Router")}}});
  json chain = {{"filters", json::array({manager})},
                {"transport_socket", held("extensions.transport_sockets.raw_buffer.v3.RawBuffer")}};
  return {
      {"name", "l"},
      {"address", addressBy()},
      {"access_log", {log}},
      {"listener_filters", {held("extensions.filters.listener.http_inspector.v3.HttpInspector")}},
      {"filter_chains", json::array({chain})}};
}

json udpListener() {
  json action = held("extensions.filters.udp.udp_proxy.v3.Route", {{"cluster", "c"}});
  json proxy = held("extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
                    {{"stat_prefix", "s"}, {"matcher", {{"on_no_match", {{"action", action}}}}}});
  return {{"name", "u"}, {"address", addressBy("UDP")}, {"listener_filters", json::array({proxy})}};
}

constexpr const char* kOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

json cluster() {
  const json raw = held("extensions.transport_sockets.raw_buffer.v3.RawBuffer");
  json header =
      held("extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
           {{"transport_socket", raw}});
  json match = {{"name", "m"}, {"match", json::object()}, {"transport_socket", raw}};
  json options = any("extensions.upstreams.http.v3.HttpProtocolOptions",
                     {{"explicit_http_config", {{"http_protocol_options", json::object()}}}});
  return {{"name", "c"},
          {"type", "STATIC"},
          {"transport_socket", header},
          {"transport_socket_matches", json::array({match})},
          {"typed_extension_protocol_options", {{kOptions, options}}}};
}

json wholeBootstrap() {
  json monitor = held("extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                      {{"max_heap_size_bytes", 1}});
  json trigger = {{"name", "x"}, {"threshold", {{"value", 0.5}}}};
  json shrink = {{"name", "envoy.overload_actions.shrink_heap"},
                 {"triggers", json::array({trigger})},
                 {"typed_config", any("config.overload.v3.ShrinkHeapConfig")}};
  return {{"overload_manager",
           {{"resource_monitors", json::array({monitor})}, {"actions", json::array({shrink})}}}};
}

template <class T>
std::string placeError(const json& value, const auto& build) {
  T message;
  const auto read = api::fromJson(value, message);
  EXPECT_TRUE(read) << read.error().message();
  const auto built = build(message);
  return built ? std::string() : built.error().message();
}

std::string listenerError(const json& value) {
  return placeError<envoy::config::listener::v3::Listener>(
      value, [](const auto& message) { return buildListener(message, ""); });
}
std::string clusterError(const json& value) {
  return placeError<envoy::config::cluster::v3::Cluster>(
      value, [](const auto& message) { return buildCluster(message, ""); });
}
std::string bootstrapError(const json& value) {
  return placeError<envoy::config::bootstrap::v3::Bootstrap>(
      value, [](const auto& message) { return readBootstrap(message); });
}

/// "a.b[0].c" of "/a/b/0/c".
std::string fieldPath(const std::string& pointer) {
  std::string out;
  std::size_t at = 0;
  while (at < pointer.size()) {
    const std::size_t next = std::min(pointer.find('/', at + 1), pointer.size());
    const std::string part = pointer.substr(at + 1, next - at - 1);
    const bool index = part.find_first_not_of("0123456789") == std::string::npos;
    if (index) {
      out += "[" + part + "]";
    } else {
      out += (out.empty() ? "" : ".") + part;
    }
    at = next;
  }
  return out;
}

void expectRefusedAt(const json& base, const std::vector<std::string>& pointers,
                     std::string (*error)(const json&)) {
  ASSERT_EQ(error(base), "");
  for (const std::string& pointer : pointers) {
    json changed = base;
    const bool logs = pointer.find("access_log") != std::string::npos;
    changed[json::json_pointer(pointer)] =
        any(logs ? std::string(kHttpFilters) + "cors.v3.Cors"
                 : "extensions.access_loggers.stream.v3.StdoutAccessLog");
    // A map's key is told in brackets; what stands before it is enough here.
    const std::string found = error(changed);
    const std::size_t map = pointer.find("/typed_per_filter_config/");
    EXPECT_EQ(found.find(fieldPath(pointer.substr(0, map))), 0U) << pointer << ": " << found;
  }
}

TEST(ExtensionPlaces, OfListenersRefuseWhatTheyCannotHold) {
  const std::string manager = "/filter_chains/0/filters/0/typed_config";
  const std::string host = manager + "/route_config/virtual_hosts/0";
  const std::string action = host + "/routes/0/route";
  const std::string per_filter = "/typed_per_filter_config/x";
  expectRefusedAt(
      listener(),
      {manager, "/access_log/0/typed_config", "/listener_filters/0/typed_config",
       "/filter_chains/0/transport_socket/typed_config", manager + "/access_log/0/typed_config",
       manager + "/http_filters/0/typed_config", manager + "/request_id_extension/typed_config",
       manager + "/original_ip_detection_extensions/0/typed_config",
       manager + "/early_header_mutation_extensions/0/typed_config",
       manager + "/http_protocol_options/header_key_format/stateful_formatter/typed_config",
       manager + "/route_config" + per_filter, host + per_filter, host + "/routes/0" + per_filter,
       action + "/weighted_clusters/clusters/0" + per_filter,
       action + "/retry_policy/retry_host_predicate/0/typed_config"},
      listenerError);
  expectRefusedAt(udpListener(),
                  {"/listener_filters/0/typed_config",
                   "/listener_filters/0/typed_config/matcher/on_no_match/action/typed_config"},
                  listenerError);
}

TEST(ExtensionPlaces, OfClustersRefuseWhatTheyCannotHold) {
  expectRefusedAt(cluster(),
                  {"/transport_socket/typed_config",
                   "/transport_socket/typed_config/transport_socket/typed_config",
                   "/transport_socket_matches/0/transport_socket/typed_config"},
                  clusterError);
  json changed = cluster();
  changed["typed_extension_protocol_options"][kOptions] =
      any("extensions.filters.http.cors.v3.Cors");
  EXPECT_EQ(clusterError(changed), std::string("typed_extension_protocol_options[") + kOptions +
                                       "]: must be a " + kOptions);
}

TEST(ExtensionPlaces, OfTheBootstrapRefuseWhatTheyCannotHold) {
  expectRefusedAt(wholeBootstrap(),
                  {"/overload_manager/resource_monitors/0/typed_config",
                   "/overload_manager/actions/0/typed_config"},
                  bootstrapError);
}

}  // namespace
}  // namespace postern::proxy
