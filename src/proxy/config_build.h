// From Envoy's messages to the values of config.h. Errors name the full path of a field, which
// begins with `path`. buildListener, buildCluster and buildAssignment refuse fields that are not
// honoured (honoured_fields.h). Main thread; the results are immutable.
#pragma once

#include "base/error.h"
#include "proxy/config.h"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace google::protobuf {
class Any;
class Duration;
class Message;
}  // namespace google::protobuf
namespace envoy::config::cluster::v3 {
class Cluster;
}
namespace envoy::config::core::v3 {
class Address;
class ConfigSource;
class ProxyProtocolPassThroughTLVs;
class SocketAddress;
}  // namespace envoy::config::core::v3
namespace envoy::config::endpoint::v3 {
class ClusterLoadAssignment;
}
namespace envoy::config::listener::v3 {
class Listener;
}
namespace envoy::extensions::filters::network::tcp_proxy::v3 {
class TcpProxy;
}

namespace postern::proxy {

base::ConfigResult<std::shared_ptr<const Listener>> buildListener(
    const envoy::config::listener::v3::Listener& message, std::string_view path);

base::ConfigResult<std::shared_ptr<const Cluster>> buildCluster(
    const envoy::config::cluster::v3::Cluster& message, std::string_view path);

/// The HTTP side of a cluster (config_upstream_http.cc); sets only these members of `out`.
base::ConfigResult<void> readUpstreamHttp(const envoy::config::cluster::v3::Cluster& message,
                                          std::string_view path, Cluster& out);

/// Endpoints of EDS: addresses, no names.
base::ConfigResult<LoadAssignment> buildAssignment(
    const envoy::config::endpoint::v3::ClusterLoadAssignment& message, std::string_view path);

/// Addresses, and what the sockets bound to them are like.
base::ConfigResult<void> readListenerSockets(const envoy::config::listener::v3::Listener& message,
                                             std::string_view path, Listener& out);

/// What a listener with a UDP address does.
base::ConfigResult<UdpProxy> readUdpProxy(const envoy::config::listener::v3::Listener& message,
                                          std::string_view path);

/// The listener filters, with the one that use_original_dst implies.
base::ConfigResult<void> readListenerFilters(const envoy::config::listener::v3::Listener& message,
                                             std::string_view path, Listener& out);

base::ConfigResult<TcpProxy> buildTcpProxy(
    const envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy& message,
    std::string_view path);

// ---- shared by the builders ----

/// Which TLVs of a PROXY header go on.
base::ConfigResult<ProxyTlvChoice> readTlvChoice(
    const envoy::config::core::v3::ProxyProtocolPassThroughTLVs& message, std::string_view path);

/// An IP address or a pipe.
base::ConfigResult<net::Address> readAddress(const envoy::config::core::v3::Address& message,
                                             std::string_view path);
/// A port that may be 0.
base::ConfigResult<net::Address> readSocketAddress(
    const envoy::config::core::v3::SocketAddress& message, std::string_view path);

/// As toMilliseconds().
base::ConfigResult<std::chrono::milliseconds> readDuration(
    const google::protobuf::Duration& message, std::string_view path);

/// How a resource is discovered: only ADS.
struct DiscoverySource {
  std::chrono::milliseconds initial_fetch_timeout{15000};  // 0: for ever
};
base::ConfigResult<DiscoverySource> readSource(const envoy::config::core::v3::ConfigSource& message,
                                               std::string_view path);

/// Unpacks by the registry of known types; the error has the path of @type.
base::ConfigResult<std::unique_ptr<google::protobuf::Message>> unpackKnown(
    const google::protobuf::Any& any, std::string_view path);

}  // namespace postern::proxy
