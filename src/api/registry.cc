// The types that may appear inside an Any. Naming each one here also keeps its code in the program.
#include "api/registry.h"

#include "api/message.h"
#include "envoy/admin/v3/config_dump.pb.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/overload/v3/overload.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb.h"
#include "envoy/extensions/filters/http/cors/v3/cors.pb.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb.h"
#include "envoy/extensions/filters/http/grpc_stats/v3/config.pb.h"
#include "envoy/extensions/filters/http/router/v3/router.pb.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb.h"
#include "envoy/extensions/filters/network/connection_limit/v3/connection_limit.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "envoy/extensions/filters/udp/udp_proxy/v3/route.pb.h"
#include "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.pb.h"
#include "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.pb.h"
#include "envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case.pb.h"
#include "envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header.pb.h"
#include "envoy/extensions/http/original_ip_detection/xff/v3/xff.pb.h"
#include "envoy/extensions/request_id/uuid/v3/uuid.pb.h"
#include "envoy/extensions/resource_monitors/cgroup_memory/v3/cgroup_memory.pb.h"
#include "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.pb.h"
#include "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.pb.h"
#include "envoy/extensions/resource_monitors/injected_resource/v3/injected_resource.pb.h"
#include "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.pb.h"
#include "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.pb.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb.h"
#include "google/protobuf/arena.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/wrappers.pb.h"

#include <map>
#include <vector>

namespace postern::api {
namespace {

using google::protobuf::Message;
using Registry = std::map<std::string, const Message*, std::less<>>;

template <class... Types>
Registry registryOf() {
  Registry out;
  (out.emplace(Types::descriptor()->full_name(), &Types::default_instance()), ...);
  return out;
}

const Registry& registry() {
  namespace ext = envoy::extensions;
  namespace conf = envoy::config;
  static const Registry instance = registryOf<
      conf::bootstrap::v3::Bootstrap, conf::cluster::v3::Cluster,
      conf::endpoint::v3::ClusterLoadAssignment, conf::listener::v3::Listener,
      conf::route::v3::RouteConfiguration, conf::overload::v3::ScaleTimersOverloadActionConfig,
      conf::overload::v3::ShrinkHeapConfig,
      ext::resource_monitors::cgroup_memory::v3::CgroupMemoryConfig,
      ext::resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig,
      ext::resource_monitors::fixed_heap::v3::FixedHeapConfig,
      ext::resource_monitors::injected_resource::v3::InjectedResourceConfig,
      envoy::admin::v3::ConfigDump, envoy::admin::v3::BootstrapConfigDump,
      envoy::admin::v3::ListenersConfigDump, envoy::admin::v3::ClustersConfigDump,
      envoy::admin::v3::RoutesConfigDump, envoy::admin::v3::EndpointsConfigDump,
      envoy::admin::v3::SecretsConfigDump, ext::access_loggers::file::v3::FileAccessLog,
      ext::access_loggers::stream::v3::StdoutAccessLog,
      ext::access_loggers::stream::v3::StderrAccessLog, ext::filters::http::cors::v3::Cors,
      ext::filters::http::cors::v3::CorsPolicy, ext::filters::http::fault::v3::HTTPFault,
      ext::filters::http::grpc_stats::v3::FilterConfig, ext::filters::http::router::v3::Router,
      ext::filters::listener::http_inspector::v3::HttpInspector,
      ext::filters::listener::original_dst::v3::OriginalDst,
      ext::filters::listener::proxy_protocol::v3::ProxyProtocol,
      ext::filters::listener::tls_inspector::v3::TlsInspector,
      ext::filters::network::connection_limit::v3::ConnectionLimit,
      ext::filters::network::http_connection_manager::v3::HttpConnectionManager,
      ext::filters::network::sni_cluster::v3::SniCluster,
      ext::filters::network::tcp_proxy::v3::TcpProxy, ext::filters::udp::udp_proxy::v3::Route,
      ext::filters::udp::udp_proxy::v3::UdpProxyConfig,
      ext::http::early_header_mutation::header_mutation::v3::HeaderMutation,
      ext::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
      ext::http::original_ip_detection::custom_header::v3::CustomHeaderConfig,
      ext::http::original_ip_detection::xff::v3::XffConfig,
      ext::request_id::uuid::v3::UuidRequestIdConfig,
      ext::retry::host::previous_hosts::v3::PreviousHostsPredicate,
      ext::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport,
      ext::transport_sockets::raw_buffer::v3::RawBuffer,
      ext::transport_sockets::tls::v3::DownstreamTlsContext,
      ext::transport_sockets::tls::v3::UpstreamTlsContext, ext::transport_sockets::tls::v3::Secret,
      ext::upstreams::http::v3::HttpProtocolOptions, google::protobuf::Struct,
      google::protobuf::StringValue>();
  return instance;
}

}  // namespace

namespace {

const Message* prototypeOf(std::string_view type_url) {
  const auto slash = type_url.rfind('/');
  if (slash != std::string_view::npos) type_url.remove_prefix(slash + 1);
  const auto found = registry().find(type_url);
  return found == registry().end() ? nullptr : found->second;
}

}  // namespace

std::unique_ptr<Message> makeMessage(std::string_view type_url) {
  const Message* prototype = prototypeOf(type_url);
  return prototype == nullptr ? nullptr : std::unique_ptr<Message>(prototype->New());
}

Message* makeMessage(std::string_view type_url, google::protobuf::Arena& arena) {
  const Message* prototype = prototypeOf(type_url);
  return prototype == nullptr ? nullptr : prototype->New(&arena);
}

std::vector<std::string_view> knownTypes() {
  std::vector<std::string_view> out;
  for (const auto& [name, instance] : registry()) out.emplace_back(name);
  return out;
}

}  // namespace postern::api
