// The small messages that the builders share.
#include "api/message.h"
#include "config/supported.h"
#include "envoy/config/core/v3/address.pb.h"
#include "envoy/config/core/v3/config_source.pb.h"
#include "proxy/config_build.h"
#include "proxy/proto_fields.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>

#include <limits>

namespace postern::proxy {

namespace core = envoy::config::core::v3;
using config::joinPath;

base::ConfigResult<std::unique_ptr<google::protobuf::Message>> unpackKnown(
    const google::protobuf::Any& any, std::string_view path) {
  auto message = api::unpack(any);
  if (message) return message;
  const std::string_view url = any.type_url();
  const std::string at = joinPath(path, "@type");
  if (url.empty()) return base::failConfig(at, "is required");
  if (api::makeMessage(url) == nullptr) {
    return base::failConfig(at, "\"" + std::string(url) + "\" is not supported");
  }
  return base::failConfig(std::string(path), "is malformed");
}

base::ConfigResult<net::Address> readSocketAddress(const core::SocketAddress& message,
                                                   std::string_view path) {
  if (message.protocol() != core::SocketAddress::TCP)
    return base::failConfig(joinPath(path, "protocol"), "only TCP is supported");
  if (message.port_value() > std::numeric_limits<std::uint16_t>::max())
    return base::failConfig(joinPath(path, "port_value"), "must be at most 65535");
  if (message.address().empty())
    return base::failConfig(joinPath(path, "address"), "must not be empty");
  const auto address =
      net::Address::fromIp(message.address(), static_cast<std::uint16_t>(message.port_value()));
  if (!address) {
    return base::failConfig(joinPath(path, "address"),
                            "malformed IP address: " + message.address());
  }
  return *address;
}

base::ConfigResult<net::Address> readAddress(const core::Address& message, std::string_view path) {
  constexpr std::size_t kPathBytesMax = sizeof(sockaddr_un{}.sun_path) - 1;
  switch (message.address_case()) {
    case core::Address::kSocketAddress:
      return readSocketAddress(message.socket_address(), joinPath(path, "socket_address"));
    case core::Address::kPipe:
      if (message.pipe().path().empty() || message.pipe().path().size() > kPathBytesMax) {
        return base::failConfig(joinPath(path, "pipe.path"),
                                "must have 1 to " + std::to_string(kPathBytesMax) + " characters");
      }
      return net::Address::unixPath(message.pipe().path());
    default:
      return base::failConfig(std::string(path), "must hold a socket_address or a pipe");
  }
}

base::ConfigResult<std::chrono::milliseconds> readDuration(
    const google::protobuf::Duration& message, std::string_view path) {
  const auto out = toMilliseconds(message);
  if (!out) return base::failConfig(std::string(path), out.error().text);
  return *out;
}

base::ConfigResult<DiscoverySource> readSource(const core::ConfigSource& message,
                                               std::string_view path) {
  DiscoverySource out;
  if (!message.has_ads()) return base::failConfig(std::string(path), "must be ads");
  if (message.resource_api_version() == core::V2)
    return base::failConfig(joinPath(path, "resource_api_version"), "must be V3");
  if (message.has_initial_fetch_timeout()) {
    POSTERN_TRY(out.initial_fetch_timeout, readDuration(message.initial_fetch_timeout(),
                                                        joinPath(path, "initial_fetch_timeout")));
  }
  return out;
}

}  // namespace postern::proxy
