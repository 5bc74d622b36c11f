// The serving side of delta ADS: keeps what each connection subscribed to and what it holds, and
// sends only differences, one unacknowledged response per type. Resources come from a
// ResourceSource. All on one loop; the source must outlive the server.
#pragma once

#include "http/grpc.h"
#include "xds/types.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::xds {

struct ServedResource {
  std::string name;
  std::string version;
  std::string bytes;  // the serialized message, without Any
};

class ResourceSource {
 public:
  using ProxyId = std::uint64_t;
  virtual ~ResourceSource() = default;
  /// A proxy presented itself; an error refuses the connection.
  virtual base::ConfigResult<ProxyId> connected(const NodeInfo& node,
                                                const net::PeerInfo& peer) = 0;
  virtual void disconnected(ProxyId proxy) = 0;
  /// Everything this proxy may have of a type.
  virtual std::vector<ServedResource> resources(ProxyId proxy, std::string_view type_url) = 0;
  /// The proxy accepted (empty error) or refused a response.
  virtual void acknowledged(ProxyId proxy, std::string_view type_url, std::string_view error) = 0;
};

class Server {
 public:
  explicit Server(ResourceSource& source);
  ~Server();
  /// Adds the ADS method.
  void registerAt(http::GrpcServer& server);
  /// One call; for registerAt and for tests with streams of their own.
  http::GrpcCallbacks accept(std::unique_ptr<http::GrpcStream> stream);
  /// The source has other resources for this proxy: sends what is different of what it subscribed.
  void changed(ResourceSource::ProxyId proxy);
  std::size_t connections() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace postern::xds
